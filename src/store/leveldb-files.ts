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
import { damaged } from './leveldb-records.js';
import { Table, TableDamage, checkTable, type TableBounds } from './leveldb-table.js';
import { VarintReader } from './leveldb-varints.js';

const LOG_BLOCK_BYTES = 32_768;
const LOG_HEADER_BYTES = 7;
const FULL = 1;
const FIRST = 2;
const LAST = 4;
const BEGINS: ReadonlySet<number> = new Set([FULL, FIRST]);
const ENDS: ReadonlySet<number> = new Set([FULL, LAST]);

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

/** What stands where a record of a log can begin; undefined: no whole record with the right checksum. */
function* places(bytes: Buffer): Generator<{ readonly at: number; readonly fragment: Fragment | undefined }> {
  let at = 0;
  while (at + LOG_HEADER_BYTES <= bytes.length) {
    const fragment = fragmentAt(bytes, at);
    yield { at, fragment };
    at = fragment ? nextHeader(at + LOG_HEADER_BYTES + fragment.payload.length) : blockEnd(at);
  }
}

/** Bytes of a log that are read in one go where it is read in steps. */
const STEP_BYTES = 8 * LOG_BLOCK_BYTES;

/**
 * Reads a log, step by step. Every record was synced before the next was begun, so only the last one may be torn: a record that begins behind
 * damage shows that the damage hit bytes which had been synced.
 */
function* logSteps(bytes: Buffer): Generator<undefined, LogContents> {
  const records: Buffer[] = [];
  let pieces: Buffer[] = [];
  let torn: number | undefined;
  let wholeBytes = 0;
  let step = STEP_BYTES;
  for (const { at, fragment } of places(bytes)) {
    if (at >= step) {
      step += STEP_BYTES;
      yield;
    }
    if (!fragment) {
      torn ??= at;
      continue;
    }
    const begins = BEGINS.has(fragment.type);
    if (begins && torn !== undefined) return { records, wholeBytes, torn: true, damagedAt: torn };
    if (begins) pieces = [];
    pieces.push(fragment.payload);
    if (!ENDS.has(fragment.type)) continue;
    records.push(Buffer.concat(pieces));
    wholeBytes = at + LOG_HEADER_BYTES + fragment.payload.length;
  }
  return { records, wholeBytes, torn: torn !== undefined, damagedAt: undefined };
}

