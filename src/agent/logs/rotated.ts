import type { FileHandle } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { openIfThere } from './files.js';

/** Reading what was rotated away: from the plain file while there is one, else from the compressed one. */

const CHUNK_BYTES = 64 * 1024;

export interface RotatedPlace {
  readonly root: string;
  /** Without `.gz`. */
  readonly name: string;
}

/** Bytes of the plain file, fewer at its end; undefined where it is not there. @throws as openInside */
export async function readPlain(
  { root, name }: RotatedPlace,
  offset: number,
  bytes: number,
): Promise<Buffer | undefined> {
  const file = await openIfThere(root, name);
  if (!file) return undefined;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/**
 * Reads one rotated file forward. It holds a compressed file open between reads, and nothing else; a plain one is opened for each read, so
 * that it can be compressed or removed meanwhile.
 */
export class RotatedReader {
  readonly place: RotatedPlace;
  #offset: number;
  #unzipped: Unzipped | undefined;
  #reading = false;
  #unwanted = false;

  /** `offset`: of the first byte wanted, in the file as it was before it was compressed. */
  constructor(place: RotatedPlace, offset: number) {
    this.place = place;
    this.#offset = offset;
  }

  /** The next bytes, `bytesMax` at most; none at the end of the file; undefined when it is there no more. @throws as openInside */
  async read(bytesMax: number): Promise<Buffer | undefined> {
    this.#reading = true;
    try {
      const bytes = await this.#readAny(bytesMax);
      this.#offset += bytes?.length ?? 0;
      return bytes;
    } finally {
      this.#reading = false;
      if (this.#unwanted) this.close();
    }
  }

  close(): void {
    this.#unzipped?.close();
    this.#unzipped = undefined;
  }

  /** The file was removed: as soon as no read is under way it is let go, and then there no more. */
  letGo(): void {
    this.#unwanted = true;
    if (!this.#reading) this.close();
  }

  /** Compressing removes the plain file once the other one is there: who finds neither looks again. */
  async #readAny(bytesMax: number): Promise<Buffer | undefined> {
    if (this.#unzipped) return this.#unzipped.read(bytesMax);
    const plain = (): Promise<Buffer | undefined> => readPlain(this.place, this.#offset, bytesMax);
    return (await plain()) ?? (await this.#readZipped(bytesMax)) ?? (await plain());
  }

  async #readZipped(bytesMax: number): Promise<Buffer | undefined> {
    const file = await openIfThere(this.place.root, `${this.place.name}.gz`);
    if (!file) return undefined;
    this.#unzipped = new Unzipped(file);
    await this.#unzipped.skip(this.#offset);
    return this.#unzipped.read(bytesMax);
  }
}

/** A compressed file, read forward; zlib works beside the main loop, one chunk ahead at most. */
class Unzipped {
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #end: () => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(file: FileHandle) {
    const source = file.createReadStream({ highWaterMark: CHUNK_BYTES });
    const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
    // Met by whoever reads next.
    gunzip.on('error', () => undefined);
    source.on('error', (error) => gunzip.destroy(error));
    source.pipe(gunzip);
    this.#chunks = gunzip[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    this.#end = () => {
      gunzip.destroy();
      source.destroy();
    };
  }

  /** None at the end, and where the rest cannot be decompressed. */
  async read(bytesMax: number): Promise<Buffer> {
    if (this.#rest.length === 0) {
      const next = await this.#chunks.next().catch(() => undefined);
      this.#rest = next === undefined || next.done === true ? Buffer.alloc(0) : next.value;
    }
    const bytes = this.#rest.subarray(0, bytesMax);
    this.#rest = this.#rest.subarray(bytes.length);
    return bytes;
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0;) {
      const { length } = await this.read(Math.min(left, CHUNK_BYTES));
      if (length === 0) return;
      left -= length;
    }
  }

  close(): void {
    this.#end();
  }
}
