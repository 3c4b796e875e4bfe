/** The guarded opening of LevelDB, on which the document store and the records stand: one process, checked files, nothing made over old data. */
import { readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Level } from 'level';
import type { Clock } from '../kit/clock.js';
import { MusterError, errnoOf, isCode, messageOf } from '../kit/errors.js';
import { makeDirectory, readFileIfThere, syncDirectory } from '../kit/files.js';
import type { Logger } from '../kit/logger.js';
import { Acknowledged } from './leveldb-acknowledged.js';
import { checkFiles, cutTornManifest, type LiveTable } from './leveldb-files.js';
import { DirectoryLock, alreadyRunning } from './leveldb-lock.js';
import { damaged } from './leveldb-records.js';
import { FreeSpaceFloor } from './leveldb-space.js';
import type { Table } from './leveldb-table.js';

export type Db = Level<Buffer, Buffer>;

const LEVEL_DIRECTORY = 'leveldb';
/** The manifest that LevelDB makes with a new database, before it has opened it. */
const FIRST_MANIFEST = 'MANIFEST-000001';

export interface DatabaseSettings {
  /** The data directory; made when it is not there. One process at a time. */
  readonly path: string;
  readonly logger: Logger;
  readonly clock: Clock;
  /** 0 turns the floor off. */
  readonly freeSpaceFloorBytes: number;
  readonly freeBytes: (path: string) => Promise<number>;
  readonly writeBufferBytes: number;
  /** Gives the check of each table before LevelDB opens `directory`; it throws TableDamage or RangeError. */
  readonly checkTables: (directory: string) => Promise<(table: Table, live: LiveTable) => Promise<void>>;
  /** Size at which LevelDB begins a new table. Default: LevelDB's own, 2 MiB. */
  readonly tableBytes?: number;
}

interface OpenedDb {
  readonly db: Db;
  readonly tables: readonly LiveTable[];
}

/** An open LevelDB with what guards it. */
export class LevelDatabase {
  readonly path: string;
  readonly db: Db;
  /** The tables that were there at the opening. */
  readonly tables: readonly LiveTable[];
  readonly floor: FreeSpaceFloor;
  readonly acknowledged: Acknowledged;
  /** What the acknowledged record held at the opening. */
  readonly acknowledgedRevision: number;
  readonly #lock: DirectoryLock;

  constructor(
    settings: DatabaseSettings,
    parts: { opened: OpenedDb; lock: DirectoryLock; acknowledged: { record: Acknowledged; revision: number } },
  ) {
    this.path = settings.path;
    this.db = parts.opened.db;
    this.tables = parts.opened.tables;
    this.acknowledged = parts.acknowledged.record;
    this.acknowledgedRevision = parts.acknowledged.revision;
    this.#lock = parts.lock;
    this.floor = new FreeSpaceFloor({
      path: settings.path,
      floorBytes: settings.freeSpaceFloorBytes,
      freeBytes: settings.freeBytes,
      logger: settings.logger,
      clock: settings.clock,
    });
  }

  /** Where LevelDB's own files are. */
  get directory(): string {
    return join(this.path, LEVEL_DIRECTORY);
  }

  async close(): Promise<void> {
    try {
      await this.acknowledged.settle();
    } finally {
      await this.abandon();
    }
  }

  /** Closes it without a last word to the acknowledged record. */
  async abandon(): Promise<void> {
    await this.acknowledged.close();
    await this.#lock.release();
    await this.db.close();
  }
}

/** What LevelDB threw, as one of our errors. */
export function readError(path: string, error: unknown): MusterError {
  if (isCode(error)) return error;
  if (errnoOf(error) === 'LEVEL_CORRUPTION') return damaged(path, 'LevelDB cannot read one of its files', error);
  return new MusterError('unavailable', `${path} could not be read: check the disk, then restart the process`, {
    cause: error,
  });
}

/** Whether nothing is stored at all. */
export async function isEmpty(db: Db): Promise<boolean> {
  const iterator = db.keys({ limit: 1 });
  try {
    return (await iterator.next()) === undefined;
  } finally {
    await iterator.close();
  }
}

/**
 * Whether LevelDB may start a new database here. Without its CURRENT file LevelDB would start one over existing data and then
 * delete that data as obsolete; a first start that was cut off leaves neither tables nor logs.
 * @throws data_loss
 */
async function mayCreate(path: string, directory: string): Promise<boolean> {
  if ((await readFileIfThere(join(directory, 'CURRENT'))) !== undefined) return false;
  const names = await readdir(directory);
  const data = names.find((name) => /\.(?:ldb|sst|log)$/.test(name));
  if (data !== undefined)
    throw damaged(path, `${LEVEL_DIRECTORY}/CURRENT is missing but ${LEVEL_DIRECTORY}/${data} is there`);
  return true;
}

