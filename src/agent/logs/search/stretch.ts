import type { LogBytes } from './bytes.js';
import { TIME_CHARACTERS, timeOf } from './times.js';

/** Where in a log the lines of a span of time are, found by looking at a few places of it. */

export interface TimeSpan {
  readonly sinceMs: number | undefined;
  readonly untilMs: number | undefined;
}

export interface TimedLine {
  readonly offset: number;
  readonly ms: number;
}

export interface Stretch {
  /** Bytes that hold every line of the span, and others. */
  readonly from: number;
  readonly to: number;
  /** Undefined: no line seen carries a time. */
  readonly first: TimedLine | undefined;
  readonly last: TimedLine | undefined;
  /** Every line of the file is in the span. */
  readonly inside: boolean;
  readonly ordered: boolean;
}

/**
 * Lines may be so much out of the order of their times: a service writes some when what they tell of is over, several writers share
 * a file, and local time goes back an hour in autumn.
 */
export const DISORDER_MS = 75 * 60_000;
const CHUNK_BYTES = 64 * 1024;
/** Where lines are short and carry times, one is near. */
const FIRST_BYTES = 4096;
/** Places whose times tell whether a file is in their order. */
const SAMPLES = 32;
/** How far a line with a time is looked for. */
const LOOK_BYTES_MAX = 1024 * 1024;
const NEWLINE = 0x0a;

/** The lines with a time that begin in bytes [from, to), in order. */
async function timedLines(bytes: LogBytes, from: number, to: number, referenceMs: number): Promise<TimedLine[]> {
  const before = from > bytes.begin ? 1 : 0;
  const chunk = await bytes.read(from - before, to - from + before + TIME_CHARACTERS);
  const lines: TimedLine[] = [];
  let start = before === 0 || chunk[0] === NEWLINE ? before : nextLine(chunk, before);
  while (start >= 0 && start < to - from + before && start < chunk.length) {
    const time = timeOf(chunk.toString('latin1', start, headEnd(chunk, start)), referenceMs);
    if (time) lines.push({ offset: from - before + start, ms: time.ms });
    start = nextLine(chunk, start);
  }
  return lines;
}

function nextLine(chunk: Buffer, from: number): number {
  const end = chunk.indexOf(NEWLINE, from);
  return end < 0 ? -1 : end + 1;
}

function headEnd(chunk: Buffer, start: number): number {
  const end = chunk.subarray(start, start + TIME_CHARACTERS).indexOf(NEWLINE);
  return end < 0 ? Math.min(start + TIME_CHARACTERS, chunk.length) : start + end;
}

/** The first line with a time that begins in [from, to); none is looked for beyond LOOK_BYTES_MAX. */
async function firstTimed(
  bytes: LogBytes,
  from: number,
  to: number,
  referenceMs: number,
): Promise<TimedLine | undefined> {
  const end = Math.min(to, from + LOOK_BYTES_MAX);
  for (let at = from, bytesMax = FIRST_BYTES; at < end; bytesMax = CHUNK_BYTES) {
    const until = Math.min(at + bytesMax, end);
    const [first] = await timedLines(bytes, at, until, referenceMs);
    if (first) return first;
    at = until;
  }
  return undefined;
}

/** The last line with a time that begins in [least, end). */
export async function lastTimed(
  bytes: LogBytes,
  least: number,
  end: number,
  referenceMs: number,
): Promise<TimedLine | undefined> {
  for (let to = end; to > least; to -= CHUNK_BYTES) {
    const last = (await timedLines(bytes, Math.max(least, to - CHUNK_BYTES), to, referenceMs)).at(-1);
    if (last) return last;
  }
  return undefined;
}

export async function stretchOf(bytes: LogBytes, span: TimeSpan, referenceMs: number): Promise<Stretch> {
  const { begin, size } = bytes;
  const first = await firstTimed(bytes, begin, size, referenceMs);
  const whole = { from: begin, to: size, first, last: first, inside: false, ordered: true };
  if (!first) return whole;
  const last = (await lastTimed(bytes, Math.max(first.offset, size - LOOK_BYTES_MAX), size, referenceMs)) ?? first;
  if (last.ms + DISORDER_MS < first.ms) return { ...whole, last, ordered: false };
  if (contains(span, first.ms, last.ms)) return { ...whole, last, inside: true };
  return { ...whole, last, ...(await narrowed(bytes, span, first, referenceMs)) };
}

function contains({ sinceMs = -Infinity, untilMs = Infinity }: TimeSpan, firstMs: number, lastMs: number): boolean {
  return firstMs - DISORDER_MS >= sinceMs && lastMs + DISORDER_MS < untilMs;
}

async function narrowed(
  bytes: LogBytes,
  { sinceMs, untilMs }: TimeSpan,
  first: TimedLine,
  referenceMs: number,
): Promise<Pick<Stretch, 'from' | 'to' | 'ordered'>> {
  const { begin, size } = bytes;
  if (!(await isOrdered(bytes, first, referenceMs))) return { from: begin, to: size, ordered: false };
  const search = new Bisection(bytes, referenceMs);
  const since = sinceMs === undefined ? first.offset : await search.boundary(first, sinceMs - DISORDER_MS);
  const to = untilMs === undefined ? size : await search.boundary(first, untilMs + DISORDER_MS);
  if (!search.ordered) return { from: begin, to: size, ordered: false };
  return { from: since <= first.offset ? begin : since, to, ordered: true };
}

async function isOrdered(bytes: LogBytes, first: TimedLine, referenceMs: number): Promise<boolean> {
  let latestMs = first.ms;
  const step = Math.floor((bytes.size - first.offset) / SAMPLES);
  for (let sample = 1; sample < SAMPLES && step > 0; sample += 1) {
    const from = first.offset + sample * step;
    const line = await firstTimed(bytes, from, Math.min(from + step, bytes.size), referenceMs);
    if (line && line.ms + DISORDER_MS < latestMs) return false;
    latestMs = Math.max(latestMs, line?.ms ?? latestMs);
  }
  return true;
}

/** Finds places by their time, and notices where times go back by more than DISORDER_MS. */
class Bisection {
  readonly #bytes: LogBytes;
  readonly #referenceMs: number;
  ordered = true;

  constructor(bytes: LogBytes, referenceMs: number) {
    this.#bytes = bytes;
    this.#referenceMs = referenceMs;
  }

  /** Where the first line of `ms` or later begins; the size where there is none. */
  async boundary(first: TimedLine, ms: number): Promise<number> {
    if (first.ms >= ms) return first.offset;
    let low = first;
    /** Nothing that begins behind `offset` and before `found` has a time. */
    let high = { offset: this.#bytes.size, found: this.#bytes.size, ms: Infinity };
    while (high.offset - low.offset > CHUNK_BYTES) {
      const middle = low.offset + Math.floor((high.offset - low.offset) / 2);
      const line = await firstTimed(this.#bytes, middle, high.offset, this.#referenceMs);
      this.#compare(line, low.ms, high.ms);
      if (line && line.ms < ms) low = line;
      else high = line ? { offset: middle, found: line.offset, ms: line.ms } : { ...high, offset: middle };
    }
    const lines = await timedLines(this.#bytes, low.offset, high.offset, this.#referenceMs);
    return lines.find((line) => line.ms >= ms)?.offset ?? high.found;
  }

  #compare(line: TimedLine | undefined, lowMs: number, highMs: number): void {
    if (line && (line.ms + DISORDER_MS < lowMs || line.ms - DISORDER_MS > highMs)) this.ordered = false;
  }
}
