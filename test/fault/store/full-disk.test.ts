import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { Level } from 'level';
import { isCode } from '../../../src/kit/errors.js';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { openLevelStore, type LevelStoreOptions } from '../../../src/store/leveldb.js';
import { copyAsKilled, seedOf, smallDisk, temporaryDirectory } from './support.js';

/** More than half of the disk, so that what is freed has room for the table that recovery makes of the log. */
const FILLER_BYTES = 1_700_000;
const VALUE_BYTES = 4096;
const WRITE_BUFFER_BYTES = 256 * 1024;
const WRITES_MAX = 3000;
const WRITES_AFTER = 200;

/** What the scenario needs of a store, ours or another. */
interface Subject {
  put(key: string, value: Uint8Array): Promise<void>;
  get(key: string): Promise<Uint8Array | undefined>;
  close(): Promise<void>;
}

type Open = (path: string) => Promise<Subject>;

const openPlainLevel: Open = async (path) => {
  const db = new Level<string, Uint8Array>(path, { valueEncoding: 'view' });
  await db.open();
  return {
    put: (key, value) => db.put(key, value, { sync: true }),
    get: (key) => db.get(key),
    close: () => db.close(),
  };
};

function openOurs(options: Partial<LevelStoreOptions>): Open {
  return async (path) => {
    const store = await openLevelStore({ path, writeBufferBytes: WRITE_BUFFER_BYTES, ...options });
    return {
      put: async (key, value) => {
        await store.write([{ kind: 'put', key, value }]);
      },
      get: async (key) => (await store.get(key))?.value,
      close: () => store.close(),
    };
  };
}

interface Outcome {
  readonly acknowledged: ReadonlyMap<string, Uint8Array>;
  readonly refusal: unknown;
  /** Writes acknowledged after space had returned, and how many were tried. */
  readonly after: number;
  readonly missing: readonly string[];
}

/** What the caller does once writes fail and space is back: go on with the same store, or reopen it as ours asks. */
type Recover = (subject: Subject, path: string) => Promise<Subject>;

/** Fills the disk, frees some of it, goes on writing, then looks at what a kill -9 would leave. */
async function fillAndFree(t: TestContext, disk: string, open: Open, recover: Recover): Promise<Outcome> {
  const random = seededRandom(seedOf(t));
  const value = (): Uint8Array => Uint8Array.from({ length: VALUE_BYTES }, () => randomBetween(random, 0, 256));
  const acknowledged = new Map<string, Uint8Array>();
  const filler = join(disk, 'filler');
  const path = join(disk, 'data');
  await writeFile(filler, new Uint8Array(FILLER_BYTES));
  let subject = await open(path);
  const attempt = async (key: string): Promise<unknown> => {
    const bytes = value();
    try {
      await subject.put(key, bytes);
      acknowledged.set(key, bytes);
      return undefined;
    } catch (error) {
      return error;
    }
  };
  let refusal: unknown;
  for (let n = 0; refusal === undefined; n += 1) {
    assert.ok(n < WRITES_MAX, 'the disk never became full');
    refusal = await attempt(`before/${n}`);
  }
  await rm(filler);
  subject = await recover(subject, path);
  const before = acknowledged.size;
  for (let n = 0; n < WRITES_AFTER; n += 1) await attempt(`after/${n}`);
  const killed = join(await temporaryDirectory(t), 'killed');
  await copyAsKilled(path, killed);
  await subject.close();
  const left = await open(killed);
  const missing: string[] = [];
  for (const [key, bytes] of acknowledged) {
    const found = await left.get(key);
    if (!found || Buffer.compare(found, bytes) !== 0) missing.push(key);
  }
  await left.close();
  return { acknowledged, refusal, after: acknowledged.size - before, missing };
}

it('refuses writes before the disk is full, and accepts them again when space returns', async (t) => {
  const disk = await smallDisk(t);
  if (disk === undefined) return;
  const stay: Recover = (subject) => Promise.resolve(subject);
  const { refusal, after, missing, acknowledged } = await fillAndFree(
    t,
    disk,
    openOurs({ freeSpaceFloorBytes: 1024 * 1024 }),
    stay,
  );
  assert.ok(isCode(refusal, 'exhausted'), String(refusal));
  assert.match(refusal.message, /free some space/);
  assert.ok(after > 20, `${after} writes were accepted after space returned`);
  assert.deepEqual(missing, []);
  t.diagnostic(`${acknowledged.size} acknowledged, none lost`);
});

it('without the floor stops at the failed write; reopened, it has every acknowledged write and goes on', async (t) => {
  const disk = await smallDisk(t);
  if (disk === undefined) return;
  // With a write buffer larger than the disk it is the log that cannot be written, the case that poisons LevelDB.
  const open = openOurs({ freeSpaceFloorBytes: 0, writeBufferBytes: 4 * 1024 * 1024 });
  const reopen: Recover = async (subject, path) => {
    const refused = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) => subject.put(`between/${n}`, new Uint8Array(1))),
    );
    assert.ok(refused.every((result) => result.status === 'rejected' && isCode(result.reason, 'unavailable')));
    await subject.close();
    return open(path);
  };
  const { refusal, after, missing, acknowledged } = await fillAndFree(t, disk, open, reopen);
  assert.ok(isCode(refusal, 'unavailable'), String(refusal));
  assert.ok(after > 20, `${after} writes were accepted after space returned`);
  assert.deepEqual(missing, []);
  t.diagnostic(`${acknowledged.size} acknowledged, none lost`);
});

it('the same on plain level loses acknowledged writes: the trap this store is built around', async (t) => {
  const disk = await smallDisk(t);
  if (disk === undefined) return;
  const { after, missing } = await fillAndFree(t, disk, openPlainLevel, (subject) => Promise.resolve(subject));
  assert.ok(after > 0, 'plain level acknowledged nothing after the failure');
  assert.ok(missing.length > 0, 'plain level lost nothing: the trap is gone, and this scenario proves nothing');
  t.diagnostic(`plain level lost ${missing.length} writes, of ${after} acknowledged after the full disk`);
});
