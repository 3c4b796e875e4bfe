/** Numbers as the queue's log writes them, specified in docs/queue-format.md. All are whole numbers from 0 to 2^53 - 1. */
import { isUtf8 } from 'node:buffer';
import { MusterError } from '../../kit/errors.js';

const WORD = 2 ** 32;

/** Thrown by the readers for bytes that were never written; whoever knows what was read turns it into data_loss. */
export class FormatError extends Error {}

function assertWritable(value: number): void {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new MusterError('internal', `the queue's log cannot hold the number ${value}`);
}

/** @throws internal */
export function writeU64(bytes: Buffer, value: number, at: number): void {
  assertWritable(value);
  bytes.writeUInt32BE(Math.floor(value / WORD), at);
  bytes.writeUInt32BE(value % WORD, at + 4);
}

/** @throws FormatError */
export function readU64(bytes: Buffer, at: number): number {
  if (bytes.length < at + 8) throw new FormatError('it is too short');
  const value = bytes.readUInt32BE(at) * WORD + bytes.readUInt32BE(at + 4);
  if (value > Number.MAX_SAFE_INTEGER) throw new FormatError('a number is too large');
  return value;
}

/** Most records are shorter. */
const PACKED_BYTES = 64;
/** Of the largest number. */
const NUMBER_BYTES_MAX = 8;

/** Collects numbers, seven bits a byte with the lowest first, and strings behind their length. */
export class PackedWriter {
  #bytes = Buffer.allocUnsafe(PACKED_BYTES);
  #at = 0;

  /** @throws internal */
  number(value: number): this {
    assertWritable(value);
    this.#makeRoom(NUMBER_BYTES_MAX);
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#byte((rest % 128) | 128);
    this.#byte(rest);
    return this;
  }

  text(value: string): this {
    const length = Buffer.byteLength(value);
    this.number(length);
    this.#makeRoom(length);
    this.#at += this.#bytes.write(value, this.#at);
    return this;
  }

  /** Nothing may be added afterwards. */
  done(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  #byte(byte: number): void {
    this.#bytes[this.#at] = byte;
    this.#at += 1;
  }

  #makeRoom(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }
}

/** Reads what PackedWriter wrote. @throws FormatError from every method */
export class PackedReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  number(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 49; scale *= 128) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) throw new FormatError('it is too short');
      this.#at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return this.#safe(value);
    }
    throw new FormatError('a number is too long');
  }

  /** A number from 0 to 1. */
  flag(): boolean {
    const value = this.number();
    if (value > 1) throw new FormatError('a flag is neither 0 nor 1');
    return value === 1;
  }

  text(): string {
    const length = this.number();
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new FormatError('it is too short');
    const bytes = this.#bytes.subarray(this.#at, end);
    if (!isUtf8(bytes)) throw new FormatError('a text is not UTF-8');
    this.#at = end;
    return bytes.toString();
  }

  /** All that is left, not copied. */
  rest(): Buffer {
    const rest = this.#bytes.subarray(this.#at);
    this.#at = this.#bytes.length;
    return rest;
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw new FormatError('it is too long');
  }

  #safe(value: number): number {
    if (value > Number.MAX_SAFE_INTEGER) throw new FormatError('a number is too large');
    return value;
  }
}
