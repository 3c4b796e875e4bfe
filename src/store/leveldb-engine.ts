import type { MusterError } from '../kit/errors.js';
import type { Engine, Existing, Final, Room } from './engine.js';
import { readError, type LevelDatabase } from './leveldb-database.js';
import {
  META_KEY,
  dataKey,
  decodeRecord,
  encodeMeta,
  encodeRecord,
  keyOf,
  withRecord,
  withoutRecord,
  type Meta,
} from './leveldb-records.js';
import type { Entry, KeyRange } from './port.js';

/** Entries and bytes of one step of a scan; a single larger value goes alone. */
const CHUNK_ENTRIES = 1000;
const CHUNK_BYTES = 256 * 1024;
/** Values read at once while looking up revisions. */
const LOOKUP_KEYS = 64;

/** The first byte string after all that start with `prefix`. UTF-8 has no 0xff byte, so the last byte can be raised. */
function afterPrefix(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  const last = end.length - 1;
  end[last] = (end[last] ?? 0) + 1;
  return end;
}

function laterOf(a: Buffer, b: Buffer): Buffer {
  return Buffer.compare(a, b) >= 0 ? a : b;
}

function earlierOf(a: Buffer, b: Buffer): Buffer {
  return Buffer.compare(a, b) <= 0 ? a : b;
}

/** Bounds of `range` among LevelDB's keys: at or after `gte`, before `lt`. A key's successor is the key and a zero byte. */
export function boundsOf(range: KeyRange): { gte: Buffer; lt: Buffer } {
  const prefix = dataKey(range.prefix ?? '');
  let gte = prefix;
  let lt = afterPrefix(prefix);
  if (range.after !== undefined) gte = laterOf(gte, Buffer.concat([dataKey(range.after), Buffer.alloc(1)]));
  if (range.before !== undefined) lt = earlierOf(lt, dataKey(range.before));
  return { gte, lt };
}

type Operation = { type: 'put'; key: Buffer; value: Buffer } | { type: 'del'; key: Buffer };

/** LevelDB below the store: every record carries its checksum, every batch is synced and carries the store's digest. */
export class LevelEngine implements Engine {
  readonly #database: LevelDatabase;
  #meta: Meta;

  constructor(database: LevelDatabase, meta: Meta) {
    this.#database = database;
    this.#meta = meta;
  }

  get meta(): Meta {
    return this.#meta;
  }

  async get(key: string): Promise<Entry | undefined> {
    const { path, db } = this.#database;
    const bytes = await this.#reading(() => db.get(dataKey(key)) as Promise<Buffer | undefined>);
    if (!bytes) return undefined;
    const { value, revision } = decodeRecord(path, key, bytes);
    return { key, value, revision };
  }

  async lookup(keys: readonly string[]): Promise<ReadonlyMap<string, Existing | MusterError>> {
    const found = new Map<string, Existing | MusterError>();
    for (let start = 0; start < keys.length; start += LOOKUP_KEYS) {
      const chunk = keys.slice(start, start + LOOKUP_KEYS);
      const values = await this.#reading(() => this.#database.db.getMany(chunk.map(dataKey)));
      chunk.forEach((key, index) => {
        const bytes = values[index] as Buffer | undefined;
        if (bytes) found.set(key, this.#existing(key, bytes));
      });
    }
    return found;
  }

  async *scan(range: KeyRange): AsyncGenerator<readonly Entry[]> {
    const { path, db } = this.#database;
    const bounds = boundsOf(range);
    if (Buffer.compare(bounds.gte, bounds.lt) >= 0) return;
    const iterator = await this.#reading(() =>
      Promise.resolve(
        db.iterator({
          ...bounds,
          reverse: range.reverse ?? false,
          limit: range.limit ?? -1,
          highWaterMarkBytes: CHUNK_BYTES,
        }),
      ),
    );
    try {
      for (;;) {
        const chunk = await this.#reading(() => iterator.nextv(CHUNK_ENTRIES));
        if (chunk.length === 0) return;
        yield chunk.map(([stored, bytes]) => {
          const { key, value, revision } = decodeRecord(path, keyOf(path, stored), bytes);
          return { key, value, revision };
        });
      }
    } finally {
      await iterator.close();
    }
  }

  room(): Promise<Room> {
    return this.#database.floor.room();
  }

  async commit(finals: readonly Final[], revision: number): Promise<void> {
    await this.commitWith(finals, { ...this.#meta, revision });
  }

  /** As commit, and sets the schema's version in the same batch. */
  async commitWith(finals: readonly Final[], next: Meta): Promise<void> {
    let { digest } = this.#meta;
    const operations: Operation[] = [];
    for (const final of finals) {
      if (final.before) digest = withoutRecord(digest, final.before);
      if (final.value) {
        const { bytes, mark } = encodeRecord({ ...final, value: final.value });
        digest = withRecord(digest, { revision: final.revision, mark });
        operations.push({ type: 'put', key: dataKey(final.key), value: bytes });
      } else {
        operations.push({ type: 'del', key: dataKey(final.key) });
      }
    }
    const meta = { ...next, digest };
    operations.push({ type: 'put', key: META_KEY, value: encodeMeta(meta) });
    await this.#database.db.batch(operations, { sync: true });
    this.#meta = meta;
    this.#database.acknowledged.record(meta.revision);
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  #existing(key: string, bytes: Buffer): Existing | MusterError {
    try {
      const { revision, mark } = decodeRecord(this.#database.path, key, bytes);
      return { revision, mark };
    } catch (error) {
      return readError(this.#database.path, error);
    }
  }

  async #reading<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      throw readError(this.#database.path, error);
    }
  }
}
