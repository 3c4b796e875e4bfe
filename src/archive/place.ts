import {
  chmodSync,
  chownSync,
  closeSync,
  fchmodSync,
  fchownSync,
  lchownSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { explainFullDisk } from '../kit/files.js';
import { Contents, type ContentEntry } from './contents.js';
import { uncompressed } from './gunzip.js';
import type { Owner, UnpackJob } from './jobs.js';
import { syncTree } from './sync.js';
import { TarReader, type TarEntry, type TarSink } from './tar-reader.js';

const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;
const EXECUTABLE_MODE = 0o755;

/** Unpacks into a directory that is there and empty, and makes it durable; what is there after a failure is the caller's to remove. For a worker thread. */
export async function placeArchive({
  path,
  into,
  limits,
  owner,
}: UnpackJob): Promise<{ files: number; unpackedBytes: number }> {
  const contents = new Contents({ limits });
  const placed = new Placed(into, contents, owner);
  try {
    const reader = new TarReader(placed);
    for await (const piece of uncompressed(path, limits)) reader.push(piece);
    reader.end();
    contents.finish();
    placed.finish();
    await syncTree(into, contents.entries);
  } catch (error) {
    throw explainFullDisk(error, into);
  } finally {
    placed.close();
  }
  return { files: contents.files, unpackedBytes: contents.unpackedBytes };
}

/**
 * Writes entries as they come. Links are made when all else is written and checked: until then nothing below `into` leads anywhere, whatever the
 * archive says.
 */
class Placed implements TarSink {
  readonly #into: string;
  readonly #contents: Contents;
  readonly #owner: Owner | undefined;
  #file: number | undefined;

  constructor(into: string, contents: Contents, owner: Owner | undefined) {
    this.#into = into;
    this.#contents = contents;
    this.#owner = owner;
  }

  entry(raw: TarEntry): void {
    const accepted = this.#contents.add(raw);
    if (!accepted) return;
    for (const path of accepted.missing) this.#directory(path);
    this.#place(accepted.entry);
  }

  data(bytes: Buffer): void {
    if (this.#file === undefined) return;
    for (let written = 0; written < bytes.length;) written += writeSync(this.#file, bytes, written);
  }

  fileEnd(): void {
    this.close();
  }

  /** Only now anybody else can reach what is below `into`, its new owner included. */
  finish(): void {
    this.#placeLinks();
    this.#own(this.#into, DIRECTORY_MODE);
  }

  #placeLinks(): void {
    for (const [path, target] of this.#contents.links) {
      const at = join(this.#into, path);
      symlinkSync(target, at);
      if (this.#owner) lchownSync(at, this.#owner.uid, this.#owner.gid);
    }
  }

  /** Nothing where no file is open. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #place(entry: ContentEntry): void {
    if (entry.kind === 'directory') this.#directory(entry.path);
    if (entry.kind !== 'file') return;
    // Exclusive: nothing that is there is written to.
    this.#file = openSync(join(this.#into, entry.path), 'wx', 0o600);
    if (this.#owner) fchownSync(this.#file, this.#owner.uid, this.#owner.gid);
    fchmodSync(this.#file, entry.executable ? EXECUTABLE_MODE : FILE_MODE);
  }

  #directory(path: string): void {
    const at = join(this.#into, path);
    mkdirSync(at, { mode: 0o700 });
    this.#own(at, DIRECTORY_MODE);
  }

  #own(at: string, mode: number): void {
    if (this.#owner) chownSync(at, this.#owner.uid, this.#owner.gid);
    chmodSync(at, mode);
  }
}
