const NEWLINE = 0x0a;
/** A longer line is handed on in pieces. */
export const LINE_BYTES_MAX = 64 * 1024;

/** Makes lines of chunks of bytes; holds at most LINE_BYTES_MAX of a line that has not ended. Invalid UTF-8 is replaced. */
export class LineSplitter {
  #held: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): string[] {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const lines: string[] = [];
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      lines.push(bytes.subarray(from, end).toString('utf8'));
      from = end + 1;
    }
    while (bytes.length - from > LINE_BYTES_MAX) {
      lines.push(bytes.subarray(from, from + LINE_BYTES_MAX).toString('utf8'));
      from += LINE_BYTES_MAX;
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
