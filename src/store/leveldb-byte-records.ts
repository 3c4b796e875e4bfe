/**
 * Records in LevelDB, specified in docs/queue-format.md:
 *   key         ->  crc32 (u32 LE) | value        crc32 over key | value
 *   one 255 byte ->  crc32 (u32 LE) | JSON of Own  crc32 over the 255 byte | JSON
 */
import { crc32 } from 'node:zlib';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, systemClock, type Clock } from '../kit/clock.js';
import { MusterError, errnoOf, messageOf } from '../kit/errors.js';
import { silentLogger, type Logger } from '../kit/logger.js';
import { isEmpty, openDatabase, readError, type Db, type LevelDatabase } from './leveldb-database.js';
import { scrubFiles, type LiveTable } from './leveldb-files.js';
import { damaged } from './leveldb-records.js';
import { freeBytesOf } from './leveldb-space.js';
import { checkStructure, checkTable, type Table } from './leveldb-table.js';
import { UnwalkedTables, isBusy, levelsBeingMerged } from './leveldb-walk.js';
import { OpenRecords, type RecordsNames } from './open-records.js';
import type { KeySpan, RecordChange, RecordEngine, Records, Room, Scan, StoredRecord } from './records.js';

/** Behind all others: it is written with every commit, and must not make each new table overlap all older ones. */
const OWN_KEY = Buffer.from([255]);
const CRC_BYTES = 4;
/** Records of one step of a scan. */
const PIECE_RECORDS = 1000;
const PIECE_BYTES = 256 * 1024;
/** Values that a list of keys passes over, about. */
const KEYS_BYTES = 64 * 1024 * 1024;
const FREE_SPACE_FLOOR_BYTES = 128 * 1024 * 1024;
const WRITE_BUFFER_BYTES = 16 * 1024 * 1024;
/** Between two pieces of a scrub (256 KiB): it takes a tenth of the time of the process. */
const SCRUB_PAUSE_MS = 4;
/** So much may be left in files after a compaction. */
const LEFT_BYTES_MAX = 64 * 1024;
const TABLE_BYTES = 8 * 1024 * 1024;
const ARENA_BYTES_MAX = 16 * 1024 * 1024;

/** The records' own record, written with every commit. */
interface Own {
  /** Whose data it is, and the version of its bytes. */
  readonly owner: string;
  readonly format: number;
  /** Rises by one with every commit. */
  readonly commit: number;
}

export interface LevelRecordsOptions {
  /** The data directory; made when it is not there. One process at a time. */
  readonly path: string;
  /** Whose data it is, and the version of its bytes: a directory of another owner, or of a newer version, is refused. */
  readonly owner: string;
  readonly format: number;
  readonly names: RecordsNames;
  /** A key for people. */
  readonly describeKey: (key: Buffer) => string;
  /** Values of keys from here on are checked on opening; the others only when they are read. */
  readonly checkedFrom: Buffer;
  readonly logger?: Logger;
  readonly clock?: Clock;
  /** Writes are refused while the disk has less free than this; 0 turns the floor off. Default 128 MiB, which compaction needs for a moment. */
  readonly freeSpaceFloorBytes?: number;
  /** Asks a path's file system for its free bytes; given by tests. */
  readonly freeBytes?: (path: string) => Promise<number>;
  /** Bytes LevelDB gathers in memory, and in its log, before it writes a table. Default 16 MiB. */
  readonly writeBufferBytes?: number;
  /** Whether commits are synced before they resolve. Only for tests which show what is lost otherwise. Default true. */
  readonly sync?: boolean;
}

/** What compaction needs; the types of `level` leave it out, because a browser has none. */
interface Compacting {
  compactRange(from: Buffer, until: Buffer): Promise<void>;
  approximateSize(from: Buffer, until: Buffer): Promise<number>;
}

function canCompact(db: Db): db is Db & Compacting {
  return 'compactRange' in db && typeof db.compactRange === 'function' && 'approximateSize' in db;
}

/** A key before `until`, behind all shorter ones that are. */
function lastBefore(until: Buffer): Buffer {
  const key = Buffer.from(until);
  for (let at = key.length - 1; at >= 0; at -= 1) {
    const byte = key[at] ?? 0;
    key[at] = byte === 0 ? 255 : byte - 1;
    if (byte > 0) break;
  }
  return Buffer.concat([key, Buffer.from([255])]);
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, CRC_BYTES);
}

/** Writes checksum and value to the front of `into`; answers with that part. */
function encode(key: Buffer, pieces: readonly Uint8Array[], into: Buffer): Buffer {
  let crc = crc32(key);
  let at = CRC_BYTES;
  for (const piece of pieces) {
    crc = crc32(piece, crc);
    into.set(piece, at);
    at += piece.length;
  }
  into.writeUInt32LE(crc, 0);
  return into.subarray(0, at);
}

/**
 * Memory for the values of one commit, used again by the next one: a new buffer for each would keep the garbage collector busy. Commits run one at a
 * time, and nothing of the one before is read any more.
 */
class Arena {
  #bytes = Buffer.alloc(0);

