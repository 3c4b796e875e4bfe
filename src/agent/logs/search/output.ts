import { HIT_BYTES_MAX } from '../../../model/log-search.js';
import { characterEnd } from '../lines.js';

/** A line as grep printed it. */
export interface PrintedLine {
  /** From 1, in what grep read. */
  readonly line: number;
  /** Where it begins in what grep read. */
  readonly offset: number;
  readonly match: boolean;
  readonly text: string;
  readonly truncated: boolean;
}

const NEWLINE = 0x0a;
const COLON = 0x3a;
const DASH = 0x2d;
/** Digits and marks before a line: two numbers of at most 16 digits. */
const PREFIX_BYTES_MAX = 40;
const LINE_BYTES_MAX = HIT_BYTES_MAX + PREFIX_BYTES_MAX;

/** Reads what `grep -n -b` prints. Holds the beginning of one line, at most as much as is shown of it. */
export class GrepOutput {
  #held: Buffer = Buffer.alloc(0);
  /** Bytes of the line beyond what is held. */
  #beyond = 0;

  push(chunk: Buffer): PrintedLine[] {
    const lines: PrintedLine[] = [];
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      this.#hold(chunk.subarray(from, end));
      const line = this.#take();
      if (line) lines.push(line);
      from = end + 1;
    }
    this.#hold(chunk.subarray(from));
    return lines;
  }

  #hold(part: Buffer): void {
    const room = LINE_BYTES_MAX - this.#held.length;
    const kept = part.subarray(0, Math.max(room, 0));
    this.#held = this.#held.length === 0 ? Buffer.from(kept) : Buffer.concat([this.#held, kept]);
    this.#beyond += part.length - kept.length;
  }

  #take(): PrintedLine | undefined {
    const [bytes, beyond] = [this.#held, this.#beyond];
    this.#held = Buffer.alloc(0);
    this.#beyond = 0;
    return parse(bytes, beyond);
  }
}

/** Undefined for the mark between groups of lines. */
function parse(bytes: Buffer, beyond: number): PrintedLine | undefined {
  const lineEnd = digitsEnd(bytes, 0);
  const mark = bytes[lineEnd];
  if (lineEnd === 0 || (mark !== COLON && mark !== DASH)) return undefined;
  const offsetEnd = digitsEnd(bytes, lineEnd + 1);
  const text = bytes.subarray(offsetEnd + 1);
  const truncated = beyond > 0 || text.length > HIT_BYTES_MAX;
  return {
    line: Number(bytes.toString('latin1', 0, lineEnd)),
    offset: Number(bytes.toString('latin1', lineEnd + 1, offsetEnd)),
    match: mark === COLON,
    text: text.subarray(0, truncated ? characterEnd(text, HIT_BYTES_MAX) : text.length).toString('utf8'),
    truncated,
  };
}

function digitsEnd(bytes: Buffer, from: number): number {
  let at = from;
  while ((bytes[at] ?? 0) >= 0x30 && (bytes[at] ?? 0) <= 0x39) at += 1;
  return at;
}
