/**
 * Checks LevelDB's own checksums of the files it is about to open. LevelDB, as its Node binding opens it, verifies no table checksum:
 * a flipped bit becomes a wrong value, or an assertion that aborts the process in the middle of a compaction.
 * Formats: doc/log_format.md and doc/table_format.md of LevelDB; db/version_edit.cc for the manifest.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../kit/errors.js';
import { writeFileDurably } from '../kit/files.js';
import { maskedCrc32c } from './leveldb-crc32c.js';
import { damaged, describeKey } from './leveldb-records.js';

const LOG_BLOCK_BYTES = 32_768;
const LOG_HEADER_BYTES = 7;
const FULL = 1;
const FIRST = 2;
const LAST = 4;

const FOOTER_BYTES = 48;
const MAGIC = 0xdb4775248b80fb57n;
/** Behind each block of a table: how it is compressed, and a checksum of both. */
const TRAILER_BYTES = 5;
/** Behind the user's key in every key of a table: sequence and kind. */
const INTERNAL_BYTES = 8;

/** Reads LevelDB's variable-length numbers and strings. @throws RangeError at the end of the bytes */
class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#bytes.readUInt8(this.#at);
      this.#at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new RangeError('the bytes end too early');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  string(): Buffer {
    return this.take(this.varint());
  }
}

interface Fragment {
  readonly type: number;
  readonly payload: Buffer;
}

function blockEnd(at: number): number {
  return at - (at % LOG_BLOCK_BYTES) + LOG_BLOCK_BYTES;
}

/** Where the next header can be: the end of a block that is too short for one is filled with zeros. */
function nextHeader(at: number): number {
  return blockEnd(at) - at < LOG_HEADER_BYTES ? blockEnd(at) : at;
}

/** The record at `at` of a log, or undefined when its bytes are not a whole record with the right checksum. */
function fragmentAt(bytes: Buffer, at: number): Fragment | undefined {
  const start = at + LOG_HEADER_BYTES;
  const length = bytes.readUInt16LE(at + 4);
  if (start + length > Math.min(blockEnd(at), bytes.length)) return undefined;
  const type = bytes.readUInt8(at + 6);
  if (type < FULL || type > LAST || maskedCrc32c(bytes.subarray(at + 6, start + length)) !== bytes.readUInt32LE(at))
    return undefined;
  return { type, payload: bytes.subarray(start, start + length) };
}

interface LogContents {
  readonly records: readonly Buffer[];
  /** Behind the last whole record. */
  readonly wholeBytes: number;
  /** Whether anything but zeros of a block's end stands behind the last whole record. */
  readonly torn: boolean;
  /** Offset of damage that is not the end of the log: whole records begin behind it. */
  readonly damagedAt: number | undefined;
}

/**
 * Reads a log. Every record was synced before the next was begun, so only the last one may be torn: a record that begins behind
 * damage shows that the damage hit bytes which had been synced.
 */
export function readLog(bytes: Buffer): LogContents {
  const records: Buffer[] = [];
  let pieces: Buffer[] = [];
  let torn: number | undefined;
  let wholeBytes = 0;
  let at = 0;
  while (at + LOG_HEADER_BYTES <= bytes.length) {
    const fragment = fragmentAt(bytes, at);
    if (fragment) {
      const begins = fragment.type === FULL || fragment.type === FIRST;
      if (begins && torn !== undefined) return { records, wholeBytes, torn: true, damagedAt: torn };
      pieces = begins ? [fragment.payload] : [...pieces, fragment.payload];
      if (fragment.type === FULL || fragment.type === LAST) {
        records.push(Buffer.concat(pieces));
        wholeBytes = at + LOG_HEADER_BYTES + fragment.payload.length;
      }
      at = nextHeader(at + LOG_HEADER_BYTES + fragment.payload.length);
    } else {
      torn ??= at;
      at = blockEnd(at);
    }
  }
  return { records, wholeBytes, torn: torn !== undefined, damagedAt: undefined };
}

/** The tables and logs that hold data; other files are left-overs that LevelDB removes. */
interface LiveFiles {
  readonly tables: ReadonlySet<number>;
  /** Logs from this number on are live. */
  readonly logNumber: number;
  readonly tornManifest: TornManifest | undefined;
}

/** A manifest with rubbish behind its last whole record: a power loss met an edit that was not yet synced. */
export interface TornManifest {
  readonly name: string;
  readonly wholeBytes: number;
}

/** How each tag of a version edit is read; what is not named here is not part of the format. */
function applyEdit(edit: Buffer, live: { tables: Set<number>; logNumber: number }): void {
  const cursor = new Cursor(edit);
  const readers: Record<number, () => void> = {
    1: () => cursor.string(), // comparator
    2: () => (live.logNumber = cursor.varint()),
    3: () => cursor.varint(), // next file number
    4: () => cursor.varint(), // last sequence
    5: () => [cursor.varint(), cursor.string()], // compaction pointer
    6: () => [cursor.varint(), live.tables.delete(cursor.varint())],
    7: () => [cursor.varint(), live.tables.add(cursor.varint()), cursor.varint(), cursor.string(), cursor.string()],
    9: () => cursor.varint(), // previous log number
  };
  while (!cursor.done) {
    const tag = cursor.varint();
    const reader = readers[tag];
    if (!reader) throw new RangeError(`unknown tag ${tag}`);
    reader();
  }
}

