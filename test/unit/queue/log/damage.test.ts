import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, mock, type TestContext } from 'node:test';
import { crc32 } from 'node:zlib';
import { Level } from 'level';
import { isCode, type Code } from '../../../../src/kit/errors.js';
import { batchKey, keyOf } from '../../../../src/queue/log/keys.js';
import { openQueueLog } from '../../../../src/queue/log/leveldb-log.js';
import type { QueueLog } from '../../../../src/queue/log/port.js';
import { openLevelStore } from '../../../../src/store/leveldb.js';
import { TopicWriter, readAll, subscriptionChanges, topicChange } from '../../../support/queue-log.js';

const BATCHES = 10;
const COUNT = 5;

type Bare = Level<Buffer, Buffer>;

/** A data directory with a topic of ten batches of five messages, closed. */
class Place {
  readonly path: string;
  readonly #opened: QueueLog[] = [];

  private constructor(path: string) {
    this.path = path;
  }

  static async make(t: TestContext): Promise<Place> {
    const place = new Place(await mkdtemp(join(tmpdir(), 'muster-queue-log-')));
    t.after(async () => {
      for (const log of place.#opened) await log.close();
      await rm(place.path, { recursive: true, force: true });
    });
    const log = await place.open();
    await log.load();
    await log.commit([topicChange(1, 'orders'), ...subscriptionChanges(1, 1)]);
    const writer = new TopicWriter(1);
    for (let n = 0; n < BATCHES; n += 1) await log.commit([writer.next(COUNT, Buffer.alloc(100, n))]);
    await log.close();
    return place;
  }

  async open(): Promise<QueueLog> {
    const log = await openQueueLog({ path: this.path });
    this.#opened.push(log);
    return log;
  }

  /** Works on the bare database while no log is open. */
  async bare(work: (db: Bare) => Promise<void>): Promise<void> {
    const db: Bare = new Level(join(this.path, 'leveldb'), {
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
      compression: false,
    });
    await db.open();
    await work(db);
    await db.close();
  }
}

/** A value as the log stores it, with a checksum that holds. */
function sealed(key: Buffer, value: Buffer): Buffer {
  const bytes = Buffer.alloc(4 + value.length);
  bytes.writeUInt32LE(crc32(value, crc32(key)), 0);
  value.copy(bytes, 4);
  return bytes;
}

/** Key of batch number n, from 0. */
function keyOfBatch(n: number): Buffer {
  return batchKey(1, (n + 1) * COUNT);
}

const failing =
  (code: Code, message: RegExp, metadata?: Record<string, string>) =>
  (error: unknown): boolean => {
    assert.ok(isCode(error, code), String(error));
    assert.match(error.message, message);
    if (metadata) assert.deepEqual(error.metadata, metadata);
    return true;
  };

describe('messages', () => {
  const cases: [string, (db: Bare) => Promise<void>, { first: number; from: number; until: number }][] = [
    ['that are missing', (db) => db.del(keyOfBatch(3)), { first: 3, from: 16, until: 21 }],
    [
      'of which several batches are missing',
      (db) => db.batch([3, 4, 5].map((n) => ({ type: 'del', key: keyOfBatch(n) }))),
      { first: 3, from: 16, until: 31 },
    ],
    ['that were first', (db) => db.del(keyOfBatch(0)), { first: 0, from: 1, until: 6 }],
    [
      'with a flipped bit',
      async (db) => {
        const bytes = await db.get(keyOfBatch(4));
        bytes[60] = (bytes[60] ?? 0) ^ 8;
        await db.put(keyOfBatch(4), bytes);
      },
      { first: 4, from: 21, until: 26 },
    ],
    [
      'that belong to another key',
      async (db) => db.put(keyOfBatch(4), await db.get(keyOfBatch(5))),
      { first: 4, from: 21, until: 26 },
    ],
    [
      'at a key that was never written',
      (db) => db.put(batchKey(1, 22), sealed(batchKey(1, 22), Buffer.from('no batch'))),
      { first: 4, from: 21, until: 23 },
    ],
  ];
  for (const [what, damage, { first, from, until }] of cases) {
    it(`${what} are named, and those around them are read`, async (t) => {
      const place = await Place.make(t);
      await place.bare(damage);
      const log = await place.open();
      await log.load();
      const metadata = { topic: 'orders', sequence: String(from), until: String(until) };
      const report = failing('data_loss', /of topic orders cannot be read.*seeking/, metadata);
      const before = first === 0 ? [] : await log.read(1, 1, 1_000_000);
      assert.equal(before.length, first);
      await assert.rejects(log.read(1, from, 1000), report);
      await assert.rejects(readAll(log, 1), report);
      const [behind] = await log.read(1, Math.ceil((until - 1) / COUNT) * COUNT + 1, 1000);
      assert.ok(behind && behind.firstSequence >= until);
    });
  }

  it('that are the newest are missed at the start', async (t) => {
    const place = await Place.make(t);
    await place.bare((db) => db.del(keyOfBatch(BATCHES - 1)));
    await assert.rejects(
      (await place.open()).load(),
      failing('data_loss', /newest messages of topic orders, up to 50, are missing/),
    );
  });
});

describe('what is small', () => {
  const cases: [string, Buffer, RegExp][] = [
    ['the bounds', keyOf('bounds', { ids: [1] }), /bounds of topic orders are missing/],
    ['the topic', keyOf('topic', { ids: [1] }), /bounds of topic 1, which is missing/],
    [
      'the subscription',
      keyOf('subscription', { ids: [1, 1] }),
      /position of subscription 1 of topic 1, which is missing/,
    ],
    ['the position', keyOf('cursor', { ids: [1, 1] }), /position of subscription subscription-1 of topic 1 is missing/],
    ['the next id', keyOf('global', {}), /topic orders has an id that was never given out/],
  ];
  for (const [what, key, message] of cases) {
    it(`${what}: missed at the start when it is gone, named when it is damaged`, async (t) => {
      const gone = await Place.make(t);
      await gone.bare((db) => db.del(key));
      await assert.rejects((await gone.open()).load(), failing('data_loss', message));
      const damaged = await Place.make(t);
      await damaged.bare(async (db) => {
        const bytes = await db.get(key);
        const last = bytes.length - 1;
        bytes[last] = (bytes[last] ?? 0) ^ 1;
        await db.put(key, bytes);
      });
      await assert.rejects((await damaged.open()).load(), failing('data_loss', /does not match its checksum/));
      const nonsense = await Place.make(t);
      await nonsense.bare((db) => db.put(key, sealed(key, Buffer.from([255, 255]))));
      await assert.rejects((await nonsense.open()).load(), failing('data_loss', /cannot be read/));
    });
  }

  it('the record of the log itself is missed', async (t) => {
    const place = await Place.make(t);
    await place.bare((db) => db.del(Buffer.from([255])));
    await assert.rejects(place.open(), failing('data_loss', /commit 11 had been acknowledged/));
  });
});

describe('a directory', () => {
  it('of a store is not taken for a log', async (t) => {
    const path = await mkdtemp(join(tmpdir(), 'muster-queue-log-'));
    t.after(() => rm(path, { recursive: true, force: true }));
    const store = await openLevelStore({ path });
    await store.close();
    await assert.rejects(openQueueLog({ path }), failing('data_loss', /holds keys but not its own record/));
  });

  it('of a newer format is refused', async (t) => {
    const place = await Place.make(t);
    const key = Buffer.from([255]);
    const own = { owner: 'queue', format: 2, commit: 100 };
    await place.bare((db) => db.put(key, sealed(key, Buffer.from(JSON.stringify(own)))));
    await assert.rejects(place.open(), failing('precondition', /newer Muster/));
    await place.bare((db) => db.put(key, sealed(key, Buffer.from(JSON.stringify({ ...own, format: 1, owner: 'x' })))));
    await assert.rejects(place.open(), failing('precondition', /holds the data of x, not of queue/));
  });

  it('in use is refused', async (t) => {
    const place = await Place.make(t);
    await place.open();
    await assert.rejects(place.open(), failing('precondition', /already running as pid/));
  });
});

it('every write is synced, those of a trim too', async (t) => {
  const place = await Place.make(t);
  const log = await place.open();
  await log.load();
  const given: unknown[] = [];
  const make = Reflect.get(Level.prototype, 'batch') as (this: Bare) => ReturnType<Bare['batch']>;
  const batch = mock.method(Level.prototype, 'batch', function (this: Bare) {
    const made = make.call(this);
    const write = made.write.bind(made);
    made.write = (options: object = {}) => {
      given.push(options);
      return write(options);
    };
    return made;
  });
  t.after(() => {
    batch.mock.restore();
  });
  const writer = Object.assign(new TopicWriter(1), { sequence: 51, offset: 1000, publishedMs: 1_800_000_000_000 });
  await log.commit(Array.from({ length: 1500 }, () => writer.next(1, Buffer.from('x'))));
  await log.commit([{ kind: 'head', topicId: 1, head: 1500, offset: 2449 }]);
  await log.trim({ topicId: 1, head: 1500 });
  await log.commit([{ kind: 'head', topicId: 1, head: 1510, offset: 2459 }]);
  await log.trim({ topicId: 1, head: 1510 });
  await log.compact();
  await log.commit([{ kind: 'topic removed', topicId: 1 }]);
  await log.close();
  assert.ok(given.length >= 6, `${given.length} writes`);
  for (const options of given) assert.deepEqual(options, { sync: true });
});
