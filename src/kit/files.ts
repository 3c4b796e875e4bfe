import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, basename, resolve } from 'node:path';
import { errnoOf, messageOf, MusterError } from './errors.js';

/**
 * Makes a directory and what is missing above it, with `mode`; one that is there is left as it is. Step by step, because Node's own recursive
 * mkdir never ends on a file system that answers ENOENT to every new name, as procfs does.
 * @throws precondition naming the directory that cannot be made, and what to do
 */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  const missing: string[] = [];
  for (let at = resolve(path); !(await isDirectory(at)); at = dirname(at)) missing.unshift(at);
  for (const at of missing) {
    await mkdir(at, { mode }).catch(async (error: unknown) => {
      // Somebody else may have made it meanwhile.
      if (errnoOf(error) !== 'EEXIST' || !(await isDirectory(at))) throw cannotMake(at, error);
    });
  }
}

/** False where nothing is there. @throws precondition where something else is, or it cannot be looked at */
async function isDirectory(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isDirectory()) return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' && dirname(path) !== path) return false;
    // A part of the way that is no directory is named when its turn comes.
    if (errnoOf(error) === 'ENOTDIR') return false;
    throw cannotMake(path, error);
  }
  throw cannotMake(path, undefined);
}

function cannotMake(path: string, error: unknown): MusterError {
  const errno = error === undefined ? 'EEXIST' : (errnoOf(error) ?? '');
  const why = WHY_NOT.get(errno) ?? `${messageOf(error)}. Choose another directory`;
  return new MusterError('precondition', `cannot make ${path}: ${why}`, { reason: 'DIRECTORY', cause: error });
}

const IN_THE_WAY = 'something that is not a directory is there. Move it away, or choose another directory';
const NOT_ALLOWED =
  'this user may not write there. Run as another user, change the permissions above it, or choose another directory';
const NO_SPACE = 'there is no space left. Make room, or choose another directory';

/** What is wrong and what to do, by errno. */
const WHY_NOT: ReadonlyMap<string, string> = new Map([
  ['EEXIST', IN_THE_WAY],
  ['ENOTDIR', IN_THE_WAY],
  ['EACCES', NOT_ALLOWED],
  ['EPERM', NOT_ALLOWED],
  ['EROFS', 'the file system is read-only. Choose another directory'],
  ['ENOENT', 'its file system takes no directories, as those of the kernel. Choose another directory'],
  ['ENOSPC', NO_SPACE],
  ['EDQUOT', NO_SPACE],
  ['ENAMETOOLONG', 'the name is too long. Choose a shorter one'],
  ['ELOOP', 'its symbolic links lead round in a circle. Choose another directory'],
]);

/** What the system says of a full disk, with the place and what to do; anything else as it is. */
export function explainFullDisk(error: unknown, directory: string): unknown {
  const errno = errnoOf(error);
  if (errno !== 'ENOSPC' && errno !== 'EDQUOT') return error;
  const message = `there is no space left for ${directory}: free some space on its disk, then start again`;
  return new MusterError('exhausted', message, { reason: 'DISK_FULL', cause: error });
}

/** Makes a directory's entries (a rename, a creation) survive a power loss. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Replaces a file's content so that after a crash at any instant it is whole, old or new:
 * write aside, fsync, rename, fsync the directory. Resolves once durable; on rejection before the rename the old content stands.
 * One writer per path at a time.
 */
export async function writeFileDurably(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const aside = join(dirname(path), `.${basename(path)}.new`);
  await rm(aside, { force: true });
  try {
    await writeSynced(aside, content, mode);
    await rename(aside, path);
  } catch (error) {
    // Half a file must not hold space on a full disk.
    await rm(aside, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

async function writeSynced(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const handle = await open(path, 'wx', mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The file's text, or undefined where there is no such file. */
export async function readFileIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
