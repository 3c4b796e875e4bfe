import { dirname, join } from 'node:path';
import { sleep, type Clock } from '../../kit/clock.js';
import { batched, type LogText } from './batches.js';
import { beginning, type Slice } from './last-lines.js';
import { LineSplitter, type Line } from './lines.js';
import { LiveLog } from './live.js';
import { rotatedName } from './names.js';
import { baseOf, type Piece, type Pieces } from './pieces.js';
import { CHECK_BYTES_MAX, checkOf, fits, formatPosition, NO_CHECK, parsePosition, type FilePlace } from './position.js';
import { readPlain, RotatedReader } from './rotated.js';

export interface TailOptions {
  /** Name of a log file, relative to the log directory; the service's output where left out. */
  readonly file?: string | undefined;
  /** How many of the lines there are; at most LINES_MAX. */
  readonly lines: number;
  readonly follow: boolean;
  /** Go on behind this place instead: a position as it came with a line. */
  readonly position?: string | undefined;
}

export interface TailPlace {
  readonly root: string;
  readonly name: string;
  readonly clock: Clock;
  readonly pieces: Pieces;
  /** Runs work while the front of the file is not being cut. */
  readonly exclusive: <T>(work: () => Promise<T>) => Promise<T>;
}

/** Lines that can be asked for at once. */
export const LINES_MAX = 10_000;
const CHUNK_BYTES = 64 * 1024;
const POLL_MS = 200;
/** Looks at the end of a file that was replaced, before it is left: the service may still write its last lines there. */
const REPLACED_LOOKS = 5;
const NOTHING: Buffer = Buffer.alloc(0);

/**
 * Reads one log by offsets in what the service wrote (see docs/logs.md), wherever those bytes are when they are read: in a rotated file,
 * compressed or not, or in the live one. It waits for its reader, and keeps nobody else waiting: it holds one chunk and one unfinished
 * line, the live file open, and a compressed one at most.
 */
export class Tail {
  readonly #place: TailPlace;
  readonly #options: TailOptions;
  readonly #splitter = new LineSplitter();
  /** Behind the last byte read; undefined while there is no log. */
  #at: FilePlace | undefined;
  /** The last bytes read of the file that is being read. */
  #recent: Buffer | undefined;
  #live: LiveLog | undefined;
  #rotated: RotatedReader | undefined;
  /** Pieces up to this rotated file are older than a log that was not there. */
  #before = 0;
  #looks = 0;
  /** Where to end without `follow`; known once the live file is reached. */
  #until: number | undefined;
  #lost: { readonly first: string; readonly last: string; readonly bytes: number } | undefined;
  /** To be given before what is read next. */
  #out: LogText[] = [];

  /** @throws invalid for a position that is none of this log */
  constructor(place: TailPlace, options: TailOptions) {
    this.#place = place;
    this.#options = options;
    const { position = '' } = options;
    if (position !== '') this.#at = parsePosition(place.name, position);
  }

