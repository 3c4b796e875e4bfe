import { systemClock, type Clock } from '../kit/clock.js';
import { silentLogger, type Logger } from '../kit/logger.js';
import { EngineStore } from './engine-store.js';
import { assertAcknowledged, checkEverything } from './leveldb-check.js';
import {
  isEmpty,
  openDatabase,
  readError,
  type DatabaseSettings,
  type Db,
  type LevelDatabase,
} from './leveldb-database.js';
import { LevelEngine } from './leveldb-engine.js';
import { migrate } from './leveldb-migrate.js';
import {
  EMPTY_DIGEST,
  FORMAT,
  META_KEY,
  damaged,
  decodeMeta,
  describeKey,
  encodeMeta,
  type Meta,
} from './leveldb-records.js';
import { freeBytesOf } from './leveldb-space.js';
import { checkTable } from './leveldb-table.js';
import type { Store } from './port.js';
import { DEFAULT_SCHEMA, assertReadable, versionOf, type Schema } from './schema.js';

const FREE_SPACE_FLOOR_BYTES = 32 * 1024 * 1024;
const WRITE_BUFFER_BYTES = 4 * 1024 * 1024;

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

interface Settings extends DatabaseSettings {
  readonly schema: Schema;
}

async function readMeta(path: string, db: Db): Promise<Meta | undefined> {
  try {
    const bytes = (await db.get(META_KEY)) as Buffer | undefined;
    return bytes && decodeMeta(path, bytes);
  } catch (error) {
    throw readError(path, error);
  }
}

/** The store's own record; written first when the store is new. @throws data_loss */
async function metaOf({ schema }: Settings, { path, db, acknowledgedRevision }: LevelDatabase): Promise<Meta> {
  const found = await readMeta(path, db);
  assertAcknowledged(path, found?.revision ?? 0, acknowledgedRevision);
  if (found) return found;
  if (!(await isEmpty(db))) throw damaged(path, 'it holds keys but not its own record ("m")');
  const meta = { format: FORMAT, schema: schema.name, version: versionOf(schema), revision: 0, digest: EMPTY_DIGEST };
  await db.put(META_KEY, encodeMeta(meta), { sync: true });
  return meta;
}

async function openChecked(settings: Settings, database: LevelDatabase): Promise<Store> {
  const { path, schema, logger, clock } = settings;
  const startedMs = clock.monotonic();
  const meta = await metaOf(settings, database);
  assertReadable(path, schema, meta);
  await checkEverything(path, database.db, meta);
  const engine = new LevelEngine(database, meta);
  await migrate(engine, schema, logger);
  logger.info('the store is open', {
    path,
    revision: engine.meta.revision,
    entries: engine.meta.digest.entries,
    checkedMs: Math.round(clock.monotonic() - startedMs),
  });
  return new EngineStore(engine, engine.meta.revision, logger);
}

/**
 * Opens the store in `options.path`, alone: reads and checks every record, runs missing migrations, then resolves.
 * @throws precondition when another process uses the directory (`already running as pid N`), a newer Muster wrote it or it is
 *   another owner's; data_loss when stored bytes are damaged or acknowledged writes are missing; unavailable when the disk fails;
 *   invalid on impossible options
 */
export async function openLevelStore(options: LevelStoreOptions): Promise<Store> {
  const settings: Settings = {
    path: options.path,
    schema: options.schema ?? DEFAULT_SCHEMA,
    logger: options.logger ?? silentLogger,
    clock: options.clock ?? systemClock,
    freeSpaceFloorBytes: options.freeSpaceFloorBytes ?? FREE_SPACE_FLOOR_BYTES,
    freeBytes: options.freeBytes ?? freeBytesOf,
    writeBufferBytes: options.writeBufferBytes ?? WRITE_BUFFER_BYTES,
    checkTables: () => Promise.resolve((table) => checkTable(table, { describeKey })),
  };
  return openDatabase(settings, (database) => openChecked(settings, database));
}
