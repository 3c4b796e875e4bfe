/**
 * Keeps LevelDB from walking into tables that would end the process: it aborts where keys are damaged in some ways (see checkStructure). Tables it
 * writes while it is open are as it wrote them; those that were there before are looked at before they are first touched.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../kit/errors.js';
import { tableProblem, type LiveTable } from './leveldb-files.js';
import { damaged } from './leveldb-records.js';
import { checkStructure, userKey } from './leveldb-table.js';
import type { KeySpan } from './records.js';

/** LevelDB's own log is read from its end, so far. */
const LOG_TAIL_BYTES = 64 * 1024;
/** Levels that LevelDB rewrites by itself soon after it opened: always looked at before. */
const BUSY_LEVEL_MAX = 1;
/** More than a scan reads behind the piece it was asked for: one value. */
const SLACK_BYTES = 2 * 1024 * 1024;

/**
 * The levels whose tables LevelDB was merging when its process ended; none where it ended otherwise. A process that is aborted by a merge would be
 * aborted by it again, at every start.
 */
export async function levelsBeingMerged(directory: string): Promise<ReadonlySet<number>> {
  let unfinished: readonly number[] = [];
  for (const line of (await tailOf(join(directory, 'LOG'))).split('\n')) {
    const merge = /Compacting \d+@(\d+) \+ \d+@(\d+) files/.exec(line);
    if (merge) unfinished = [Number(merge[1]), Number(merge[2])];
    else if (/ compacted to: /.test(line)) unfinished = [];
  }
  return new Set(unfinished);
}

async function tailOf(path: string): Promise<string> {
  try {
    const handle = await open(path, 'r');
    try {
      const { size } = await handle.stat();
      const bytes = Buffer.alloc(Math.min(size, LOG_TAIL_BYTES));
      await handle.read(bytes, 0, bytes.length, size - bytes.length);
      return bytes.toString('latin1');
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

/** Whether a table is to be looked at before LevelDB opens the database. */
export function isBusy({ level }: LiveTable, merging: ReadonlySet<number>): boolean {
  return level <= BUSY_LEVEL_MAX || merging.has(level);
}

interface Known {
  readonly table: LiveTable;
  readonly from: Buffer;
  /** The highest key itself. */
  readonly to: Buffer;
}

/** The tables found at the opening, by level and in order, and which of them were not looked at yet. */
export class UnwalkedTables {
  readonly #path: string;
  readonly #directory: string;
  readonly #levels = new Map<number, Known[]>();
  /** By their numbers. */
  readonly #unwalked = new Set<number>();
  /** By the number of their table. */
  readonly #walks = new Map<number, Promise<void>>();

  constructor(path: string, directory: string, tables: readonly LiveTable[]) {
    this.#path = path;
    this.#directory = directory;
    for (const table of tables) {
      const level = this.#levels.get(table.level) ?? [];
      level.push({ table, from: userKey(table.smallest), to: userKey(table.largest) });
      this.#levels.set(table.level, level);
      this.#unwalked.add(table.number);
    }
    for (const level of this.#levels.values()) level.sort((a, b) => Buffer.compare(a.from, b.from));
  }

  /** Looks at the tables that LevelDB touches when it reads the first `bytes` of a span. @throws data_loss */
  async assertWalkable(span: KeySpan, bytes = Infinity): Promise<void> {
    if (this.#unwalked.size === 0) return;
    for (const { table } of [...this.#levels.values()].flatMap((level) => touched(level, span, bytes))) {
      if (this.#unwalked.has(table.number)) await this.#walk(table);
    }
  }

  /** The table needs no look any more. */
  forget({ number }: { readonly number: number }): void {
    this.#unwalked.delete(number);
  }

  #walk(table: LiveTable): Promise<void> {
    const walk = this.#walks.get(table.number) ?? this.#look(table);
    this.#walks.set(table.number, walk);
    return walk.finally(() => this.#walks.delete(table.number));
  }

  async #look(table: LiveTable): Promise<void> {
    try {
      const problem = await tableProblem(this.#directory, table.number, (open) => checkStructure(open, table));
      if (problem) throw damaged(this.#path, problem.what, problem.cause);
    } catch (error) {
      // LevelDB has merged it into others.
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
    this.forget(table);
  }
}

/** Index of the first table whose highest key is at or behind `key`. */
function firstUpTo(level: readonly Known[], key: Buffer): number {
  let low = 0;
  let high = level.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (Buffer.compare((level[middle] as Known).to, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Tables of one level, from that which holds the beginning of the span, for `bytes` and what may be read behind them. */
function touched(level: readonly Known[], { from, until }: KeySpan, bytes: number): readonly Known[] {
  const found: Known[] = [];
  let left = bytes + SLACK_BYTES;
  for (let index = firstUpTo(level, from); index < level.length; index += 1) {
    const known = level[index] as Known;
    found.push(known);
    if (found.length > 1) left -= known.table.bytes;
    // A scan ends by looking at the key that ends it.
    if (left < 0 || Buffer.compare(known.to, until) >= 0) break;
  }
  return found;
}