async function liveFiles(path: string, directory: string): Promise<LiveFiles> {
  const name = (await readFile(join(directory, 'CURRENT'), 'utf8')).trim();
  if (!/^MANIFEST-\d+$/.test(name)) throw damaged(path, 'CURRENT does not name a manifest');
  const { records, wholeBytes, torn, damagedAt } = readLog(await readLive(path, directory, name));
  if (damagedAt !== undefined || records.length === 0) throw damaged(path, `${name} does not match its checksum`);
  const live = { tables: new Set<number>(), logNumber: 0, tornManifest: torn ? { name, wholeBytes } : undefined };
  try {
    for (const record of records) applyEdit(record, live);
  } catch (error) {
    throw damaged(path, `${name} cannot be read`, error);
  }
  return live;
}

async function readLive(path: string, directory: string, name: string): Promise<Buffer> {
  try {
    return await readFile(join(directory, name));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw damaged(path, `${name} is missing`);
    throw error;
  }
}

/** The block at a handle (offset, size), checked; undefined when its checksum does not hold. */
function blockAt(table: Buffer, handle: Cursor): Buffer | undefined {
  const offset = handle.varint();
  const size = handle.varint();
  const end = offset + size + TRAILER_BYTES;
  if (end > table.length) return undefined;
  const holds = maskedCrc32c(table.subarray(offset, offset + size + 1)) === table.readUInt32LE(end - 4);
  return holds ? table.subarray(offset, offset + size) : undefined;
}

/** Keys and values of an index block, whose keys share no bytes because every entry is a restart point. */
function* entriesOf(block: Buffer): Generator<{ key: Buffer; value: Buffer }> {
  const restarts = block.readUInt32LE(block.length - 4);
  const cursor = new Cursor(block.subarray(0, block.length - 4 - 4 * restarts));
  while (!cursor.done) {
    cursor.varint();
    const keyBytes = cursor.varint();
    const valueBytes = cursor.varint();
    yield { key: cursor.take(keyBytes), value: cursor.take(valueBytes) };
  }
}

/** What is damaged in a table; undefined: nothing. */
function tableDamage(table: Buffer): string | undefined {
  if (table.length < FOOTER_BYTES) return 'is too short';
  const footer = table.subarray(table.length - FOOTER_BYTES);
  if (footer.readBigUInt64LE(FOOTER_BYTES - 8) !== MAGIC) return 'does not end as a table does';
  const handles = new Cursor(footer);
  const metaIndex = blockAt(table, handles);
  const index = blockAt(table, handles);
  if (!metaIndex || !index) return 'has a damaged index';
  for (const { value } of entriesOf(metaIndex)) if (!blockAt(table, new Cursor(value))) return 'has a damaged filter';
  let after: Buffer | undefined;
  for (const { key, value } of entriesOf(index)) {
    const until = key.subarray(0, key.length - INTERNAL_BYTES);
    if (!blockAt(table, new Cursor(value))) {
      return `has a damaged block, with keys ${after ? `from ${describeKey(after)} ` : ''}up to ${describeKey(until)}`;
    }
    after = until;
  }
  return undefined;
}

function checkTable(path: string, name: string, table: Buffer): void {
  let what: string | undefined;
  try {
    what = tableDamage(table);
  } catch (error) {
    // The footer has no checksum of its own: damaged handles in it lead anywhere.
    throw damaged(path, `table ${name} cannot be read`, error);
  }
  if (what !== undefined) throw damaged(path, `table ${name} ${what}`);
}

/**
 * Checks every live table and log below `directory` without changing anything; one file is in memory at a time. Returns the manifest where its
 * end is torn and all that the rest of it names is there: LevelDB removes the files of the state before only after the edit is synced, so that
 * state is then whole. Damage to an edit that had been synced looks the same but for files that are missing.
 * @throws data_loss naming the file and, within a table, the keys around the damage
 */
export async function checkFiles(path: string, directory: string): Promise<TornManifest | undefined> {
  const { tables, logNumber, tornManifest } = await liveFiles(path, directory);
  const names = await readdir(directory);
  for (const number of tables) {
    const base = fileBase(number);
    const name = names.includes(`${base}.sst`) ? `${base}.sst` : `${base}.ldb`;
    checkTable(path, name, await readLive(path, directory, name));
  }
  for (const name of names) {
    const number = /^(\d+)\.log$/.exec(name)?.[1];
    if (number === undefined || Number(number) < logNumber) continue;
    const { damagedAt } = readLog(await readLive(path, directory, name));
    if (damagedAt !== undefined) throw damaged(path, `log ${name} is damaged at byte ${damagedAt}`);
  }
  if (tornManifest && !names.includes(`${fileBase(logNumber)}.log`)) {
    throw damaged(path, `${tornManifest.name} does not match its checksum`);
  }
  return tornManifest;
}

function fileBase(number: number): string {
  return String(number).padStart(6, '0');
}

/**
 * Takes the rubbish off a manifest's end, which LevelDB would refuse to open; a copy of all of it stays beside, as NAME.torn. What is read
 * afterwards is still held against the digest of the records and the acknowledged revision.
 */
export async function cutTornManifest(directory: string, { name, wholeBytes }: TornManifest): Promise<void> {
  const bytes = await readFile(join(directory, name));
  await writeFileDurably(join(directory, `${name}.torn`), bytes);
  await writeFileDurably(join(directory, name), bytes.subarray(0, wholeBytes));
}