  /** Room for so many bytes, with nothing of worth in it. */
  take(length: number): Buffer {
    if (length > ARENA_BYTES_MAX) return Buffer.allocUnsafeSlow(length);
    if (this.#bytes.length < length) this.#bytes = Buffer.allocUnsafeSlow(Math.min(2 * length, ARENA_BYTES_MAX));
    return this.#bytes;
  }
}

/** The value without its checksum; undefined when that does not hold. */
function decode(key: Buffer, bytes: Buffer): Buffer | undefined {
  if (bytes.length < CRC_BYTES) return undefined;
  const value = bytes.subarray(CRC_BYTES);
  return crc32(value, crc32(key)) === bytes.readUInt32LE(0) ? value : undefined;
}

const NONE: ReadonlySet<number> = new Set();

class LevelRecords implements RecordEngine {
  readonly #database: LevelDatabase;
  readonly #options: LevelRecordsOptions;
  readonly #unwalked: UnwalkedTables;
  readonly #arena = new Arena();
  #own: Own;

  constructor(database: LevelDatabase, options: LevelRecordsOptions, own: Own) {
    this.#database = database;
    this.#unwalked = new UnwalkedTables(
      database.path,
      database.directory,
      database.tables.filter((table) => !isBusy(table, NONE)),
    );
    this.#options = options;
    this.#own = own;
  }