/** Reads a log at once. */
export function readLog(bytes: Buffer): LogContents {
  const steps = logSteps(bytes);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** A table that holds data. */
export interface LiveTable extends TableBounds {
  readonly number: number;
  readonly level: number;
  readonly bytes: number;
}

/** The tables and logs that hold data; other files are left-overs that LevelDB removes. */
export interface LiveFiles {
  readonly tables: readonly LiveTable[];
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
function applyEdit(edit: Buffer, live: { tables: Map<number, LiveTable>; logNumber: number }): void {
  const reader = new VarintReader(edit);
  const readers: Record<number, () => void> = {
    1: () => reader.string(), // comparator
    2: () => (live.logNumber = reader.varint()),
    3: () => reader.varint(), // next file number
    4: () => reader.varint(), // last sequence
    5: () => [reader.varint(), reader.string()], // compaction pointer
    6: () => [reader.varint(), live.tables.delete(reader.varint())],
    7: () => {
      const [level, number, bytes] = [reader.varint(), reader.varint(), reader.varint()];
      live.tables.set(number, { level, number, bytes, smallest: reader.string(), largest: reader.string() });
    },
    9: () => reader.varint(), // previous log number
  };
  while (!reader.done) {
    const tag = reader.varint();
    const read = readers[tag];
    if (!read) throw new RangeError(`unknown tag ${tag}`);
    read();
  }
}

/** What the manifest names. @throws data_loss */
export async function liveFiles(path: string, directory: string): Promise<LiveFiles> {
  const name = (await readFile(join(directory, 'CURRENT'), 'utf8')).trim();
  if (!/^MANIFEST-\d+$/.test(name)) throw damaged(path, 'CURRENT does not name a manifest');
  const { records, wholeBytes, torn, damagedAt } = readLog(await readLive(path, directory, name));
  if (damagedAt !== undefined || records.length === 0) throw damaged(path, `${name} does not match its checksum`);
  const live = { tables: new Map<number, LiveTable>(), logNumber: 0 };
  try {
    for (const record of records) applyEdit(record, live);
  } catch (error) {
    throw damaged(path, `${name} cannot be read`, error);
  }
  return {
    tables: [...live.tables.values()],
    logNumber: live.logNumber,
    tornManifest: torn ? { name, wholeBytes } : undefined,
  };
}

async function readLive(path: string, directory: string, name: string): Promise<Buffer> {
  try {
    return await readFile(join(directory, name));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw damaged(path, `${name} is missing`);
    throw error;
  }
}

/** What is wrong in one table, for people; undefined: nothing. @throws the system's error, ENOENT included */
export async function tableProblem(
  directory: string,
  number: number,
  check: (table: Table) => Promise<void>,
  pause?: () => Promise<void>,
): Promise<{ readonly what: string; readonly cause: unknown } | undefined> {
  const { name, table } = await openTable(directory, number, pause);
  try {
    await check(table);
    return undefined;
  } catch (cause) {
    if (cause instanceof TableDamage) return { what: `table ${name} ${cause.message}`, cause };
    // The footer has no checksum of its own: damaged handles in it lead anywhere.
    if (cause instanceof RangeError) return { what: `table ${name} cannot be read`, cause };
    throw cause;
  } finally {
    await table.close();
  }
}

/** A table has one of two names, by the version of LevelDB that made it. */
async function openTable(
  directory: string,
  number: number,
  pause?: () => Promise<void>,
): Promise<{ name: string; table: Table }> {
  const names = [`${fileBase(number)}.ldb`, `${fileBase(number)}.sst`] as const;
  try {
    return { name: names[0], table: await Table.open(join(directory, names[0]), pause) };
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return { name: names[1], table: await Table.open(join(directory, names[1]), pause) };
  }
}

async function checkLiveTable(
  path: string,
  directory: string,
  live: LiveTable,
  check: (table: Table, live: LiveTable) => Promise<void>,
): Promise<void> {
  try {
    const problem = await tableProblem(directory, live.number, (table) => check(table, live));
    if (problem) throw damaged(path, problem.what, problem.cause);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw damaged(path, `${fileBase(live.number)}.ldb is missing`);
    throw error;
  }
}

/** Names of the logs that hold data. */
export function liveLogs(names: readonly string[], logNumber: number): readonly string[] {
  return names.filter((name) => {
    const number = /^(\d+)\.log$/.exec(name)?.[1];
    return number !== undefined && Number(number) >= logNumber;
  });
}

/**
 * Checks every live table, as `check` does, and every live log below `directory` without changing anything. Answers with what there is, with the
 * manifest where its end is torn and all that the rest of it names is there: LevelDB removes the files of the state before only after the edit is
 * synced, so that state is then whole. Damage to an edit that had been synced looks the same but for files that are missing.
 * @throws data_loss naming the file and, within a table, the keys around the damage
 */
export async function checkFiles(
  path: string,
  directory: string,
  check: (table: Table, live: LiveTable) => Promise<void>,
): Promise<LiveFiles> {
  const live = await liveFiles(path, directory);
  const names = await readdir(directory);
  for (const table of live.tables) await checkLiveTable(path, directory, table, check);
  for (const name of liveLogs(names, live.logNumber)) {
    const { damagedAt } = readLog(await readLive(path, directory, name));
    if (damagedAt !== undefined) throw damaged(path, `log ${name} is damaged at byte ${damagedAt}`);
  }
  if (live.tornManifest && !names.includes(`${fileBase(live.logNumber)}.log`)) {
    throw damaged(path, `${live.tornManifest.name} does not match its checksum`);
  }
  return live;
}

export interface Scrub {
  readonly describeKey: (key: Buffer) => string;
  /** Waits before each piece is read; throws where the scrub is to end. */
  readonly pause: () => Promise<void>;
  /** Told of each table that holds. */
  readonly sound: (table: LiveTable) => void;
}

/**
 * Reads every live file of an open database once, a piece at a time, and says what does not match its checksum. Files that LevelDB removes
 * meanwhile are passed over: what they held is in others.
 */
export async function* scrubFiles(path: string, directory: string, scrub: Scrub): AsyncGenerator<string> {
  const { tables, logNumber } = await liveFiles(path, directory);
  for (const live of tables) {
    const check = (table: Table): Promise<void> => checkTable(table, { describeKey: scrub.describeKey });
    const problem = await unlessGone(() => tableProblem(directory, live.number, check, scrub.pause));
    if (problem) yield problem.what;
    else scrub.sound(live);
  }
  for (const name of liveLogs(await readdir(directory), logNumber)) {
    const bytes = (await unlessGone(() => readFile(join(directory, name)))) ?? Buffer.alloc(0);
    const steps = logSteps(bytes);
    for (let step = steps.next(); ; step = steps.next()) {
      await scrub.pause();
      if (!step.done) continue;
      if (step.value.damagedAt !== undefined) yield `log ${name} is damaged at byte ${step.value.damagedAt}`;
      break;
    }
  }
}

async function unlessGone<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
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
