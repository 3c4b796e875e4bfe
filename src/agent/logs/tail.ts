import { constants } from 'node:fs';
import { stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { sleep, type Clock } from '../../kit/clock.js';
import { errnoOf } from '../../kit/errors.js';
import { markBytes } from './cut.js';
import { openInside } from '../system/directory.js';
import { LineSplitter, piecesOf } from './lines.js';
import { parseRotated, rotatedName } from './names.js';
import type { Cut } from './rotation.js';

export interface TailOptions {
  /** Name of a log file, relative to the log directory; the service's output where left out. */
  readonly file?: string;
  /** How many of the lines there are; at most LINES_MAX. */
  readonly lines: number;
  readonly follow: boolean;
}

/** One line, or something said about the lines. */
export interface LogText {
  readonly file: string;
  readonly text: string;
  readonly notice: boolean;
}

export interface TailPlace {
  readonly root: string;
  readonly name: string;
  readonly clock: Clock;
}

/** Lines that can be asked for at once. */
export const LINES_MAX = 10_000;
/** How far back they are looked for. */
const BACK_BYTES_MAX = 8 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
const POLL_MS = 200;

/** Rotated files that a follower keeps open until it has read them, so that compressing or removing them leaves no gap; and their bytes. */
const HELD_FILES_MAX = 32;
const HELD_BYTES_MAX = 128 * 1024 * 1024;

/** Bytes of a rotated file still to be read. */
interface Piece {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  /** Open since the cut; undefined beyond what may be held: then the name is all there is. */
  readonly held: Promise<FileHandle | undefined> | undefined;
}

/**
 * Reads one log from its end. Between its reads the file may be cut at the front: the cut tells (onCut, while nobody reads), and what
 * was not read yet is then read from the rotated file. It waits for its reader, so it buffers one chunk and one unfinished line at most.
 */
export class Tail {
  readonly #place: TailPlace;
  readonly #options: TailOptions;
  readonly #exclusive: <T>(work: () => Promise<T>) => Promise<T>;
  readonly #splitter = new LineSplitter();
  readonly #chunk = Buffer.alloc(CHUNK_BYTES);
  #pieces: Piece[] = [];
  #live: { readonly handle: FileHandle; readonly inode: number } | undefined;
  #at = 0;
  #positioned = false;
  #notices: string[] = [];

  constructor(place: TailPlace, options: TailOptions, exclusive: <T>(work: () => Promise<T>) => Promise<T>) {
    this.#place = place;
    this.#options = options;
    this.#exclusive = exclusive;
  }

  /** Called when the front of the file was cut, never during a read. */
  readonly onCut = (cut: Cut): void => {
    if (!this.#positioned) return;
    if (this.#at >= cut.end) {
      this.#at -= cut.shift;
      return;
    }
    if (cut.rotated === '') this.#notices.push('lines were dropped here: the disk is nearly full');
    else {
      const name = join(dirname(this.#place.name), cut.rotated);
      const [from, to] = [Math.max(this.#at - cut.from, 0), cut.end - cut.from];
      this.#pieces.push({ name, from, to, held: this.#mayHold(to - from) ? this.#hold(name) : undefined });
    }
    this.#at = cut.begin;
  };

  async *read(signal: AbortSignal): AsyncGenerator<LogText> {
    for (const line of await this.#exclusive(() => this.#lastLines())) yield this.#line(line);
    if (!this.#options.follow) return;
    while (!signal.aborted) {
      const chunk = await this.#exclusive(() => this.#next());
      for (const notice of this.#notices.splice(0)) yield { file: this.#place.name, text: notice, notice: true };
      for (const line of this.#splitter.push(chunk)) yield this.#line(line);
      if (chunk.length === 0) await sleep(this.#place.clock, POLL_MS, signal).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    for (const piece of this.#pieces.splice(0)) await release(piece);
    await this.#closeLive();
  }

  async #closeLive(): Promise<void> {
    await this.#live?.handle.close();
    this.#live = undefined;
  }

  #mayHold(bytes: number): boolean {
    const held = this.#pieces.filter((piece) => piece.held !== undefined);
    const heldBytes = held.reduce((sum, { from, to }) => sum + to - from, bytes);
    return held.length < HELD_FILES_MAX && heldBytes <= HELD_BYTES_MAX;
  }

  /** A file that cannot be opened is met, and said, when it is read. */
  #hold(name: string): Promise<FileHandle | undefined> {
    return openIfThere(this.#place.root, name).catch(() => undefined);
  }

  #line(text: string): LogText {
    return { file: this.#place.name, text, notice: false };
  }

  /** The last lines there are, those of the newest rotated file included; leaves the position behind the last one. */
  async #lastLines(): Promise<string[]> {
    const wanted = Math.min(Math.max(this.#options.lines, 0), LINES_MAX);
    this.#positioned = true;
    const live = await this.#open();
    if (!live) return [];
    const { size } = await live.stat();
    const begin = Math.min(await markBytes(live), size);
    const lines = await readBack(live, begin, size, wanted);
    this.#at = size;
    const begun = this.#options.follow ? this.#splitter.push(Buffer.from(lines.rest)) : [];
    if (!this.#options.follow && lines.rest.length > 0) lines.whole.push(lines.rest.toString('utf8'));
    const missing = wanted - lines.whole.length;
    const earlier = missing > 0 && begin > 0 ? await this.#earlier(live, missing) : [];
    if (wanted === 0) return [];
    const last = [...earlier, ...lines.whole].slice(-wanted);
    return [...last.flatMap((line) => piecesOf(Buffer.from(line))), ...begun];
  }

  /** Lines of the file that the mark at the front names, while that is not compressed. */
  async #earlier(live: FileHandle, wanted: number): Promise<string[]> {
    const { buffer, bytesRead } = await live.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, 0);
    const named = /^\[muster: earlier lines are in ([^/\n]+)\]/.exec(
      buffer.subarray(0, bytesRead).toString('utf8'),
    )?.[1];
    const parsed = named === undefined ? undefined : parseRotated(named);
    if (!parsed) return [];
    const name = join(dirname(this.#place.name), rotatedName(parsed.of, parsed.number));
    const file = await openIfThere(this.#place.root, name);
    if (!file) return [];
    try {
      const { size } = await file.stat();
      return (await readBack(file, 0, size, wanted)).whole;
    } finally {
      await file.close();
    }
  }

  /** The next bytes: of what was rotated away unread, else of the live file. */
  async #next(): Promise<Buffer> {
    for (let piece = this.#pieces[0]; piece; piece = this.#pieces[0]) {
      const bytes = await this.#readPiece(piece);
      if (bytes.length > 0) return bytes;
      this.#pieces.shift();
      await release(piece);
    }
    const live = await this.#open();
    if (!live) return Buffer.alloc(0);
    const { size } = await live.stat();
    if (size < this.#at) {
      this.#at = 0;
      this.#splitter.drop();
      this.#notices.push('the log was emptied here');
    }
    const { bytesRead } = await live.read(this.#chunk, 0, CHUNK_BYTES, this.#at);
    this.#at += bytesRead;
    if (bytesRead === 0) await this.#followReplacement();
    return this.#chunk.subarray(0, bytesRead);
  }

  async #readPiece(piece: Piece): Promise<Buffer> {
    const held = await piece.held;
    const file = held ?? (await openIfThere(this.#place.root, piece.name));
    if (!file) {
      this.#notices.push(`lines were left out here: ${piece.name} was removed or compressed before they were read`);
      this.#splitter.drop();
      return Buffer.alloc(0);
    }
    try {
      const room = Math.min(CHUNK_BYTES, piece.to - piece.from);
      const { bytesRead } = await file.read(this.#chunk, 0, room, piece.from);
      this.#pieces[0] = { ...piece, from: piece.from + bytesRead };
      return this.#chunk.subarray(0, bytesRead);
    } finally {
      if (!held) await file.close();
    }
  }

  async #open(): Promise<FileHandle | undefined> {
    if (this.#live) return this.#live.handle;
    const handle = await openIfThere(this.#place.root, this.#place.name);
    if (!handle) return undefined;
    this.#live = { handle, inode: (await handle.stat()).ino };
    return handle;
  }

  /** The service may put another file in its place: the old one, read to its end, is let go. */
  async #followReplacement(): Promise<void> {
    const facts = await stat(join(this.#place.root, this.#place.name)).catch(() => undefined);
    if (!this.#live || facts?.ino === this.#live.inode) return;
    await this.#closeLive();
    this.#at = 0;
  }
}

async function release(piece: Piece): Promise<void> {
  await (await piece.held)?.close();
}

async function openIfThere(root: string, name: string): Promise<FileHandle | undefined> {
  try {
    return await openInside(root, name, constants.O_RDONLY);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** The last whole lines of bytes [begin, end), and what follows the last line end. Looks back BACK_BYTES_MAX at most. */
async function readBack(
  file: FileHandle,
  begin: number,
  end: number,
  wanted: number,
): Promise<{ whole: string[]; rest: Buffer }> {
  const least = Math.max(begin, end - BACK_BYTES_MAX);
  let bytes = Buffer.alloc(0);
  let from = end;
  while (from > least && countLines(bytes) <= wanted) {
    const size = Math.min(CHUNK_BYTES, from - least);
    const piece = Buffer.alloc(size);
    const { bytesRead } = await file.read(piece, 0, size, from - size);
    bytes = Buffer.concat([piece.subarray(0, bytesRead), bytes]);
    from -= size;
  }
  const lastEnd = bytes.lastIndexOf(0x0a);
  const rest = bytes.subarray(lastEnd + 1);
  if (lastEnd < 0) return { whole: [], rest };
  const lines = bytes.subarray(0, lastEnd).toString('utf8').split('\n');
  // The first one may have begun earlier.
  if (from > begin) lines.shift();
  return { whole: wanted === 0 ? [] : lines.slice(-wanted), rest };
}

function countLines(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) count += 1;
  return count;
}
