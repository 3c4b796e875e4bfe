import { createHash } from 'node:crypto';
import { messageOf, isCode, MusterError } from '../kit/errors.js';
import { explainFullDisk } from '../kit/files.js';
import { uncompressed } from './gunzip.js';
import type { RestoreTreeJob, VerifyTreeJob } from './jobs.js';
import { BACKUP_LIMITS } from './limits.js';
import { shown } from './names.js';
import { syncTree } from './sync.js';
import { TarReader } from './tar-reader.js';
import { TreeReader, type TreeTarget } from './tree-read.js';
import { Restored } from './tree-restore.js';
import { partsOf } from './tree-selection.js';

/** Reading backups. For a worker thread. */

export interface VerifiedTree {
  readonly files: number;
  readonly contentBytes: number;
  /** Why the archive is not what its manifest says, one sentence each, at most TREE_PROBLEMS_MAX; none: every file's hash was compared and is right. */
  readonly problems: readonly string[];
}

export interface RestoredTree {
  readonly files: number;
  readonly contentBytes: number;
}

const NOWHERE: TreeTarget = {
  entry: () => undefined,
  data: () => undefined,
  fileEnd: () => undefined,
  leave: () => undefined,
};

export async function verifyTreeHere({ path, digest }: VerifyTreeJob): Promise<VerifiedTree> {
  const reader = new TreeReader(NOWHERE);
  const hash = createHash('sha256');
  try {
    await readTree(path, reader, (bytes) => hash.update(bytes));
  } catch (error) {
    // There is nothing to verify; anything else is what a verify looks for.
    if (isCode(error, 'not_found')) throw error;
    reader.problems.add(messageOf(error));
  }
  if (digest !== undefined && !reader.problems.any && hash.digest('hex') !== digest) {
    reader.problems.add(`the archive is another one: its SHA-256 is not ${digest}`);
  }
  return { files: reader.files, contentBytes: reader.contentBytes, problems: reader.problems.list() };
}

export async function restoreTreeHere({ path, into, paths, owner }: RestoreTreeJob): Promise<RestoredTree> {
  const restored = new Restored(into, { paths: paths.map((one) => partsOf(one).join('/')), owner });
  const reader = new TreeReader(restored);
  try {
    await readTree(path, reader, () => undefined);
    const [problem] = reader.problems.list();
    if (problem !== undefined)
      throw new MusterError('data_loss', `the backup is damaged, and nothing was restored: ${problem}`);
    checkFound(restored.missing);
    await syncTree(into, reader.entries);
  } catch (error) {
    throw asDamage(explainFullDisk(error, into));
  } finally {
    restored.close();
  }
  return { files: restored.files, contentBytes: restored.contentBytes };
}

async function readTree(path: string, reader: TreeReader, onCompressed: (bytes: Buffer) => void): Promise<void> {
  const tar = new TarReader(reader);
  for await (const piece of uncompressed(path, BACKUP_LIMITS, { onCompressed })) tar.push(piece);
  tar.end();
  reader.end();
}

function checkFound([missing]: readonly string[]): void {
  if (missing === undefined) return;
  throw new MusterError(
    'not_found',
    `the backup has no ${shown(missing)}: name paths as the backup does, relative to its root`,
  );
}

function asDamage(error: unknown): unknown {
  if (!isCode(error, 'invalid')) return error;
  return new MusterError('data_loss', `the backup is damaged, and nothing was restored: ${error.message}`, {
    cause: error,
  });
}