/**
 * Clears away a first start that a power loss cut off, and says whether there was one. LevelDB does not sync the first manifest that it makes,
 * number 1, and goes on to another before its first open ends; what we store comes after that, with the directory synced in between. So a
 * CURRENT that still names number 1, with no table and nothing in a log, belongs to a store that never held anything.
 */
async function clearedCutOffStart(directory: string): Promise<boolean> {
  const current = await readFileIfThere(join(directory, 'CURRENT'));
  if (current?.trim() !== FIRST_MANIFEST) return false;
  for (const name of await readdir(directory)) {
    if (/\.(?:ldb|sst)$/.test(name)) return false;
    if (name.endsWith('.log') && (await stat(join(directory, name))).size > 0) return false;
  }
  await rm(directory, { recursive: true });
  await makeDirectory(directory, 0o700);
  return true;
}

function openError(path: string, error: unknown, otherPid?: number): MusterError {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (errnoOf(cause) === 'LEVEL_LOCKED') return alreadyRunning(path, otherPid);
  if (errnoOf(cause) === 'LEVEL_CORRUPTION') {
    return damaged(path, `LevelDB cannot open it (${messageOf(cause)})`, cause);
  }
  return new MusterError(
    'unavailable',
    `${path} could not be opened (${messageOf(cause)}): check the disk, its free space and who owns the directory, then start again`,
    { cause },
  );
}

/** Checks the files of a database that is there, cuts the torn end of its manifest, and says which tables it has. @throws data_loss */
async function checkDirectory(
  { path, logger, checkTables }: DatabaseSettings,
  directory: string,
): Promise<readonly LiveTable[]> {
  const { tables, tornManifest } = await checkFiles(path, directory, await checkTables(directory));
  if (tornManifest) {
    await cutTornManifest(directory, tornManifest);
    logger.warn('the end of the manifest, not yet synced when the power went, was cut off; a copy is kept', {
      path: join(directory, `${tornManifest.name}.torn`),
    });
  }
  return tables;
}

async function openDb(settings: DatabaseSettings, lock: DirectoryLock): Promise<OpenedDb> {
  const { path } = settings;
  const directory = join(path, LEVEL_DIRECTORY);
  await makeDirectory(directory, 0o700);
  const createIfMissing = (await clearedCutOffStart(directory)) || (await mayCreate(path, directory));
  const tables = createIfMissing ? [] : await checkDirectory(settings, directory);
  const db: Db = new Level(directory, {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    createIfMissing,
    // checkFiles reads the blocks as they are.
    compression: false,
    writeBufferSize: settings.writeBufferBytes,
    ...(settings.tableBytes === undefined ? {} : { maxFileSize: settings.tableBytes }),
  });
  try {
    await db.open();
  } catch (error) {
    throw openError(path, error, await lock.otherPid());
  }
  if (createIfMissing) for (const made of [directory, path, dirname(path)]) await syncDirectory(made);
  return { db, tables };
}

async function openLocked<T>(
  settings: DatabaseSettings,
  lock: DirectoryLock,
  use: (database: LevelDatabase) => Promise<T>,
): Promise<T> {
  let opened: OpenedDb | undefined;
  let database: LevelDatabase | undefined;
  try {
    opened = await openDb(settings, lock);
    const acknowledged = await Acknowledged.open(settings.path, settings.clock);
    database = new LevelDatabase(settings, { opened, lock, acknowledged });
    return await use(database);
  } catch (error) {
    if (database) await database.abandon();
    else {
      await lock.release();
      await opened?.db.close();
    }
    throw isCode(error) ? error : openError(settings.path, error);
  }
}

/**
 * Opens the database in `settings.path`, alone, once its files are checked, and hands it to `use`; where that throws, it is closed again.
 * @throws precondition when another process uses the directory (`already running as pid N`); data_loss when stored bytes are damaged;
 *   unavailable when the disk fails; invalid on impossible settings
 */
export async function openDatabase<T>(
  settings: DatabaseSettings,
  use: (database: LevelDatabase) => Promise<T>,
): Promise<T> {
  if (!(settings.freeSpaceFloorBytes >= 0)) {
    throw new MusterError(
      'invalid',
      `freeSpaceFloorBytes must be a number of bytes from 0, not ${settings.freeSpaceFloorBytes}`,
    );
  }
  await makeDirectory(settings.path, 0o700);
  const lock = await DirectoryLock.take(settings.path);
  return openLocked(settings, lock, use);
}
