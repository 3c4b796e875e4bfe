import { constants } from 'node:fs';
import { lstat, open, readdir, readlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, MusterError } from '../kit/errors.js';
import { ArchiveFile } from './archive-file.js';
import { Contents, type ContentEntry } from './contents.js';
import { RELEASE_LIMITS } from './limits.js';
import { refused, shown } from './names.js';
import type { TarEntry } from './tar-reader.js';
import { headerOf, padding } from './tar-writer.js';

const READ_BYTES = 262_144;
const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

export interface Packed {
  /** SHA-256 of the archive, 64 hexadecimal digits. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly files: number;
  readonly unpackedBytes: number;
}

export interface PackOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called after each file. */
  readonly onProgress?: ((progress: { readonly files: number; readonly bytes: number }) => void) | undefined;
}

/**
 * Packs a directory as a new file `out`, tar.gz; on failure there is none. The same content gives the same bytes with the same Node: names in
 * order, no times, no owners, 0644 or 0755.
 * @throws invalid naming what unpackArchive would refuse, exists when `out` is there, conflict when a file changes meanwhile, the signal's reason
 */
export async function packDirectory(directory: string, out: string, options: PackOptions = {}): Promise<Packed> {
  const { signal } = options;
  signal?.throwIfAborted();
  const contents = new Contents({ limits: RELEASE_LIMITS });
  const entries: ContentEntry[] = [];
  for await (const raw of listed(directory, '')) {
    signal?.throwIfAborted();
    const entry = contents.add(raw)?.entry;
    if (entry) entries.push(entry);
  }
  contents.finish();
  const archive = await ArchiveFile.create(out);
  try {
    await writeEntries(archive, directory, { ...options, entries });
    const { files, unpackedBytes } = contents;
    return { ...(await archive.finish()), files, unpackedBytes };
  } catch (error) {
    await archive.abandon();
    throw error;
  }
}

async function writeEntries(
  archive: ArchiveFile,
  directory: string,
  { entries, signal, onProgress }: PackOptions & { readonly entries: readonly ContentEntry[] },
): Promise<void> {
  let files = 0;
  let bytes = 0;
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  for (const entry of entries) {
    signal?.throwIfAborted();
    await archive.write(headerOf({ ...NOTHING, ...headerFacts(entry) }));
    if (entry.kind !== 'file') continue;
    await writeContent(archive, join(directory, entry.path), { entry, buffer });
    files += 1;
    bytes += entry.sizeBytes;
    onProgress?.({ files, bytes });
  }
}

const NOTHING = { target: '', sizeBytes: 0, uid: 0, gid: 0, mtimeS: 0 };

function headerFacts(entry: ContentEntry): Pick<TarEntry, 'type' | 'path' | 'mode'> & Partial<TarEntry> {
  switch (entry.kind) {
    case 'file':
      return { type: 'file', path: entry.path, mode: entry.executable ? 0o755 : 0o644, sizeBytes: entry.sizeBytes };
    case 'directory':
      return { type: 'directory', path: entry.path, mode: 0o755 };
    case 'symlink':
      return { type: 'symlink', path: entry.path, mode: 0o777, target: entry.target };
  }
}

async function writeContent(
  archive: ArchiveFile,
  path: string,
  { entry, buffer }: { readonly entry: Extract<ContentEntry, { kind: 'file' }>; readonly buffer: Buffer },
): Promise<void> {
  const file = await openFile(path, entry.path);
  try {
    let read = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) break;
      read += bytesRead;
      if (read > entry.sizeBytes) throw changed(entry.path);
      await archive.write(buffer.subarray(0, bytesRead));
    }
    if (read !== entry.sizeBytes) throw changed(entry.path);
  } finally {
    await file.close();
  }
  await archive.write(padding(entry.sizeBytes));
}

async function openFile(path: string, name: string): Promise<FileHandle> {
  try {
    return await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ELOOP') throw changed(name);
    throw error;
  }
}

function changed(path: string): MusterError {
  return new MusterError(
    'conflict',
    `${shown(path)} changed while it was packed: wait until nothing writes there, then pack again`,
  );
}

/** Everything below a directory as a tar would say it, names in order, each directory before what is in it. */
async function* listed(root: string, below: string): AsyncGenerator<TarEntry> {
  const names = await readdir(join(root, below));
  for (const name of names.sort(inOrder)) {
    const path = below === '' ? name : `${below}/${name}`;
    const entry = await rawEntry(join(root, path), path);
    yield entry;
    if (entry.type === 'directory') yield* listed(root, path);
  }
}

function inOrder(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

async function rawEntry(at: string, path: string): Promise<TarEntry> {
  const stat = await lstat(at);
  const common = { ...NOTHING, path };
  if (stat.isSymbolicLink()) return { ...common, type: 'symlink', mode: 0o777, target: await readlink(at) };
  // A set-group-ID or sticky directory is how people share one: it says nothing of what is in it.
  if (stat.isDirectory()) return { ...common, type: 'directory', mode: 0o755 };
  if (stat.isFile()) return { ...common, type: 'file', mode: stat.mode & 0o7777, sizeBytes: stat.size };
  throw refused(path, 'is a socket, a device or a named pipe: move it out of the directory');
}
