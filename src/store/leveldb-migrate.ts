import { MusterError, messageOf } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import type { Room } from './engine.js';
import type { LevelEngine } from './leveldb-engine.js';
import { checkBatch, planGroup, type BatchLimits } from './plan.js';
import type { Entry, KeyRange, Mutation } from './port.js';
import { versionOf, type Migration, type MigrationReader, type Schema } from './schema.js';

/** A migration rewrites in one batch, so it may be larger than a batch of a running store. */
const LIMITS: BatchLimits = { mutationsMax: 1_000_000, bytesMax: 256 * 1024 * 1024 };

function readerOf(engine: LevelEngine): MigrationReader {
  return {
    get: (key: string) => engine.get(key),
    range: async function* (range: KeyRange = {}): AsyncGenerator<Entry> {
      if (range.limit === 0) return;
      for await (const chunk of engine.scan(range)) yield* chunk;
    },
  };
}

async function changesOf(migration: Migration, engine: LevelEngine, from: number): Promise<readonly Mutation[]> {
  try {
    return await migration(readerOf(engine));
  } catch (error) {
    throw new MusterError(
      'internal',
      `the data could not be moved from version ${from} to ${from + 1} (${messageOf(error)}); it is unchanged. ` +
        'Install the Muster that wrote it again, and report this',
      { reason: 'MIGRATION_FAILED', cause: error },
    );
  }
}

/** One migration and its version bump, in one synced batch. */
async function step(engine: LevelEngine, migration: Migration): Promise<void> {
  const { meta } = engine;
  const batch = checkBatch(await changesOf(migration, engine, meta.version), LIMITS);
  const stored = await engine.lookup(batch.mutations.map(({ key }) => key));
  const room: Room = await engine.room();
  const { verdicts, finals, revision } = planGroup([batch], stored, meta.revision, room);
  const verdict = verdicts[0];
  if (verdict && 'error' in verdict) throw verdict.error;
  await engine.commitWith(finals, { ...meta, revision, version: meta.version + 1 });
}

/** Runs the migrations the data has not seen, in order. @throws internal when one throws; exhausted when the disk is almost full */
export async function migrate(engine: LevelEngine, schema: Schema, logger: Logger): Promise<void> {
  while (engine.meta.version < versionOf(schema)) {
    const from = engine.meta.version;
    const migration = schema.migrations[from - 1];
    if (!migration) throw new MusterError('internal', `there is no migration from version ${from}`);
    await step(engine, migration);
    logger.info('the data moved to a new version', { schema: schema.name, from, to: from + 1 });
  }
}
