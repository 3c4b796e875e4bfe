import { constants } from 'node:fs';
import { lchown, lstat, open, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { mapBounded } from '../../kit/tasks.js';

/** Files that are open at once. */
const FILES_AT_ONCE = 16;
const OPEN = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface TakenOver {
  readonly files: number;
  readonly bytes: number;
}

/**
 * Makes a directory that another user wrote in the agent's own: owned by this process, readable by everybody, written by nobody else, every
 * file on the disk. From the top down: what a directory holds can be moved by nobody else once the directory is ours, so that no path
 * below it can be made to lead elsewhere. Sockets, pipes and devices are removed: a release holds files, directories and links.
 * @throws system errors
 */
export async function takeOver(directory: string): Promise<TakenOver> {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  await ownDirectory(directory, own);
  const total = { files: 0, bytes: 0 };
  const names = await readdir(directory, { withFileTypes: true });
  const files = names.filter((entry) => !entry.isDirectory());
  await mapBounded(files, FILES_AT_ONCE, async (entry) => {
    const path = join(directory, entry.name);
    if (entry.isFile()) total.bytes += await ownFile(path, own);
    else if (entry.isSymbolicLink()) await lchown(path, own.uid, own.gid);
    else await unlink(path);
    total.files += 1;
  });
  for (const entry of names) {
    if (!entry.isDirectory()) continue;
    const below = await takeOver(join(directory, entry.name));
    total.files += below.files + 1;
    total.bytes += below.bytes;
  }
  await syncOf(directory);
  return total;
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

async function ownDirectory(path: string, { uid, gid }: Owner): Promise<void> {
  const handle = await open(path, OPEN | constants.O_DIRECTORY);
  try {
    await handle.chown(uid, gid);
    await handle.chmod(0o755);
  } finally {
    await handle.close();
  }
}

async function ownFile(path: string, { uid, gid }: Owner): Promise<number> {
  const { mode } = await lstat(path);
  const handle = await open(path, OPEN);
  try {
    await handle.chown(uid, gid);
    await handle.chmod((mode & 0o111) === 0 ? 0o644 : 0o755);
    await handle.sync();
    return (await handle.stat()).size;
  } finally {
    await handle.close();
  }
}

async function syncOf(path: string): Promise<void> {
  const handle = await open(path, OPEN | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