  /** Lines in batches. Ends by itself without `follow`. @throws denied where the log is no plain file */
  async *read(signal: AbortSignal): AsyncGenerator<readonly LogText[]> {
    if (!this.#at) {
      yield* batched(await this.#place.exclusive(() => this.#begin()));
      if (!this.#options.follow) return;
    }
    while (!signal.aborted) {
      const bytes = await this.#next();
      yield* batched(this.#texts(bytes));
      if (bytes?.length !== 0) continue;
      if (!this.#options.follow) return;
      await sleep(this.#place.clock, POLL_MS, signal).catch(() => undefined);
    }
  }

  /** What is to be said, then the lines that these bytes end. */
  #texts(bytes: Buffer | undefined): LogText[] {
    const lines = bytes && this.#at ? this.#splitter.push(bytes, this.#at.offset - bytes.length) : [];
    if (bytes?.length === 0 && !this.#options.follow) lines.push(...this.#splitter.rest());
    return [...this.#out.splice(0), ...lines.map((line) => this.#text(line))];
  }

  /** A file was removed: it is not held open, however long nobody reads. */
  removed(name: string): void {
    if (this.#rotated?.place.name === name.replace(/\.gz$/, '')) this.#rotated.letGo();
  }

  async close(): Promise<void> {
    this.#rotated?.close();
    await this.#live?.close();
    this.#live = undefined;
  }

  #text({ text, end, check }: Line): LogText {
    const { name } = this.#place;
    const position = formatPosition(name, { inode: this.#at?.inode ?? 0, offset: end, check });
    return { file: name, text, notice: false, position };
  }

  #say(text: string): void {
    this.#sayLost();
    this.#out.push({ file: this.#place.name, text, notice: true, position: '' });
  }

  /** The last lines there are, those of the newest rotated file included; leaves the place behind the last whole one. */
  async #begin(): Promise<LogText[]> {
    const { pieces } = this.#place;
    const list = await pieces.of(this.#place);
    this.#before = await pieces.lastNumber(this.#place);
    const live = await LiveLog.open(this.#place);
    this.#live = live;
    if (!live) return [];
    const base = baseOf(list, live.inode);
    const piece = list.findLast(({ inode }) => inode === live.inode);
    const { lines, end } = await beginning((from, to) => live.slice(from, to, base), {
      begin: base,
      end: await live.end(base),
      wanted: Math.min(Math.max(this.#options.lines, 0), LINES_MAX),
      unended: !this.#options.follow,
      earlier: piece && piece.number > 0 ? { slice: this.#sliceOf(piece), begin: piece.start } : undefined,
    });
    this.#at = { inode: live.inode, offset: end, check: lines.at(-1)?.check ?? NO_CHECK };
    return lines.map((line) => this.#text(line));
  }

  /** Of a rotated file that is not compressed, as the newest one is. */
  #sliceOf({ number, start }: Piece): Slice {
    const place = { root: this.#place.root, name: this.#nameOf(number) };
    return async (from, to) => (await readPlain(place, from - start, to - from)) ?? NOTHING;
  }

  /** The next bytes; none at the end of what there is; undefined: look again at once. */
  async #next(): Promise<Buffer | undefined> {
    const bytes = (await this.#nextRotated()) ?? (await this.#nextLive());
    if (bytes) this.#sayLost();
    return bytes;
  }

  /** The first one that holds what is to be read next; undefined: the live file does. */
  #pieceAt(pieces: readonly Piece[]): Piece | undefined {
    const at = this.#at;
    if (!at) return undefined;
    return pieces.find(
      ({ inode, end, until }) => inode === at.inode && (end > at.offset || (until > at.offset && end !== at.offset)),
    );
  }

  async #nextRotated(): Promise<Buffer | undefined> {
    for (;;) {
      const piece = this.#pieceAt(await this.#place.pieces.of(this.#place));
      if (!piece || !this.#at) return undefined;
      const bytes = await this.#readPiece(piece, this.#at);
      if (bytes) return bytes;
    }
  }

  async #readPiece(piece: Piece, at: FilePlace): Promise<Buffer | undefined> {
    const { inode, number, start, end } = piece;
    if (number === 0) {
      this.#say('lines were dropped here: the disk is nearly full');
      this.#jump(inode, end);
      return undefined;
    }
    if (at.offset < start) {
      this.#say(`lines were left out here: ${start - at.offset} bytes cannot be had any more`);
      this.#jump(inode, start);
      return undefined;
    }
    const reader = await this.#readerOf(piece, at);
    if (!reader) {
      this.#sayEmptied();
      this.#jump(inode, start);
      return undefined;
    }
    const bytes = await reader.read(Math.min(CHUNK_BYTES, end - at.offset));
    if (bytes && bytes.length > 0) {
      this.#advance(bytes, end);
      return bytes;
    }
    const name = this.#nameOf(number);
    this.#lost = {
      first: this.#lost?.first ?? name,
      last: name,
      bytes: (this.#lost?.bytes ?? 0) + end - at.offset,
    };
    this.#jump(inode, end);
    return undefined;
  }

  /** Undefined when the bytes before the place are not those that were read. */
  async #readerOf({ number, start }: Piece, { offset, check }: FilePlace): Promise<RotatedReader | undefined> {
    const name = this.#nameOf(number);
    if (this.#rotated?.place.name === name) return this.#rotated;
    this.#rotated?.close();
    const back = check.bytes <= offset - start ? check.bytes : 0;
    this.#rotated = new RotatedReader({ root: this.#place.root, name }, offset - start - back);
    const before: Buffer[] = [];
    for (let left = back; left > 0;) {
      const bytes = await this.#rotated.read(left);
      if (!bytes || bytes.length === 0) return this.#rotated;
      before.push(bytes);
      left -= bytes.length;
    }
    if (back === 0 || fits(check, Buffer.concat(before))) return this.#rotated;
    this.#rotated.close();
    this.#rotated = undefined;
    return undefined;
  }

  async #nextLive(): Promise<Buffer | undefined> {
    this.#rotated?.close();
    this.#rotated = undefined;
    return this.#place.exclusive(async () => {
      const pieces = await this.#place.pieces.of(this.#place);
      // It was cut since.
      if (this.#pieceAt(pieces)) return undefined;
      const live = (this.#live ??= await this.#open(pieces));
      return live ? this.#readLive(live, pieces) : NOTHING;
    });
  }

  async #open(pieces: readonly Piece[]): Promise<LiveLog | undefined> {
    const live = await LiveLog.open(this.#place);
    if (!live || live.inode === this.#at?.inode) return live;
    if (this.#at) {
      const renamed = await LiveLog.openRenamed(this.#place, this.#at, baseOf(pieces, this.#at.inode));
      if (renamed) {
        await live.close();
        return renamed;
      }
      this.#say('the log was replaced here, and the lines that the earlier file had behind this cannot be had');
    }
    this.#moveTo(live.inode, pieces);
    return live;
  }

  async #readLive(live: LiveLog, pieces: readonly Piece[]): Promise<Buffer | undefined> {
    const at = this.#at;
    if (at?.inode !== live.inode) {
      // Its first piece is to be read before it.
      this.#moveTo(live.inode, pieces);
      return undefined;
    }
    const base = baseOf(pieces, live.inode);
    if (!this.#options.follow) this.#until ??= await live.end(base);
    // Behind the end: it was emptied, which reading finds.
    const left = (this.#until ?? Infinity) - at.offset;
    const room = left < 0 ? CHUNK_BYTES : Math.min(CHUNK_BYTES, left);
    const bytes = room === 0 ? NOTHING : await live.read(at, base, room);
    if (!bytes) {
      this.#sayEmptied();
      live.emptied();
      this.#until = undefined;
      this.#jump(live.inode, base);
      return undefined;
    }
    if (bytes.length === 0) return this.#atEnd(live, pieces);
    this.#looks = 0;
    this.#advance(bytes);
    return bytes;
  }

  /** The service may put another file in its place: the old one, read to its end, is let go. */
  async #atEnd(live: LiveLog, pieces: readonly Piece[]): Promise<Buffer | undefined> {
    if (!(await live.isReplaced(this.#place))) return NOTHING;
    this.#looks += 1;
    if (this.#options.follow && this.#looks < REPLACED_LOOKS) return NOTHING;
    const next = await LiveLog.open(this.#place);
    if (!next) return NOTHING;
    await live.close();
    this.#live = next;
    this.#until = undefined;
    this.#moveTo(next.inode, pieces);
    return undefined;
  }

  /** Goes on at the beginning of another file; what was cut off it meanwhile comes first. */
  #moveTo(inode: number, pieces: readonly Piece[]): void {
    this.#looks = 0;
    this.#out.push(...this.#splitter.rest().map((line) => this.#text(line)));
    const before = pieces.findLastIndex((piece) => piece.inode === this.#at?.inode);
    const first = pieces.find((piece, index) => index > before && piece.inode === inode && piece.number > this.#before);
    this.#jump(inode, first?.start ?? baseOf(pieces, inode));
  }

  #sayLost(): void {
    const lost = this.#lost;
    this.#lost = undefined;
    if (!lost) return;
    const files = lost.first === lost.last ? lost.first : `${lost.first} to ${lost.last}`;
    this.#say(`lines were left out here: ${files} (${lost.bytes} bytes) cannot be had any more`);
  }

  #sayEmptied(): void {
    this.#say('the log was emptied here: lines that were not read before that cannot be had');
  }

  #advance(bytes: Buffer, pieceEnd?: number): void {
    if (!this.#at) return;
    const offset = this.#at.offset + bytes.length;
    const recent = Buffer.concat([this.#recent ?? NOTHING, bytes]).subarray(-CHECK_BYTES_MAX);
    // What comes next is in another file.
    this.#recent = offset === pieceEnd ? NOTHING : Buffer.from(recent);
    this.#at = { inode: this.#at.inode, offset, check: checkOf(this.#recent) };
  }

  /** Nothing is known of the bytes before the new place. */
  #jump(inode: number, offset: number): void {
    this.#splitter.drop();
    this.#recent = undefined;
    this.#at = { inode, offset, check: NO_CHECK };
  }

  #nameOf(number: number): string {
    const { name } = this.#place;
    const base = rotatedName(name.slice(name.lastIndexOf('/') + 1), number);
    return join(dirname(name), base);
  }
}