  async getMany(keys: readonly Buffer[]): Promise<readonly (Buffer | undefined)[]> {
    await this.#assertWalkable(keys);
    const found = (await this.#reading(() => this.#database.db.getMany([...keys]))) as (Buffer | undefined)[];
    return keys.map((key, index) => {
      const bytes = found[index];
      if (!bytes) return undefined;
      const value = decode(key, bytes);
      if (!value) {
        throw damaged(
          this.#database.path,
          `the value of ${this.#options.describeKey(key)} does not match its checksum`,
        );
      }
      return value;
    });
  }

  async has(keys: readonly Buffer[]): Promise<readonly boolean[]> {
    await this.#assertWalkable(keys);
    return this.#reading(() => this.#database.db.hasMany([...keys]));
  }

  async piece(scan: Scan): Promise<readonly StoredRecord[]> {
    for await (const piece of this.scan(scan)) return piece;
    return [];
  }

  async *scan(scan: Scan): AsyncGenerator<StoredRecord[]> {
    const { from, until, reverse = false, limit = -1, pieceBytes = PIECE_BYTES } = scan;
    if (limit === 0 || Buffer.compare(from, until) >= 0) return;
    const range = { gte: from, lt: until, reverse, limit };
    const iterator = this.#database.db.iterator({ ...range, highWaterMarkBytes: pieceBytes, fillCache: false });
    let start = from;
    try {
      for (;;) {
        // Backwards, all of it: what is read so is short.
        await this.#unwalked.assertWalkable({ from: start, until }, reverse ? Infinity : pieceBytes);
        const found = await this.#reading(() => iterator.nextv(PIECE_RECORDS));
        const last = found.at(-1);
        if (!last) return;
        if (!reverse) start = last[0];
        yield found.map(([key, bytes]) => ({ key, value: decode(key, bytes) }));
      }
    } finally {
      await iterator.close();
    }
  }

  room(): Promise<Room> {
    return this.#database.floor.room();
  }

  async commit(changes: readonly RecordChange[]): Promise<void> {
    const bytes = this.#arena.take(changes.reduce((sum, { value }) => sum + (value ? lengthOf(value) : 0), 0));
    let at = 0;
    // One by one, not as a list of operations: that costs the main thread several times as much.
    const batch = this.#database.db.batch();
    for (const { key, value: pieces } of changes) {
      if (!pieces) {
        batch.del(key);
        continue;
      }
      const value = encode(key, pieces, bytes.subarray(at));
      at += value.length;
      batch.put(key, value);
    }
    const own = { ...this.#own, commit: this.#own.commit + 1 };
    batch.put(OWN_KEY, encodeOwn(own));
    await batch.write(this.#synced);
    this.#own = own;
    this.#database.acknowledged.record(own.commit);
  }

  async keys({ from, until }: KeySpan, limit: number): Promise<readonly Buffer[]> {
    const { db } = this.#database;
    await this.#unwalked.assertWalkable({ from, until }, KEYS_BYTES);
    const iterator = db.keys({ gte: from, lt: until, limit, fillCache: false });
    try {
      return await this.#reading(() => iterator.nextv(limit));
    } finally {
      await iterator.close();
    }
  }

  async compact(span: KeySpan): Promise<readonly Buffer[]> {
    const { db } = this.#database;
    if (!canCompact(db)) return [];
    const { from, until } = span;
    await this.#unwalked.assertWalkable(span);
    await this.#reading(() => db.compactRange(from, until));
    const left = await this.#reading(() => db.approximateSize(from, until));
    // What was written and deleted since the last table was begun has gone into one table, on the lowest level that is free there; LevelDB merges
    // it only with something above it.
    return left < LEFT_BYTES_MAX ? [] : [from, lastBefore(until)];
  }

  async diskBytes(): Promise<number> {
    const { directory } = this.#database;
    const names = await this.#reading(() => readdir(directory));
    const sizes = await Promise.all(names.map((name) => sizeOf(join(directory, name))));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  async *scrub(signal: AbortSignal): AsyncGenerator<string> {
    const { path, directory } = this.#database;
    const clock = this.#options.clock ?? systemClock;
    const scrub = {
      describeKey: this.#options.describeKey,
      pause: () => sleep(clock, SCRUB_PAUSE_MS, signal),
      sound: (table: LiveTable) => {
        this.#unwalked.forget(table);
      },
    };
    try {
      yield* scrubFiles(path, directory, scrub);
    } catch (error) {
      if (!signal.aborted) throw readError(path, error);
    }
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  /** Of every write: the check of the log at the opening rests on each record being synced before the next is begun. */
  get #synced(): { readonly sync: boolean } {
    return { sync: this.#options.sync ?? true };
  }

  async #assertWalkable(keys: readonly Buffer[]): Promise<void> {
    for (const key of keys) await this.#unwalked.assertWalkable({ from: key, until: key }, 0);
  }

  async #reading<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      throw readError(this.#database.path, error);
    }
  }
}

/** 0 for a file that is gone. */
async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

function encodeOwn(own: Own): Buffer {
  const json = [Buffer.from(JSON.stringify(own))];
  return encode(OWN_KEY, json, Buffer.alloc(lengthOf(json)));
}

async function readOwn({ path, db }: LevelDatabase): Promise<Own | undefined> {
  let bytes: Buffer | undefined;
  try {
    // The types leave out that there may be none.
    bytes = await db.get<Buffer, Buffer | undefined>(OWN_KEY, {});
  } catch (error) {
    throw readError(path, error);
  }
  if (!bytes) return undefined;
  const json = decode(OWN_KEY, bytes);
  if (!json) throw damaged(path, 'its own record does not match its checksum');
  try {
    return JSON.parse(json.toString()) as Own;
  } catch (error) {
    throw damaged(path, `its own record is not JSON (${messageOf(error)})`);
  }
}

async function ownOf(database: LevelDatabase, { owner, format }: LevelRecordsOptions): Promise<Own> {
  const { path, db, acknowledgedRevision } = database;
  const own = await readOwn(database);
  if ((own?.commit ?? 0) < acknowledgedRevision) {
    throw damaged(
      path,
      `its newest commit is ${own?.commit ?? 0}, but commit ${acknowledgedRevision} had been acknowledged`,
    );
  }
  if (own) {
    assertOurs(path, own, { owner, format });
    return own;
  }
  if (!(await isEmpty(db))) throw damaged(path, 'it holds keys but not its own record');
  const first = { owner, format, commit: 0 };
  await db.put(OWN_KEY, encodeOwn(first), { sync: true });
  return first;
}

/** @throws precondition */
function assertOurs(path: string, own: Own, wanted: { owner: string; format: number }): void {
  if (own.owner !== wanted.owner) {
    throw new MusterError(
      'precondition',
      `${path} holds the data of ${own.owner}, not of ${wanted.owner}: choose another data directory`,
      { reason: 'WRONG_DATA_DIRECTORY' },
    );
  }
  if (own.format > wanted.format) {
    throw new MusterError(
      'precondition',
      `${path} was written by a newer Muster (format ${own.format}, this one reads up to ${wanted.format}): install that one`,
      { reason: 'NEWER_DATA' },
    );
  }
}

/** Before the opening: all that is not data, the small keys, and what LevelDB may merge at once. The rest is looked at when it is touched. */
async function tableCheck(
  directory: string,
  { describeKey, checkedFrom }: LevelRecordsOptions,
): Promise<(table: Table, live: LiveTable) => Promise<void>> {
  const merging = await levelsBeingMerged(directory);
  return async (table, live) => {
    await checkTable(table, { describeKey, from: checkedFrom });
    if (isBusy(live, merging)) await checkStructure(table, live);
  };
}

/**
 * Opens the records in `options.path`, alone.
 * @throws precondition when another process uses the directory, a newer Muster wrote it or it is another owner's; data_loss when stored bytes
 *   are damaged or acknowledged commits are missing; unavailable when the disk fails; invalid on impossible options
 */
export async function openLevelRecords(options: LevelRecordsOptions): Promise<Records> {
  const logger = options.logger ?? silentLogger;
  const settings = {
    path: options.path,
    logger,
    clock: options.clock ?? systemClock,
    freeSpaceFloorBytes: options.freeSpaceFloorBytes ?? FREE_SPACE_FLOOR_BYTES,
    freeBytes: options.freeBytes ?? freeBytesOf,
    writeBufferBytes: options.writeBufferBytes ?? WRITE_BUFFER_BYTES,
    tableBytes: TABLE_BYTES,
    checkTables: (directory: string) => tableCheck(directory, options),
  };
  return openDatabase(settings, async (database) => {
    const own = await ownOf(database, options);
    return new OpenRecords(new LevelRecords(database, options, own), options.names, logger);
  });
}
