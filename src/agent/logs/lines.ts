const NEWLINE = 0x0a;
/** A longer line is handed on in pieces. */
export const LINE_BYTES_MAX = 64 * 1024;

/** A line without its end, in pieces of at most LINE_BYTES_MAX; no character is cut in two. */
export function piecesOf(line: Buffer): string[] {
  const pieces: string[] = [];
  let from = 0;
  while (line.length - from > LINE_BYTES_MAX) {
    const to = characterEnd(line, from + LINE_BYTES_MAX);
    pieces.push(line.subarray(from, to).toString('utf8'));
    from = to;
  }
  pieces.push(line.subarray(from).toString('utf8'));
  return pieces;
}

/** The nearest place before `at` where no character of UTF-8 is cut; `at` itself where the bytes are no UTF-8. */
function characterEnd(bytes: Buffer, at: number): number {
  for (let back = 0; back < 4; back += 1) if (((bytes[at - back] ?? 0) & 0xc0) !== 0x80) return at - back;
  return at;
}

/** Makes lines of chunks of bytes; holds at most LINE_BYTES_MAX of a line that has not ended. Invalid UTF-8 is replaced. */
export class LineSplitter {
  #held: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): string[] {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const lines: string[] = [];
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      lines.push(...piecesOf(bytes.subarray(from, end)));
      from = end + 1;
    }
    while (bytes.length - from > LINE_BYTES_MAX) {
      const to = characterEnd(bytes, from + LINE_BYTES_MAX);
      lines.push(bytes.subarray(from, to).toString('utf8'));
      from = to;
    }
    // A copy: the chunk is used again for the next read.
    this.#held = Buffer.from(bytes.subarray(from));
    return lines;
  }

  /** Forgets a line whose end will never come. */
  drop(): void {
    this.#held = Buffer.alloc(0);
  }
}
