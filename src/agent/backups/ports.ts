import type { restoreTree, verifyTree, writeTree } from '../../archive/tree.js';
import type { BackupCopy } from '../../model/backup.js';
import type { ManifestBackup } from '../../model/manifest-types.js';
import type { BackupRecord } from './records.js';

/** What backups ask of the rest of the agent; main.ts joins them. */

/** A service, as far as its backups go. */
export interface BackedUpService {
  readonly service: string;
  readonly version: string;
  /** Undefined: its manifest has no backup section. */
  readonly policy: ManifestBackup | undefined;
  /** Versions that it can be rolled back to without fetching them. */
  readonly heldVersions: readonly string[];
}

export interface BackedUpServices {
  list(): readonly BackedUpService[];
  /** @throws not_found naming the nearest service */
  get(service: string): BackedUpService;
  /** Calls `listener` when any of it may have changed. Returns how to stop. */
  onChange(listener: () => void): () => void;
}

/** src/archive/tree.ts. */
export interface Trees {
  readonly writeTree: typeof writeTree;
  readonly verifyTree: typeof verifyTree;
  readonly restoreTree: typeof restoreTree;
}

/** A place off the machine that keeps copies. */
export interface CopyPlace {
  readonly kind: BackupCopy;
  /** Whether `copy`, one of Backup.copies, is in this place. */
  has(copy: string): boolean;
  /** Resolves with the name of the copy, for Backup.copies, once it is kept. @throws why it is not */
  store(record: BackupRecord, archive: string, signal: AbortSignal): Promise<string>;
  /** Writes the copy as a new file. @throws not_found; why it cannot be had */
  fetch(record: BackupRecord, into: string, signal: AbortSignal): Promise<void>;
  /** Its record is about to go. What is not there is fine. */
  remove(record: BackupRecord, signal: AbortSignal): Promise<void>;
}
