import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
  type Stats,
} from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf, messageOf, MusterError } from '../kit/errors.js';
import { explainFullDisk } from '../kit/files.js';
import { ArchiveFile } from './archive-file.js';
import { Excludes } from './exclude.js';
import { spoolOf, type WriteTreeJob } from './jobs.js';
import { BACKUP_LIMITS } from './limits.js';
import { shown } from './names.js';
import { Problems } from './problems.js';
import type { TarEntry } from './tar-reader.js';
import { headerOf, padding } from './tar-writer.js';
import { MANIFEST_NAME, manifestLine, ManifestSpool, summaryLine } from './tree-manifest.js';
import { inTreeOrder, Selection } from './tree-selection.js';

const READ_BYTES = 262_144;
const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

export interface WrittenTree {
  /** SHA-256 of the archive, 64 hexadecimal digits. */
  readonly digest: string;
  /** Of the archive. */
  readonly bytes: number;
  /** Of the files in it, uncompressed. */
  readonly contentBytes: number;
  readonly files: number;
  /** What is to be known, one sentence each, at most TREE_PROBLEMS_MAX: changed while read, could not be read, is not there. */
  readonly problems: readonly string[];
}

/** Writes a backup into a file that is there and empty; what is there after a failure is the caller's to remove. For a worker thread. */
export async function writeTreeHere(job: WriteTreeJob): Promise<WrittenTree> {
  const { root, paths, exclude, out } = job;
  const selection = Selection.of(paths);
  const spool = new ManifestSpool(spoolOf(out));
  const archive = await ArchiveFile.create(out, 'w');
  try {
    const writer = new TreeWriter(archive, spool, new Excludes(exclude));
    await writer.root(root, selection);
    return await writer.finish();
  } catch (error) {
    await archive.abandon();
    throw explainFullDisk(error, dirname(out));
  } finally {
    spool.close();
    rmSync(spoolOf(out), { force: true });
  }
}

/** Where something is: its name in a directory that is open. Links on the way to it cannot be put there any more. */
interface Place {
  readonly at: string;
  readonly parts: readonly string[];
  readonly selection: Selection;
}

/** Walks a tree, each directory before what is in it and names in order, and writes it as it goes. Never follows a link. */
class TreeWriter {
  readonly #archive: ArchiveFile;
  readonly #spool: ManifestSpool;
  readonly #excludes: Excludes;
  readonly #problems = new Problems();
  readonly #buffer = Buffer.allocUnsafe(READ_BYTES);
  #entries = 0;
  #files = 0;
  #contentBytes = 0;

  constructor(archive: ArchiveFile, spool: ManifestSpool, excludes: Excludes) {
    this.#archive = archive;
    this.#spool = spool;
    this.#excludes = excludes;
  }

  /** @throws precondition when it is no directory */
  async root(root: string, selection: Selection): Promise<void> {
    const directory = openRoot(root);
    try {
      await this.#entry(entryOf(fstatSync(directory), { path: '.', type: 'directory' }));
      await this.#below(directory, [], selection);
    } finally {
      closeSync(directory);
    }
  }

  async finish(): Promise<WrittenTree> {
    const counts = { entries: this.#entries, files: this.#files, contentBytes: this.#contentBytes };
    this.#spool.add(summaryLine(counts));
    const { sizeBytes } = this.#spool;
    await this.#archive.write(headerOf({ ...PLAIN, type: 'file', path: MANIFEST_NAME, mode: 0o600, sizeBytes }));
    for (const piece of this.#spool.pieces()) await this.#archive.write(piece);
    await this.#archive.write(padding(sizeBytes));
    const { digest, sizeBytes: bytes } = await this.#archive.finish();
    const { files, contentBytes } = counts;
    return { digest, bytes, contentBytes, files, problems: this.#problems.list() };
  }

  async #below(directory: number, parts: readonly string[], selection: Selection): Promise<void> {
    const names = selection.all ? this.#namesIn(directory, parts) : selection.names;
    for (const name of names) {
      const child = selection.child(name);
      if (!child) continue;
      const place = { at: `/proc/self/fd/${directory}/${name}`, parts: [...parts, name], selection: child };
      if (!this.#excludes.has(place.parts)) await this.#place(place, selection.all);
    }
  }

  #namesIn(directory: number, parts: readonly string[]): readonly string[] {
    const names: string[] = [];
    for (const bytes of readdirSync(`/proc/self/fd/${directory}`, { encoding: 'buffer' })) {
      const name = bytes.toString('utf8');
      if (Buffer.from(name).equals(bytes)) names.push(name);
      else this.#skipped([...parts, name], 'its name is not UTF-8');
    }
    return names.sort(inTreeOrder);
  }

  /** `listed`: its directory says that it is there; what is gone since was removed before the backup, as far as anybody can tell. */
  async #place(place: Place, listed: boolean): Promise<void> {
    try {
      this.#checkPath(place.parts);
      await this.#any(place, lstatSync(place.at));
    } catch (error) {
      if (error instanceof Skipped) this.#skipped(place.parts, error.message);
      else if (errnoOf(error) !== 'ENOENT') throw error;
      else if (!listed) this.#skipped(place.parts, 'it is not there');
    }
  }

  async #any(place: Place, stat: Stats): Promise<void> {
    if (stat.isDirectory()) return this.#directory(place);
    if (!place.selection.all) throw new Skipped('it is no directory, and something below it is to be backed up');
    if (stat.isSymbolicLink()) return this.#link(place, stat);
    if (stat.isFile()) return this.#file(place);
    // A socket or a pipe holds nothing.
    if (!stat.isSocket() && !stat.isFIFO()) throw new Skipped('it is a device');
  }

