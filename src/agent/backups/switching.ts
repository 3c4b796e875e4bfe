import { chmod, chown, lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf, MusterError } from '../../kit/errors.js';
import { makeDirectory, syncDirectory } from '../../kit/files.js';
import { inParent, pathIn } from '../system/directory.js';

/**
 * Puts a restored tree to its place, path by path, each by a rename: at any instant each path is whole, old or new, and doing it again after the
 * end of the agent completes it. The service may own what is above a path, and the agent may be root: no step of a path follows a link.
 */

/** Where a restore does its work: out of reach of the service, which may rename what is in its shared directory, whoever owns that. */
export interface RestorePlace {
  /** The service's shared directory. */
  readonly shared: string;
  /** Holds `new`, as restored, and `old`, what was there before: by number of the path. */
  readonly staging: string;
  /** Where `old` is kept after all is switched, until the next restore. */
  readonly replaced: string;
}

/** Beside the shared directory. */
export function placeOf(shared: string, id: string): RestorePlace {
  const beside = dirname(shared);
  return { shared, staging: join(beside, `.restore-${id}`), replaced: join(beside, '.replaced') };
}

async function deviceOf(path: string): Promise<number> {
  return (await lstat(path)).dev;
}

/** Makes the directory that a tree is restored in. What an earlier try left is removed. */
export async function prepare({ staging }: RestorePlace): Promise<void> {
  await rm(staging, { recursive: true, force: true });
  await makeDirectory(staging, 0o700);
  await mkdir(join(staging, 'old'), { mode: 0o700 });
  await syncDirectory(dirname(staging));
}

/** Those of the paths that were restored: `new` has them. */
export async function restoredOf({ staging }: RestorePlace, paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) if (await isThere(join(staging, 'new', path))) found.push(path);
  return found;
}

/** @throws precondition for a path that cannot be switched, before anything is */
export async function checkSwitch({ shared, staging }: RestorePlace, paths: readonly string[]): Promise<void> {
  const device = await deviceOf(staging);
  if ((await deviceOf(shared)) !== device) throw notSwitched(shared, 'it is a file system of its own');
  for (const path of paths) {
    const there = await inParent(shared, path, (parent, base) => lstat(pathIn(parent, base))).catch(
      (error: unknown) => {
        if (errnoOf(error) === 'ENOENT') return undefined;
        throw notSwitched(path, 'a part of the way to it is no directory');
      },
    );
    if (there && there.dev !== device) throw notSwitched(path, 'it is a file system of its own');
  }
}

function notSwitched(path: string, why: string): MusterError {
  return new MusterError('precondition', `${path} cannot be restored to its place: ${why}. Restore it aside, and copy`);
}

/** Switches what is not switched yet. Resolves once durable. */
export async function switchAll(place: RestorePlace, paths: readonly string[]): Promise<void> {
  for (const [index, path] of paths.entries()) await switchOne(place, path, index);
  await syncDirectory(join(place.staging, 'old'));
}

async function switchOne({ shared, staging }: RestorePlace, path: string, index: number): Promise<void> {
  const fresh = join(staging, 'new', path);
  // The last step for this path was done.
  if (!(await isThere(fresh))) return;
  await makeParents(shared, join(staging, 'new'), path);
  await inParent(shared, path, async (parent, base) => {
    const old = join(staging, 'old', String(index));
    const aside = (await isThere(old)) ? `${old}-later` : old;
    await rm(`${old}-later`, { recursive: true, force: true });
    await rename(pathIn(parent, base), aside).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    await rename(fresh, pathIn(parent, base));
    await parent.sync();
  });
}

/** Makes what is missing above `path`, as it was when it was backed up. */
async function makeParents(shared: string, fresh: string, path: string): Promise<void> {
  const steps = path.split('/').slice(0, -1);
  for (let count = 1; count <= steps.length; count += 1) {
    const name = steps.slice(0, count).join('/');
    const like = await lstat(join(fresh, name));
    await inParent(shared, name, async (parent, base) => {
      const at = pathIn(parent, base);
      if (await isThere(at)) return;
      await mkdir(at, { mode: 0o700 });
      if (process.getuid?.() === 0) await chown(at, like.uid, like.gid);
      await chmod(at, like.mode & 0o7777);
      await parent.sync();
    });
  }
}

/** All is switched: keeps what was there before until the next restore, and removes the rest. Doing it again is fine. */
export async function finish({ staging, replaced }: RestorePlace): Promise<void> {
  const old = join(staging, 'old');
  if (await isThere(old)) {
    await rm(replaced, { recursive: true, force: true });
    await rename(old, replaced);
  }
  await rm(staging, { recursive: true, force: true });
  await syncDirectory(dirname(staging));
}

/** Nothing was switched: as if it had never begun. */
export async function abandon({ staging }: RestorePlace): Promise<void> {
  await rm(staging, { recursive: true, force: true });
}

/** Makes `new` the directory `into`. Resolves once durable. */
export async function putAside({ staging, shared }: RestorePlace, into: string): Promise<void> {
  const { uid, gid } = await lstat(shared);
  const fresh = join(staging, 'new');
  if (process.getuid?.() === 0) await chown(fresh, uid, gid);
  await chmod(fresh, 0o750);
  const handle = await open(fresh, 'r');
  await handle.sync().finally(() => handle.close());
  await rename(fresh, into);
  await syncDirectory(dirname(into));
}

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    },
  );
}
