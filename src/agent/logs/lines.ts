import { checkOf, type Check } from './position.js';

const NEWLINE = 0x0a;
/** A longer line is handed on in pieces. */
export const LINE_BYTES_MAX = 64 * 1024;

/** A line without its end, or a piece of one that is longer than LINE_BYTES_MAX. */
export interface Line {
  readonly text: string;
  /** The offset behind it, and behind its end where it has ended; counted as the offsets of the chunks were. */
  readonly end: number;
  /** Of its last bytes. */
  readonly check: Check;
}

/** The nearest place before `at` where no character of UTF-8 is cut; `at` itself where the bytes are no UTF-8. */
export function characterEnd(bytes: Buffer, at: number): number {
  for (let back = 0; back < 4; back += 1) if (((bytes[at - back] ?? 0) & 0xc0) !== 0x80) return at - back;
  return at;
}

/** Makes lines of chunks of bytes; holds at most LINE_BYTES_MAX of a line that has not ended. Invalid UTF-8 is replaced. */
export class LineSplitter {
  #held: Buffer = Buffer.alloc(0);
  /** Of the first byte held. */
  #offset = 0;

  /** Where what was given as lines ends; what is held is behind it. */
  get offset(): number {
    return this.#offset;
  }

  /** `at` is the offset of the chunk: it follows what is held, or nothing is held. */
  push(chunk: Buffer, at: number): Line[] {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const base = at - this.#held.length;
    const lines: Line[] = [];
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      from = this.#cutPieces(bytes.subarray(0, end), from, base, lines);
      lines.push(lineOf(bytes, { from, to: end, until: end + 1 }, base));
      from = end + 1;
    }
    from = this.#cutPieces(bytes, from, base, lines);
    // A copy: the chunk is used again for the next read.
    this.#held = Buffer.from(bytes.subarray(from));
    this.#offset = base + from;
    return lines;
  }

  /** The line that has begun and not ended, where there is one. */
  rest(): Line[] {
    const bytes = this.#held;
    if (bytes.length === 0) return [];
    const line = lineOf(bytes, { from: 0, to: bytes.length, until: bytes.length }, this.#offset);
    this.drop();
    return [line];
  }

  /** Forgets a line whose end will never come. */
  drop(): void {
    this.#held = Buffer.alloc(0);
  }

  /** Pieces of what is longer than a line may be. @returns where the rest of it begins */
  #cutPieces(bytes: Buffer, begin: number, base: number, lines: Line[]): number {
    let from = begin;
    while (bytes.length - from > LINE_BYTES_MAX) {
      const to = characterEnd(bytes, from + LINE_BYTES_MAX);
      lines.push(lineOf(bytes, { from, to, until: to }, base));
      from = to;
    }
    return from;
  }
}

function lineOf(bytes: Buffer, { from, to, until }: { from: number; to: number; until: number }, base: number): Line {
  return {
    text: bytes.subarray(from, to).toString('utf8'),
    end: base + until,
    check: checkOf(bytes.subarray(from, until)),
  };
}
