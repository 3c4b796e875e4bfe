import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { systemClock } from '../../../src/kit/clock.js';
import { Acknowledged } from '../../../src/store/leveldb-acknowledged.js';
import { EngineStore } from '../../../src/store/engine-store.js';
import { recordingLogger } from './support.js';

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'muster-acknowledged-'));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

it('holds the newest revision recorded', async (t) => {
  const path = await directory(t);
  const first = await Acknowledged.open(path, systemClock);
  assert.equal(first.revision, 0);
  for (let revision = 1; revision <= 500; revision += 1) first.record.record(revision);
  await first.record.settle();
  await first.record.close();
  const second = await Acknowledged.open(path, systemClock);
  assert.equal(second.revision, 500);
  second.record.record(501);
  await second.record.close();
  const third = await Acknowledged.open(path, systemClock);
  assert.equal(third.revision, 501);
  await third.record.close();
});

it('that cannot be written does not hold up writers, and is reported at the end', async (t) => {
  const path = await directory(t);
  const { record } = await Acknowledged.open(path, systemClock);
  await record.close();
  record.record(1);
  await assert.rejects(record.settle());
});

it('a store whose engine does not close cleanly is closed all the same', async () => {
  const logger = recordingLogger();
  const never = (): never => assert.fail('not asked for');
  const engine = {
    get: never,
    lookup: never,
    scan: never,
    room: never,
    commit: never,
    close: () => Promise.reject(new Error('EIO')),
  };
  const store = new EngineStore(engine, 7, logger);
  await store.close();
  await store.close();
  assert.deepEqual(logger.lines, ['the store did not close cleanly']);
});
