/** The part of the Redis protocol (RESP 2) that the bench's own client reads: fast, because the client must not be what limits the peer. */

export type RespValue = Buffer | string | number | null | readonly RespValue[];

const CR = 13;
const MINUS = 45;
const ZERO = 48;

/** An answer that is an error. */
export class RespError extends Error {}

/** Thrown inside the reader alone: the value goes on in bytes that have not come yet. */
const INCOMPLETE = Symbol('incomplete');

/** Cuts answers out of what the socket brings. Strings of a value are views of the bytes they came in. */
export class RespReader {
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;

  /** The answers that are complete with `chunk`. @throws RespError */
  push(chunk: Buffer): RespValue[] {
    this.#bytes = this.#at === this.#bytes.length ? chunk : Buffer.concat([this.#bytes.subarray(this.#at), chunk]);
    this.#at = 0;
    const values: RespValue[] = [];
    while (this.#at < this.#bytes.length) {
      const began = this.#at;
      const value = this.#value();
      if (value === INCOMPLETE) {
        this.#at = began;
        break;
      }
      values.push(value);
    }
    return values;
  }

  #value(): RespValue | typeof INCOMPLETE {
    const end = this.#bytes.indexOf(CR, this.#at);
    if (end < 0 || end + 1 >= this.#bytes.length) return INCOMPLETE;
    const kind = this.#bytes[this.#at] ?? 0;
    const from = this.#at + 1;
    this.#at = end + 2;
    switch (kind) {
      case 36: // $
        return this.#bulk(this.#integer(from, end));
      case 42: // *
        return this.#array(this.#integer(from, end));
      case 58: // :
        return this.#integer(from, end);
      case 43: // +
        return this.#bytes.toString('latin1', from, end);
      default:
        throw new RespError(this.#bytes.toString('latin1', from - 1, end));
    }
  }

  #bulk(length: number): RespValue | typeof INCOMPLETE {
    if (length < 0) return null;
    const from = this.#at;
    if (from + length + 2 > this.#bytes.length) return INCOMPLETE;
    this.#at = from + length + 2;
    return this.#bytes.subarray(from, from + length);
  }

  #array(length: number): RespValue | typeof INCOMPLETE {
    if (length < 0) return null;
    const values: RespValue[] = [];
    for (let index = 0; index < length; index += 1) {
      const value = this.#value();
      if (value === INCOMPLETE) return INCOMPLETE;
      values.push(value);
    }
    return values;
  }

  #integer(from: number, end: number): number {
    const negative = this.#bytes[from] === MINUS;
    let value = 0;
    for (let at = negative ? from + 1 : from; at < end; at += 1) value = value * 10 + (this.#bytes[at] ?? ZERO) - ZERO;
    return negative ? -value : value;
  }
}

/** A command as Redis reads it. */
export function command(...parts: readonly (string | Buffer)[]): Buffer {
  const pieces: Buffer[] = [Buffer.from(`*${parts.length}\r\n`)];
  for (const part of parts) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part;
    pieces.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'));
  }
  return Buffer.concat(pieces);
}
