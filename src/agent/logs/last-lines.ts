import { LineSplitter, type Line } from './lines.js';

/** How far back lines are looked for. */
const BACK_BYTES_MAX = 8 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/** Bytes that can be read anywhere. */
export type Slice = (from: number, to: number) => Promise<Buffer>;

/** What a log is begun with. */
export interface Beginning {
  readonly lines: readonly Line[];
  /** Where reading goes on. */
  readonly end: number;
}

export interface BeginningWish {
  readonly begin: number;
  readonly end: number;
  readonly wanted: number;
  /** With what has begun and not ended, as one more line. */
  readonly unended: boolean;
  /** The bytes before `begin`, as far as they can be had. */
  readonly earlier?: { readonly slice: Slice; readonly begin: number } | undefined;
}

/** The last lines of bytes [begin, end); where that is all of them, those before it too. */
export async function beginning(slice: Slice, wish: BeginningWish): Promise<Beginning> {
  const { begin, end, wanted, earlier } = wish;
  if (wanted === 0) return { lines: [], end: (await lastLines(slice, { begin, end }, 1)).end };
  const found = await lastLines(slice, { begin, end }, wanted);
  const rest = wish.unended ? await unended(slice, found.end, end) : [];
  const { whole } = rest.length > 0 ? await lastLines(slice, { begin, end: found.end }, wanted - 1) : found;
  const missing = found.all ? wanted - whole.length - Math.min(rest.length, 1) : 0;
  const before =
    earlier && missing > 0 ? (await lastLines(earlier.slice, { ...earlier, end: begin }, missing)).whole : [];
  return { lines: [...before, ...whole, ...rest], end: rest.length > 0 ? end : found.end };
}

async function unended(slice: Slice, from: number, to: number): Promise<readonly Line[]> {
  const splitter = new LineSplitter();
  const lines: Line[] = [];
  for (let at = from; at < to; at += CHUNK_BYTES)
    lines.push(...splitter.push(await slice(at, Math.min(to, at + CHUNK_BYTES)), at));
  return [...lines, ...splitter.rest()];
}

interface LastLines {
  readonly whole: readonly Line[];
  /** Behind the last line end, or where looking back ended when there is none. */
  readonly end: number;
  /** Whether all bytes were looked at. */
  readonly all: boolean;
}

/** The last whole lines of bytes [begin, end), at most `wanted` with all their pieces. Looks back BACK_BYTES_MAX at most. */
async function lastLines(
  slice: Slice,
  { begin, end }: { readonly begin: number; readonly end: number },
  wanted: number,
): Promise<LastLines> {
  const least = Math.max(begin, end - BACK_BYTES_MAX);
  const parts: Buffer[] = [];
  let from = end;
  let ends = 0;
  while (from > least && ends <= wanted) {
    const next = Math.max(least, from - CHUNK_BYTES);
    const part = await slice(next, from);
    ends += countEnds(part);
    parts.unshift(part);
    from = next;
  }
  const bytes = Buffer.concat(parts);
  const lastEnd = bytes.lastIndexOf(NEWLINE) + 1;
  if (lastEnd === 0) return { whole: [], end: from, all: from === begin };
  // The first one may have begun earlier.
  const first = from > begin ? bytes.indexOf(NEWLINE) + 1 : 0;
  const start = startOfLast(bytes, { first, lastEnd }, wanted);
  const splitter = new LineSplitter();
  const whole = splitter.push(bytes.subarray(start, lastEnd), from + start);
  return { whole, end: from + lastEnd, all: from === begin };
}

function startOfLast(bytes: Buffer, { first, lastEnd }: { first: number; lastEnd: number }, wanted: number): number {
  let start = lastEnd;
  for (let line = 0; line < wanted && start > first; line += 1) {
    start = start < 2 ? 0 : bytes.lastIndexOf(NEWLINE, start - 2) + 1;
  }
  return Math.max(start, first);
}

function countEnds(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) count += 1;
  return count;
}
