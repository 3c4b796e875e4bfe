import { constants, type Stats } from 'node:fs';
import { copyFile, lchown, lstat, open, readdir, rename, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, MusterError } from '../../kit/errors.js';
import { mapBounded } from '../../kit/tasks.js';

/** Files that are open at once. */
const FILES_AT_ONCE = 16;
const OPEN = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface TakenOver {
  readonly files: number;
  readonly bytes: number;
  /** Of its files, as `inodeOf`. */
  readonly inodes: ReadonlySet<string>;
}

/** What tells files apart, whatever they are called. */
export function inodeOf({ dev, ino }: { readonly dev: number; readonly ino: number }): string {
  return `${dev}:${ino}`;
}

/**
 * Makes a directory that another user wrote in the agent's own: owned by this process, readable by everybody, written by nobody else, without
 * special bits, every file on the disk. From the top down: what a directory holds can be moved by nobody else once the directory is ours, so
 * that no path below it can be made to lead elsewhere. Links are not followed. Sockets, pipes and devices are removed: a release holds files,
 * directories and links. A file with other names becomes one of its own: what is behind those stays as it is.
 * @param user who wrote it; undefined: this process
 * @throws precondition for a file of another user, which may be one that not all may read; system errors
 */
export async function takeOver(directory: string, user: number | undefined): Promise<TakenOver> {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  return takeOverAs(directory, { ...own, user: user ?? own.uid });
}

async function takeOverAs(directory: string, own: Owner): Promise<TakenOver> {
  await ownDirectory(directory, own);
  const total = { files: 0, bytes: 0, inodes: new Set<string>() };
  const names = await readdir(directory, { withFileTypes: true });
  const files = names.filter((entry) => !entry.isDirectory());
  await mapBounded(files, FILES_AT_ONCE, async (entry) => {
    const path = join(directory, entry.name);
    if (entry.isFile()) {
      const facts = await ownFile(path, own);
      total.bytes += facts.size;
      total.inodes.add(inodeOf(facts));
    } else if (entry.isSymbolicLink()) await lchown(path, own.uid, own.gid);
    else await unlink(path);
    total.files += 1;
  });
  for (const entry of names) {
    if (!entry.isDirectory()) continue;
    const below = await takeOverAs(join(directory, entry.name), own);
    total.files += below.files + 1;
    total.bytes += below.bytes;
    for (const inode of below.inodes) total.inodes.add(inode);
  }
  await syncOf(directory);
  return total;
}

/** Gives a directory of the agent's own to another user. From the bottom up: what is still to be given is below directories of the agent alone. @throws system errors */
export async function giveTo(directory: string, owner: Pick<Owner, 'uid' | 'gid'>): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true });
  const others = entries.filter((entry) => !entry.isDirectory());
  await mapBounded(others, FILES_AT_ONCE, ({ name }) => lchown(join(directory, name), owner.uid, owner.gid));
  for (const entry of entries) if (entry.isDirectory()) await giveTo(join(directory, entry.name), owner);
  await lchown(directory, owner.uid, owner.gid);
}

/**
 * Removes a directory that another user wrote, who may still be at it: nobody else may change what leads to what is removed. None is fine.
 * @throws system errors
 */
export async function removeTheirs(directory: string): Promise<void> {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  try {
    await ownDirectories(directory, own);
  } catch (error) {
    // There is nothing, or no directory.
    if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error) ?? '')) throw error;
  }
  await rm(directory, { recursive: true, force: true });
}

async function ownDirectories(directory: string, own: Pick<Owner, 'uid' | 'gid'>): Promise<void> {
  await ownDirectory(directory, own);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await ownDirectories(join(directory, entry.name), own);
  }
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
  /** Whose files are taken over. */
  readonly user: number;
}

async function ownDirectory(path: string, { uid, gid }: Pick<Owner, 'uid' | 'gid'>): Promise<void> {
  const handle = await open(path, OPEN | constants.O_DIRECTORY);
  try {
    await handle.chown(uid, gid);
    await handle.chmod(0o755);
  } finally {
    await handle.close();
  }
}

async function ownFile(path: string, { uid, gid, user }: Owner): Promise<Stats> {
  const facts = await lstat(path);
  // What has been moved or linked to here from elsewhere may be a secret, which all could read from now on.
  const readByAll = facts.uid === uid && (facts.mode & 0o004) !== 0;
  if (facts.uid !== user && !readByAll) throw notTheirs(path);
  if (facts.nlink > 1) await separate(path);
  const handle = await open(path, OPEN);
  try {
    await handle.chown(uid, gid);
    await handle.chmod((facts.mode & 0o111) === 0 ? 0o644 : 0o755);
    await handle.sync();
    return await handle.stat();
  } finally {
    await handle.close();
  }
}

/** Leaves the other names of a file what they were. */
async function separate(path: string): Promise<void> {
  const aside = `${path}.muster-own`;
  await copyFile(path, aside, constants.COPYFILE_EXCL);
  await rename(aside, path);
}

function notTheirs(path: string): MusterError {
  return new MusterError(
    'precondition',
    `${path} does not belong to the service's user, so the release is not used: have the install hook make all files as that user`,
    { reason: 'FOREIGN_FILE' },
  );
}

async function syncOf(path: string): Promise<void> {
  const handle = await open(path, OPEN | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
