import type { FileHandle } from 'node:fs/promises';

/** Bytes of a log as they were when its search began, readable at any place until they are closed. */
export interface LogBytes {
  readonly size: number;
  /** Where the service's own lines begin; one line stands before where that is not 0. */
  readonly begin: number;
  /** As many bytes as asked for, fewer at the end. @throws unavailable when they are there no more */
  read(at: number, length: number): Promise<Buffer>;
}

/** A file that nobody changes any more. */
export class FileBytes implements LogBytes {
  readonly size: number;
  readonly begin = 0;
  readonly #file: FileHandle;

  constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.size = size;
  }

  read(at: number, length: number): Promise<Buffer> {
    return readFully(this.#file, at, Math.min(length, this.size - at));
  }
}

/** Bytes [at, at + length) of a file, fewer at its end. */
export async function readFully(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.max(length, 0));
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, at + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}
