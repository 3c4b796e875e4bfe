import { readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Level } from 'level';
import { systemClock, type Clock } from '../kit/clock.js';
import { MusterError, errnoOf, isCode, messageOf } from '../kit/errors.js';
import { makeDirectory, readFileIfThere, syncDirectory } from '../kit/files.js';
import { silentLogger, type Logger } from '../kit/logger.js';
import { EngineStore } from './engine-store.js';
import { Acknowledged } from './leveldb-acknowledged.js';
import { assertAcknowledged, checkEverything } from './leveldb-check.js';
import { checkFiles, cutTornManifest } from './leveldb-files.js';
import { LevelEngine, readError, type Db } from './leveldb-engine.js';
import { DirectoryLock, alreadyRunning } from './leveldb-lock.js';
import { migrate } from './leveldb-migrate.js';
import { EMPTY_DIGEST, FORMAT, META_KEY, damaged, decodeMeta, encodeMeta, type Meta } from './leveldb-records.js';
import { FreeSpaceFloor, freeBytesOf } from './leveldb-space.js';
import type { Store } from './port.js';
import { DEFAULT_SCHEMA, assertReadable, versionOf, type Schema } from './schema.js';

const FREE_SPACE_FLOOR_BYTES = 32 * 1024 * 1024;
const WRITE_BUFFER_BYTES = 4 * 1024 * 1024;
const LEVEL_DIRECTORY = 'leveldb';
/** The manifest that LevelDB makes with a new database, before it has opened it. */
const FIRST_MANIFEST = 'MANIFEST-000001';

export interface LevelStoreOptions {
  /** The data directory; made when it is not there. One process at a time. */
  readonly path: string;
  /** Owner, version and migrations of the data. */
  readonly schema?: Schema;
  readonly logger?: Logger;
  readonly clock?: Clock;
  /** Writes are refused with `exhausted` while the disk has less free than this; 0 turns the floor off. Default 32 MiB. */
  readonly freeSpaceFloorBytes?: number;
  /** Asks a path's file system for its free bytes; given by tests. */
  readonly freeBytes?: (path: string) => Promise<number>;
  /** Bytes LevelDB gathers in memory, and in its log, before it writes a table. Default 4 MiB. */
  readonly writeBufferBytes?: number;
}

interface Settings {
  readonly path: string;
  readonly schema: Schema;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly freeSpaceFloorBytes: number;
  readonly freeBytes: (path: string) => Promise<number>;
  readonly writeBufferBytes: number;
}

function settingsOf(options: LevelStoreOptions): Settings {
  const settings = {
    path: options.path,
    schema: options.schema ?? DEFAULT_SCHEMA,
    logger: options.logger ?? silentLogger,
    clock: options.clock ?? systemClock,
    freeSpaceFloorBytes: options.freeSpaceFloorBytes ?? FREE_SPACE_FLOOR_BYTES,
    freeBytes: options.freeBytes ?? freeBytesOf,
    writeBufferBytes: options.writeBufferBytes ?? WRITE_BUFFER_BYTES,
  };
  if (!(settings.freeSpaceFloorBytes >= 0)) {
    throw new MusterError(
      'invalid',
      `freeSpaceFloorBytes must be a number of bytes from 0, not ${settings.freeSpaceFloorBytes}`,
    );
  }
  return settings;
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

async function openDb(settings: Settings, lock: DirectoryLock): Promise<Db> {
  const { path } = settings;
  const directory = join(path, LEVEL_DIRECTORY);
  await makeDirectory(directory, 0o700);
  const createIfMissing = (await clearedCutOffStart(directory)) || (await mayCreate(path, directory));
  if (!createIfMissing) {
    const torn = await checkFiles(path, directory);
    if (torn) {
      await cutTornManifest(directory, torn);
      settings.logger.warn('the end of the manifest, not yet synced when the power went, was cut off; a copy is kept', {
        path: join(directory, `${torn.name}.torn`),
      });
    }
  }
  const db: Db = new Level(directory, {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    createIfMissing,
    // checkFiles reads the blocks as they are.
    compression: false,
    writeBufferSize: settings.writeBufferBytes,
  });
  try {
    await db.open();
  } catch (error) {
    throw openError(path, error, await lock.otherPid());
  }
  if (createIfMissing) for (const made of [directory, path, dirname(path)]) await syncDirectory(made);
  return db;
}

async function readMeta(path: string, db: Db): Promise<Meta | undefined> {
  try {
    const bytes = (await db.get(META_KEY)) as Buffer | undefined;
    return bytes && decodeMeta(path, bytes);
  } catch (error) {
    throw readError(path, error);
  }
}

async function isEmpty(db: Db): Promise<boolean> {
  const iterator = db.keys({ limit: 1 });
  try {
    return (await iterator.next()) === undefined;
  } finally {
    await iterator.close();
  }
}

/** The store's own record; written first when the store is new. @throws data_loss */
async function metaOf(settings: Settings, db: Db, acknowledged: number): Promise<Meta> {
  const { path, schema } = settings;
  const found = await readMeta(path, db);
  assertAcknowledged(path, found?.revision ?? 0, acknowledged);
  if (found) return found;
  if (!(await isEmpty(db))) throw damaged(path, 'it holds keys but not its own record ("m")');
  const meta = { format: FORMAT, schema: schema.name, version: versionOf(schema), revision: 0, digest: EMPTY_DIGEST };
  await db.put(META_KEY, encodeMeta(meta), { sync: true });
  return meta;
}

async function openChecked(settings: Settings, db: Db, lock: DirectoryLock): Promise<Store> {
  const { path, schema, logger, clock } = settings;
  const startedMs = clock.monotonic();
  const { record: acknowledged, revision } = await Acknowledged.open(path);
  try {
    const meta = await metaOf(settings, db, revision);
    assertReadable(path, schema, meta);
    await checkEverything(path, db, meta);
    const floor = new FreeSpaceFloor({
      path,
      floorBytes: settings.freeSpaceFloorBytes,
      freeBytes: settings.freeBytes,
      logger,
      clock,
    });
    const engine = new LevelEngine({ path, db, meta, lock, acknowledged, floor });
    await migrate(engine, schema, logger);
    logger.info('the store is open', {
      path,
      revision: engine.meta.revision,
      entries: engine.meta.digest.entries,
      checkedMs: Math.round(clock.monotonic() - startedMs),
    });
    return new EngineStore(engine, engine.meta.revision, logger);
  } catch (error) {
    await acknowledged.close();
    throw error;
  }
}

/**
 * Opens the store in `options.path`, alone: reads and checks every record, runs missing migrations, then resolves.
 * @throws precondition when another process uses the directory (`already running as pid N`), a newer Muster wrote it or it is
 *   another owner's; data_loss when stored bytes are damaged or acknowledged writes are missing; unavailable when the disk fails;
 *   invalid on impossible options
 */
export async function openLevelStore(options: LevelStoreOptions): Promise<Store> {
  const settings = settingsOf(options);
  const { path } = settings;
  await makeDirectory(path, 0o700);
  const lock = await DirectoryLock.take(path);
  let db: Db | undefined;
  try {
    db = await openDb(settings, lock);
    return await openChecked(settings, db, lock);
  } catch (error) {
    await lock.release();
    await db?.close();
    throw isCode(error) ? error : openError(path, error);
  }
}
