import { runJob } from './jobs.js';
import type { RestoredTree, VerifiedTree } from './tree-jobs.js';
import { Selection } from './tree-selection.js';
import type { WrittenTree } from './tree-write.js';
import { intoNew, ontoNew } from './unpack.js';

/** Backup archives: a tree of files with a manifest of every file's hash. The format is docs/backup-format.md. */

export interface TreeSource {
  /** Absolute. Everything in the archive is named below it. */
  readonly root: string;
  /** Files and directories to keep, relative to `root`; `.` is all of it. None may lead outside, links included. */
  readonly paths: readonly string[];
  /** What to leave out: globs where `*` is any characters of one name and `**` any of a path; one without a `/` is matched with every name. */
  readonly exclude: readonly string[];
}

export type { WrittenTree } from './tree-write.js';
export type { RestoredTree, VerifiedTree } from './tree-jobs.js';

export interface TreeOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes a backup of `source` as a new file `out`, fsynced; on failure there is none. Bounded memory whatever the sizes. Files that change while
 * they are read are in it as they were read, and are a problem; so are those that cannot be read, which are not in it.
 * @throws exists when `out` is there, invalid for paths that lead outside, exhausted on a full disk, the signal's reason
 */
export async function writeTree(source: TreeSource, out: string, { signal }: TreeOptions = {}): Promise<WrittenTree> {
  Selection.of(source.paths);
  const { root, paths, exclude } = source;
  return (await ontoNew(out, { kind: 'write-tree', root, paths, exclude, out }, signal)) as WrittenTree;
}

/**
 * Reads a backup back and compares every file with its manifest, and the whole with `digest` where given.
 * A damaged archive is an answer with problems, not an error.
 * @throws not_found when there is no such file, the signal's reason
 */
export async function verifyTree(
  path: string,
  { digest, signal }: TreeOptions & { readonly digest?: string | undefined } = {},
): Promise<VerifiedTree> {
  return (await runJob({ kind: 'verify-tree', path, digest }, signal)) as VerifiedTree;
}

export interface RestoreOptions extends TreeOptions {
  /** Only these files and directories with all below them, as the backup names them (relative to its root); none: all. */
  readonly paths?: readonly string[];
  /** Who owns what is restored; without it, root restores the owners that the backup names, and others own it themselves. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

/**
 * Restores a backup into a new directory `into` (its parent must be there), as it was below the backup's root; every file is compared with the
 * manifest before it resolves, and is fsynced. On failure there is no `into`.
 * @throws exists when `into` is there, data_loss when the archive is not what its manifest says, not_found for paths that are not in it, exhausted
 * on a full disk, the signal's reason
 */
export async function restoreTree(path: string, into: string, options: RestoreOptions = {}): Promise<RestoredTree> {
  const { paths = [], owner, signal } = options;
  Selection.of(paths);
  return (await intoNew(into, { kind: 'restore-tree', path, into, paths, owner }, signal)) as RestoredTree;
}
