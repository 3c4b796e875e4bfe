import { chmodSync, closeSync, fchmodSync, mkdirSync, openSync, symlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { explainFullDisk } from '../kit/files.js';
import { Contents, type ContentEntry } from './contents.js';
import { uncompressed } from './gunzip.js';
import type { Expected, UnpackJob } from './jobs.js';
import { refusedArchive } from './names.js';
import { syncTree } from './sync.js';
import { TarReader, type TarEntry, type TarSink } from './tar-reader.js';
import { Texts } from './texts.js';
import type { Unpacked } from './unpack.js';

const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;
const EXECUTABLE_MODE = 0o755;

/** Unpacks into a directory that is there and empty, and makes it durable; what is there after a failure is the caller's to remove. For a worker thread. */
export async function placeArchive(job: UnpackJob): Promise<Unpacked> {
  const { path, into, limits, forbidden } = job;
  const contents = new Contents({ limits, forbidden });
  const texts = new Texts(job.texts);
  const placed = new Placed(job, contents, texts);
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
  return { files: contents.files, unpackedBytes: contents.unpackedBytes, texts: texts.found };
}

/**
 * Writes entries as they come. Links are made when all else is written and checked: until then nothing below `into` leads anywhere, whatever the
 * archive says.
 */
class Placed implements TarSink {
  readonly #into: string;
  readonly #contents: Contents;
  readonly #texts: Texts;
  readonly #expected: Expected | undefined;
  #file: number | undefined;

  constructor({ into, expected }: Pick<UnpackJob, 'into' | 'expected'>, contents: Contents, texts: Texts) {
    this.#into = into;
    this.#contents = contents;
    this.#texts = texts;
    this.#expected = expected;
  }

  entry(raw: TarEntry): void {
    const accepted = this.#contents.add(raw);
    if (!accepted) return;
    this.#checkExpected();
    this.#texts.entry(accepted.entry);
    for (const path of accepted.missing) this.#directory(path);
    this.#place(accepted.entry);
  }

  data(bytes: Buffer): void {
    this.#texts.data(bytes);
    if (this.#file === undefined) return;
    for (let written = 0; written < bytes.length;) written += writeSync(this.#file, bytes, written);
  }

  fileEnd(): void {
    this.#texts.fileEnd();
    this.close();
  }

  /** Only now anybody else can reach what is below `into`. */
  finish(): void {
    for (const [path, target] of this.#contents.links) symlinkSync(target, join(this.#into, path));
    chmodSync(this.#into, DIRECTORY_MODE);
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
    fchmodSync(this.#file, entry.executable ? EXECUTABLE_MODE : FILE_MODE);
  }

  #directory(path: string): void {
    const at = join(this.#into, path);
    mkdirSync(at, { mode: 0o700 });
    chmodSync(at, DIRECTORY_MODE);
  }

  #checkExpected(): void {
    if (!this.#expected) return;
    const { files, bytes } = this.#expected;
    if (this.#contents.files <= files && this.#contents.unpackedBytes <= bytes) return;
    throw refusedArchive(`it holds more than the ${files} files of ${bytes} bytes that it was said to. Push it again`);
  }
}