  async #directory({ at, parts, selection }: Place): Promise<void> {
    const directory = openOrSkip(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    try {
      await this.#entry(entryOf(fstatSync(directory), { path: parts.join('/'), type: 'directory' }));
      await this.#below(directory, parts, selection);
    } finally {
      closeSync(directory);
    }
  }

  async #link({ at, parts }: Place, stat: Stats): Promise<void> {
    const entry = entryOf(stat, { path: parts.join('/'), type: 'symlink' });
    await this.#entry({ ...entry, sizeBytes: 0, target: readlinkSync(at) });
  }

  async #file({ at, parts }: Place): Promise<void> {
    const file = openOrSkip(at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const stat = fstatSync(file);
      if (!stat.isFile()) throw new Skipped('it was replaced while it was read');
      const entry = { ...entryOf(stat, { path: parts.join('/'), type: 'file' }), sizeBytes: stat.size };
      await this.#archive.write(headerOf(entry));
      const sha256 = await this.#content(file, entry);
      this.#note(manifestLine(entry, sha256));
      this.#files += 1;
      this.#contentBytes += entry.sizeBytes;
      if (!sameAs(stat, fstatSync(file))) this.#problems.add(`${shown(entry.path)} changed while it was read`);
    } finally {
      closeSync(file);
    }
  }

  /** Its size is fixed by its header: what a file has grown since is left out, what it has lost is zeros. */
  async #content(file: number, { path, sizeBytes }: TarEntry): Promise<string> {
    const hash = createHash('sha256');
    for (let left = sizeBytes; left > 0;) {
      const bytes = this.#read(file, path, Math.min(left, READ_BYTES));
      hash.update(bytes);
      await this.#archive.write(bytes);
      left -= bytes.length;
    }
    await this.#archive.write(padding(sizeBytes));
    return hash.digest('hex');
  }

  #read(file: number, path: string, bytesMax: number): Buffer {
    try {
      const read = readSync(file, this.#buffer, 0, bytesMax, null);
      if (read > 0) return this.#buffer.subarray(0, read);
    } catch (error) {
      this.#problems.add(`${shown(path)} could not be read to its end, and has zeros there: ${messageOf(error)}`);
    }
    return this.#buffer.fill(0, 0, bytesMax).subarray(0, bytesMax);
  }

  async #entry(entry: TarEntry): Promise<void> {
    await this.#archive.write(headerOf(entry));
    this.#note(manifestLine(entry, undefined));
  }

  #note(line: string): void {
    this.#entries += 1;
    if (this.#entries > BACKUP_LIMITS.entriesMax) {
      throw new MusterError('exhausted', `there are more than ${BACKUP_LIMITS.entriesMax} files: back up fewer paths`);
    }
    this.#spool.add(line);
  }

  #checkPath(parts: readonly string[]): void {
    const path = parts.join('/');
    if (path === MANIFEST_NAME) throw new Skipped('backups keep their own manifest under this name');
    const tooLong = Buffer.byteLength(path) > BACKUP_LIMITS.pathBytesMax || parts.length > BACKUP_LIMITS.depthMax;
    if (tooLong) throw new Skipped('its path is too long or too deep');
  }

  #skipped(parts: readonly string[], why: string): void {
    this.#problems.add(`${shown(parts.join('/'))} is not in the backup: ${why}`);
  }
}

/** Why something is left out; the backup goes on. */
class Skipped extends Error {}

const PLAIN = { target: '', sizeBytes: 0, mode: 0, uid: 0, gid: 0, mtimeS: 0 };

function entryOf(stat: Stats, { path, type }: Pick<TarEntry, 'path' | 'type'>): TarEntry {
  const { uid, gid, mtimeMs } = stat;
  return { ...PLAIN, path, type, uid, gid, mode: stat.mode & 0o7777, mtimeS: Math.floor(mtimeMs / 1000) };
}

function sameAs(before: Stats, after: Stats): boolean {
  return before.size === after.size && before.mtimeMs === after.mtimeMs && before.ctimeMs === after.ctimeMs;
}

function openOrSkip(at: string, flags: number): number {
  try {
    return openSync(at, flags);
  } catch (error) {
    const errno = errnoOf(error) ?? '';
    if (errno === 'EACCES' || errno === 'EPERM') throw new Skipped('this user may not read it');
    if (errno === 'ELOOP' || errno === 'ENOTDIR') throw new Skipped('it was replaced while it was read');
    if (errno === 'EIO') throw new Skipped(`it cannot be read: ${messageOf(error)}`);
    throw error;
  }
}

function openRoot(root: string): number {
  try {
    return openSync(root, O_RDONLY | O_DIRECTORY);
  } catch (error) {
    throw new MusterError('precondition', `${root} cannot be backed up: ${messageOf(error)}`, { cause: error });
  }
}
