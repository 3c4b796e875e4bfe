import { KeyedMutex } from '../../kit/tasks.js';
import { Documents } from '../../store/documents.js';
import type { DeployedRelease, ServiceState } from '../../model/instance.js';
import type { Store } from '../../store/port.js';
import type { Exit } from './driver.js';
import type { Tries } from './state.js';

/** What the agent must remember of an instance across its own restarts. */
export interface InstanceRecord {
  readonly wanted: boolean;
  /** The manifest it was last run by, to be able to stop it when its manifest is gone. */
  readonly manifestText: string;
  /** Absolute directory of its release, or of a manifest file in a folder of its own; empty otherwise. */
  readonly folder: string;
  /**
   * Path of its manifest below the services directory, by which a file that is broken is still known as its own. Of a deployed service: of
   * the manifest it was run by before.
   */
  readonly file?: string;
  /** Set while it is run from a release; only a deploy changes that. */
  readonly release?: DeployedRelease;
  /** Set for a service assigned by the center. */
  readonly assigned?: AssignedRecord;
  /** It ended, was given up or was stopped by others, and is not to be started again by itself during this boot. */
  readonly rest?: { readonly state: 'EXITED' | 'STOPPED' | 'FATAL'; readonly reason: string; readonly bootId: string };
  /** As of the last change of its state. */
  readonly life?: LifeRecord;
  /** The last start by the process driver. */
  readonly start?: StartRecord;
}

export interface AssignedRecord {
  readonly generation: number;
  /** The center took it back, and the service has not ended yet. */
  readonly removed?: true;
  /** The manifest of the assignment, where the service is not run by it: it is run from a release, or was held by a deploy as this came. */
  readonly manifestText?: string;
}

/** What the next agent of the same boot goes on from. Times are wall-clock milliseconds. */
export interface LifeRecord {
  readonly bootId: string;
  readonly at: ServiceState;
  readonly sinceMs: number;
  readonly startedMs?: number;
  /** 0 where nothing ran, or was still being launched. */
  readonly pid: number;
  readonly reason: string;
  readonly tries: Tries;
  readonly exit?: Exit;
}

/**
 * A start, written and synced before the process exists. It carries `id` in its environment, so that a process whose agent died before
 * writing `process` can still be found. pid alone is never believed: it is reused.
 */
export interface StartRecord {
  readonly id: string;
  readonly bootId: string;
  /** Wall-clock milliseconds. */
  readonly atMs: number;
  readonly process?: { readonly pid: number; readonly startTicks: number };
}

/** The record without a start that came to nothing. */
export function withoutStart(record: InstanceRecord): InstanceRecord {
  const { start, ...others } = record;
  return start ? others : record;
}

/** The record of one that somebody asked to run or to stop: whatever rested before is over. */
export function asked(record: InstanceRecord, wanted: boolean): InstanceRecord {
  return { ...withoutRest(record), wanted };
}

/** The record with another manifest, by which what was given up is tried again. */
export function withManifest(
  record: InstanceRecord | undefined,
  { manifestText, folder, file = '' }: Pick<InstanceRecord, 'manifestText' | 'folder' | 'file'>,
): InstanceRecord {
  if (!record) return { wanted: true, manifestText, folder, file };
  const same = record.manifestText === manifestText && record.folder === folder;
  if (same && record.file === file) return record;
  const kept = !same && record.rest?.state === 'FATAL' ? withoutRest(record) : record;
  return { ...kept, manifestText, folder, file };
}

/** The record of one that is run from a release from now on, or, without one, by what it was run by before. */
export function withSource(
  record: InstanceRecord | undefined,
  { manifestText, folder, release }: Pick<InstanceRecord, 'manifestText' | 'folder'> & SourceRelease,
): InstanceRecord {
  if (!record) return { wanted: true, manifestText, folder, ...(release ? { release } : {}) };
  const { release: before, assigned, ...others } = withoutRest(record);
  return {
    ...others,
    manifestText,
    folder,
    ...(release ? { release } : {}),
    ...(assigned
      ? {
          assigned: assignedBeside(assigned, {
            was: before ? '' : record.manifestText,
            is: release ? '' : manifestText,
          }),
        }
      : {}),
  };
}

interface SourceRelease {
  readonly release: DeployedRelease | undefined;
}

/** What an assignment said is kept while a release is run in its place. `was` and `is`: what is run by no release, before and now. */
function assignedBeside(
  assigned: AssignedRecord,
  { was, is }: { readonly was: string; readonly is: string },
): AssignedRecord {
  const { manifestText = was, ...rest } = assigned;
  return manifestText === '' || manifestText === is ? rest : { ...rest, manifestText };
}

/** The record without what a deploy made of it: run by its assignment; undefined where it has none. */
export function withoutRelease(record: InstanceRecord | undefined): InstanceRecord | undefined {
  const text = record?.assigned?.removed === true ? undefined : record?.assigned?.manifestText;
  if (!record || text === undefined) return undefined;
  return byAssignment(withoutRest(record));
}

function withoutReleaseItself(record: InstanceRecord): InstanceRecord {
  const { release, ...others } = record;
  return release ? others : record;
}

/** The record of one that is run by what the center assigned last. */
export function byAssignment(record: InstanceRecord): InstanceRecord {
  if (record.assigned?.manifestText === undefined) return record;
  const { manifestText, ...assigned } = record.assigned;
  return { ...withoutReleaseItself(record), manifestText, folder: '', assigned };
}

/** The record after a change of its state. */
export function withLife(record: InstanceRecord, life: LifeRecord, rest: InstanceRecord['rest']): InstanceRecord {
  return { ...withoutRest(record), life, ...(rest ? { rest } : {}) };
}

function withoutRest(record: InstanceRecord): InstanceRecord {
  const { rest, ...others } = record;
  return rest ? others : record;
}

/** The records, in memory and on disk. A change is seen by get() only once it is durable. */
export class InstanceRecords {
  readonly #documents: Documents<InstanceRecord>;
  readonly #records = new Map<string, InstanceRecord>();
  readonly #writing = new KeyedMutex();

  constructor(store: Store) {
    this.#documents = new Documents<InstanceRecord>(store, 'instance/');
  }

  /** Reads all; call once before anything else. @throws as Documents.list */
  async load(): Promise<void> {
    for await (const { id, value } of this.#documents.list()) this.#records.set(id, value);
  }

  get(service: string): InstanceRecord | undefined {
    return this.#records.get(service);
  }

  all(): ReadonlyMap<string, InstanceRecord> {
    return this.#records;
  }

  /**
   * Changes a record, in the order asked; resolves once durable. Without a change nothing is written.
   * @throws as Store.write; the record is then as it was
   */
  async update(
    service: string,
    change: (current: InstanceRecord | undefined) => InstanceRecord | undefined,
  ): Promise<void> {
    await this.#writing.run(service, async () => {
      const current = this.#records.get(service);
      const next = change(current);
      if (next === current) return;
      if (next) {
        await this.#documents.put(service, next);
        this.#records.set(service, next);
      } else {
        await this.#documents.delete(service);
        this.#records.delete(service);
      }
    });
  }

  /** Changes a record that must be there; where it is not, nothing happens. */
  async amend(service: string, change: (current: InstanceRecord) => InstanceRecord): Promise<void> {
    await this.update(service, (current) => current && change(current));
  }
}
