import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readFileIfThere, writeFileDurably } from '../../kit/files.js';

/** Bytes [start, end) of what the service wrote to the file with this inode, which were cut off its front. */
export interface Piece {
  readonly inode: number;
  /** Of the rotated file they went to; 0: they were dropped. */
  readonly number: number;
  readonly start: number;
  readonly end: number;
  /** Bytes [end, until) were overwritten by a line that says so; `end` otherwise. */
  readonly until: number;
}

export interface PiecePlace {
  readonly root: string;
  readonly name: string;
}

/** Remembered of one log file; older ones can be had only if nobody needs to know where in the log they belong. */
export const PIECES_MAX = 1024;

/**
 * What was cut off each log file, so that a place in a log can be found again after any number of cuts, by another agent too. One small
 * file per log, in a directory of the agent's own; it is rewritten before a rotation counts as done.
 */
export class Pieces {
  readonly #directory: string;
  readonly #lists = new Map<string, Promise<readonly Piece[]>>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** In the order they were cut off. */
  of(place: PiecePlace): Promise<readonly Piece[]> {
    const path = this.#path(place);
    const known = this.#lists.get(path);
    if (known) return known;
    const list = readList(path).catch((error: unknown) => {
      this.#lists.delete(path);
      throw error;
    });
    this.#lists.set(path, list);
    return list;
  }

  /** The number of the newest rotated file that is remembered; 0: none. */
  async lastNumber(place: PiecePlace): Promise<number> {
    return Math.max(0, ...(await this.of(place)).map(({ number }) => number));
  }

  /** A rotated file was made of the next bytes of the file with this inode. Resolves when that is durable; safe to repeat. */
  async rotated(place: PiecePlace, made: { inode: number; number: number; bytes: number }): Promise<void> {
    const list = await this.of(place);
    const { inode, number, bytes } = made;
    if (list.some((piece) => piece.number === number)) return;
    const start = baseOf(list, inode);
    await this.#write(place, [...list, { inode, number, start, end: start + bytes, until: start + bytes }]);
  }

  /** The next bytes were dropped; a line that says so took the place of so many behind them. */
  async dropped(place: PiecePlace, lost: { inode: number; bytes: number; overwritten: number }): Promise<void> {
    const list = await this.of(place);
    const start = baseOf(list, lost.inode);
    const end = start + lost.bytes;
    await this.#write(place, [...list, { inode: lost.inode, number: 0, start, end, until: end + lost.overwritten }]);
  }

  async #write(place: PiecePlace, all: readonly Piece[]): Promise<void> {
    const pieces = all.slice(-PIECES_MAX);
    const path = this.#path(place);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const rows = pieces.map(({ inode, number, start, end, until }) => [inode, number, start, end, until]);
    await writeFileDurably(path, JSON.stringify({ root: place.root, name: place.name, pieces: rows }));
    this.#lists.set(path, Promise.resolve(pieces));
  }

  #path({ root, name }: PiecePlace): string {
    const key = createHash('sha256').update(`${root}\0${name}`).digest('hex').slice(0, 32);
    return join(this.#directory, `${key}.pieces`);
  }
}

/** Where the bytes begin that the file with this inode still holds. */
export function baseOf(pieces: readonly Piece[], inode: number): number {
  return pieces.findLast((piece) => piece.inode === inode)?.end ?? 0;
}

/** One that cannot be read counts as none: places before the next rotation are then told by their check. */
async function readList(path: string): Promise<readonly Piece[]> {
  const text = await readFileIfThere(path);
  if (text === undefined) return [];
  try {
    const { pieces } = JSON.parse(text) as { pieces: unknown };
    return Array.isArray(pieces) ? pieces.flatMap(pieceOf) : [];
  } catch {
    return [];
  }
}

function pieceOf(row: unknown): Piece[] {
  if (!Array.isArray(row) || !row.every((value) => Number.isSafeInteger(value))) return [];
  const [inode, number, start, end, until] = row as (number | undefined)[];
  if (inode === undefined || number === undefined || start === undefined) return [];
  return end === undefined || until === undefined ? [] : [{ inode, number, start, end, until }];
}
