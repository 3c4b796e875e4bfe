import { MusterError } from '../kit/errors.js';
import { silentLogger } from '../kit/logger.js';
import { OpenRecords, type RecordsNames } from './open-records.js';
import type { KeySpan, RecordChange, RecordEngine, Records, Room, Scan, StoredRecord } from './records.js';

const PIECE_BYTES = 256 * 1024;

const UNBOUNDED: Room = {
  puts: Infinity,
  deletes: Infinity,
  refusal: () => new MusterError('internal', 'memory is never refused'),
};

interface Kept {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** A sorted list: what is asked for at the end, where a log grows, is cheap. */
class MemoryRecords implements RecordEngine {
  #kept: Kept[] = [];

  getMany(keys: readonly Buffer[]): Promise<readonly (Buffer | undefined)[]> {
    return Promise.resolve(keys.map((key) => this.#get(key)));
  }

  has(keys: readonly Buffer[]): Promise<readonly boolean[]> {
    return Promise.resolve(keys.map((key) => this.#get(key) !== undefined));
  }

  piece(scan: Scan): Promise<readonly StoredRecord[]> {
    return Promise.resolve(pieceOf(this.#matching(scan), 0, scan));
  }

  async *scan(scan: Scan): AsyncGenerator<readonly StoredRecord[]> {
    const all = this.#matching(scan);
    for (let start = 0; start < all.length;) {
      const piece = await Promise.resolve(pieceOf(all, start, scan));
      start += piece.length;
      yield piece;
    }
  }

  room(): Promise<Room> {
    return Promise.resolve(UNBOUNDED);
  }

  commit(changes: readonly RecordChange[]): Promise<void> {
    for (const { key, value } of changes) {
      const at = this.#firstFrom(key);
      const there = this.#kept[at]?.key.equals(key) ? 1 : 0;
      if (value) this.#kept.splice(at, there, { key: Buffer.from(key), value: Buffer.concat(value) });
      else this.#kept.splice(at, there);
    }
    return Promise.resolve();
  }

  keys(span: KeySpan, limit: number): Promise<readonly Buffer[]> {
    return Promise.resolve(this.#matching({ ...span, limit }).map(({ key }) => Buffer.from(key)));
  }

  compact(): Promise<readonly Buffer[]> {
    return Promise.resolve([]);
  }

  diskBytes(): Promise<number> {
    return Promise.resolve(this.#kept.reduce((sum, { key, value }) => sum + key.length + value.length, 0));
  }

  async *scrub(): AsyncGenerator<string> {
    await Promise.resolve();
  }

  close(): Promise<void> {
    this.#kept = [];
    return Promise.resolve();
  }

  #get(key: Buffer): Buffer | undefined {
    const kept = this.#kept[this.#firstFrom(key)];
    return kept?.key.equals(key) ? Buffer.from(kept.value) : undefined;
  }

  #matching({ from, until, reverse = false, limit }: Scan): readonly Kept[] {
    const kept = this.#kept.slice(this.#firstFrom(from), this.#firstFrom(until));
    if (reverse) kept.reverse();
    return kept.slice(0, limit);
  }

  /** Index of the first key at or after `key`. */
  #firstFrom(key: Buffer): number {
    let low = 0;
    let high = this.#kept.length;
    const last = this.#kept[high - 1];
    if (last && Buffer.compare(last.key, key) < 0) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = this.#kept[middle];
      if (at && Buffer.compare(at.key, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function pieceOf(all: readonly Kept[], start: number, { pieceBytes = PIECE_BYTES }: Scan): StoredRecord[] {
  const piece: StoredRecord[] = [];
  let bytes = 0;
  for (let index = start; index < all.length && bytes <= pieceBytes; index += 1) {
    const kept = all[index];
    if (!kept) break;
    bytes += kept.key.length + kept.value.length;
    piece.push({ key: Buffer.from(kept.key), value: Buffer.from(kept.value) });
  }
  return piece;
}

/** Records that live as long as the process. */
export function openMemoryRecords(names: RecordsNames): Records {
  return new OpenRecords(new MemoryRecords(), names, silentLogger);
}
