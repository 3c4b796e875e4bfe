import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestFile } from '../../archive/digest.js';
import { inspectArchive, type InspectOptions } from '../../archive/inspect.js';
import { RELEASE_LIMITS } from '../../archive/limits.js';
import { packDirectory } from '../../archive/pack.js';
import { counted } from '../../kit/counted.js';
import { errnoOf, messageOf, MusterError } from '../../kit/errors.js';
import { usage } from '../queue-text.js';
import { formatSize } from '../../kit/durations.js';
import type { Io } from '../io.js';
import type { ProgressLine } from './progress.js';
import type { LocalArchive } from './upload.js';

/** What is pushed: a directory, packed into an archive that is removed afterwards, or an archive as it is. */

/** What a manifest says of the archive it is in. */
export interface Described {
  readonly name: string;
  readonly version: string;
  /** Version by module. */
  readonly modules: Readonly<Record<string, string>>;
}

/** How the archives of a kind describe themselves. */
export interface Description {
  /** `muster.yaml`, at the root. */
  readonly file: string;
  /** @throws invalid with the line and column of each mistake in what messages call `file` */
  readonly read: (text: string, file: string) => Described;
}

export interface Packed extends LocalArchive, Described {
  readonly files: number;
  readonly unpackedBytes: number;
}

function missing(path: string, { file }: Description, what: string): MusterError {
  return usage(`${path} has no ${file} at its root: ${what}`);
}

async function kindOf(path: string): Promise<'directory' | 'file'> {
  try {
    return (await stat(path)).isDirectory() ? 'directory' : 'file';
  } catch (error) {
    const why = errnoOf(error) === 'ENOENT' ? 'there is no such file or directory' : messageOf(error);
    throw new MusterError('invalid', `cannot read ${path}: ${why}`, { reason: 'USAGE', cause: error });
  }
}

async function readDescription(directory: string, description: Description): Promise<Described> {
  const file = join(directory, description.file);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw missing(directory, description, 'write it, or name another directory');
    throw new MusterError('invalid', `cannot read ${file}: ${messageOf(error)}`, { reason: 'USAGE', cause: error });
  }
  return description.read(text, file);
}

/** Where the agent puts the modules that are pinned: no file of the release may be there. */
function linkPlaces(modules: Described['modules']): string[] {
  return Object.keys(modules).map((name) => `modules/${name}`);
}

function looking(io: Io, description: Description, modules: Described['modules']): InspectOptions {
  return { limits: RELEASE_LIMITS, texts: [description.file], forbidden: linkPlaces(modules), signal: io.signal };
}

async function fromFile(io: Io, path: string, description: Description): Promise<Packed> {
  const { texts } = await inspectArchive(path, looking(io, description, {}));
  const text = texts.get(description.file);
  if (text === undefined) throw missing(path, description, 'pack what is in the directory, not the directory itself');
  const described = description.read(text, description.file);
  // Only now is it known where nothing may be.
  const { files, unpackedBytes } = await inspectArchive(path, looking(io, description, described.modules));
  return { ...described, path, files, unpackedBytes, ...(await digestFile(path, io.signal)) };
}

async function fromDirectory(
  io: Io,
  directory: string,
  { description, progress, room }: { description: Description; progress: ProgressLine; room: string },
): Promise<Packed> {
  const described = await readDescription(directory, description);
  const path = join(room, 'archive.tar.gz');
  const packed = await packDirectory(directory, path, {
    signal: io.signal,
    onProgress: ({ files, bytes }) => {
      progress.show(() => `packing: ${counted(files, 'file')}, ${formatSize(bytes)}`).catch(() => undefined);
    },
  });
  await inspectArchive(path, looking(io, description, described.modules));
  return { ...described, path, ...packed };
}

/** Rooms of archives that are packed, with the process that has them in their name. */
const ROOM = 'muster-push-';

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) !== 'ESRCH';
  }
}

/** Removes what pushes that were ended by force left behind. */
async function sweep(): Promise<void> {
  for (const name of await readdir(tmpdir()).catch(() => [])) {
    const pid = new RegExp(`^${ROOM}(\\d+)-`).exec(name)?.[1];
    if (pid === undefined || isThere(Number(pid))) continue;
    // Another user's stays.
    await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => undefined);
  }
}

/**
 * Hands `work` the archive, checked as the center will check it. What was packed for it is removed afterwards.
 * @throws invalid for what cannot be a release or module: the manifest with line and column, an entry by its path
 */
export async function withArchive<T>(
  io: Io,
  path: string,
  { description, progress }: { description: Description; progress: ProgressLine },
  work: (archive: Packed) => Promise<T>,
): Promise<T> {
  if ((await kindOf(path)) === 'file') return work(await fromFile(io, path, description));
  await sweep();
  const room = await mkdtemp(join(tmpdir(), `${ROOM}${process.pid}-`));
  try {
    return await work(await fromDirectory(io, path, { description, progress, room }));
  } finally {
    await rm(room, { recursive: true, force: true });
  }
}
