import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { isCode } from '../../../src/kit/errors.js';
import { randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { openQueueLog, type QueueLogOptions } from '../../../src/queue/log/leveldb-log.js';
import type { QueueLog, StoredBatch } from '../../../src/queue/log/port.js';
import { TopicWriter, readAll, subscriptionChanges, topicChange } from '../../support/queue-log.js';
import { copyAsKilled, seedOf, smallDisk, temporaryDirectory } from '../store/support.js';

/** More than half of the disk, so that what is freed has room for the table that recovery makes of the log. */
const FILLER_BYTES = 1_700_000;
const BATCH_BYTES = 4096;
const COMMITS_MAX = 3000;
const COMMITS_AFTER = 200;

/** A log on a small disk, with every batch that it acknowledged. */
class Subject {
  readonly acknowledged: StoredBatch[] = [];
  readonly path: string;
  readonly #filler: string;
  readonly #options: Partial<QueueLogOptions>;
  readonly #random: Random;
  #writer = new TopicWriter(1);
  log: QueueLog;

  private constructor(disk: string, options: Partial<QueueLogOptions>, parts: { random: Random; log: QueueLog }) {
    this.path = join(disk, 'data');
    this.#filler = join(disk, 'filler');
    this.#options = options;
    this.#random = parts.random;
    this.log = parts.log;
  }

  static async begin(t: TestContext, disk: string, options: Partial<QueueLogOptions>): Promise<Subject> {
    await writeFile(join(disk, 'filler'), new Uint8Array(FILLER_BYTES));
    const log = await openQueueLog({ path: join(disk, 'data'), ...options });
    await log.load();
    await log.commit([topicChange(1), ...subscriptionChanges(1, 1)]);
    return new Subject(disk, options, { random: seededRandom(seedOf(t)), log });
  }

  /** Stores one more batch; the error when that fails. */
  async publish(): Promise<unknown> {
    const messages = Buffer.alloc(BATCH_BYTES);
    for (let at = 0; at < BATCH_BYTES; at += 1) messages[at] = randomBetween(this.#random, 0, 256);
    const { sequence, offset, publishedMs } = this.#writer;
    const change = this.#writer.next(8, messages);
    try {
      await this.log.commit([change]);
      this.acknowledged.push(change.batch);
      return undefined;
    } catch (error) {
      Object.assign(this.#writer, { sequence, offset, publishedMs });
      return error;
    }
  }

  async fill(): Promise<unknown> {
    for (let n = 0; n < COMMITS_MAX; n += 1) {
      const refusal = await this.publish();
      if (refusal !== undefined) return refusal;
    }
    throw new Error('the disk never became full');
  }

  /** How many of some batches are acknowledged. */
  async goOn(): Promise<number> {
    const before = this.acknowledged.length;
    for (let n = 0; n < COMMITS_AFTER; n += 1) await this.publish();
    return this.acknowledged.length - before;
  }

  free(): Promise<void> {
    return rm(this.#filler);
  }

  async reopen(): Promise<void> {
    this.log = await openQueueLog({ path: this.path, ...this.#options });
    const [topic] = (await this.log.load()).topics;
    assert.ok(topic);
    this.#writer = Object.assign(new TopicWriter(1), {
      sequence: topic.next,
      offset: topic.nextOffset,
      publishedMs: topic.newestMs,
    });
    // Of the commit that failed either all is stored or nothing.
    const stored = await readAll(this.log, 1, topic.head);
    if (stored.length > this.acknowledged.length) this.acknowledged.push(...stored.slice(-1));
  }

  /** What a kill -9 would leave must be what was acknowledged. */
  async judge(t: TestContext): Promise<void> {
    const killed = join(await temporaryDirectory(t), 'killed');
    await copyAsKilled(this.path, killed);
    await this.log.close();
    const left = await openQueueLog({ path: killed, freeSpaceFloorBytes: 0 });
    await left.load();
    assert.deepEqual(await readAll(left, 1), this.acknowledged);
    await left.close();
    t.diagnostic(`${this.acknowledged.length} batches acknowledged, none lost`);
  }
}

it('publishing is refused before the disk is full, and goes on when space returns', async (t) => {
  const disk = await smallDisk(t);
  if (disk === undefined) return;
  const subject = await Subject.begin(t, disk, { freeSpaceFloorBytes: 1024 * 1024, writeBufferBytes: 256 * 1024 });
  const refusal = await subject.fill();
  assert.ok(isCode(refusal, 'exhausted'), String(refusal));
  assert.equal(refusal.reason, 'DISK_ALMOST_FULL');
  assert.match(refusal.message, /free some space/);
  // Consumers go on, so that messages can leave.
  const cursor = { floor: 5, settled: [], dropped: 0 };
  await subject.log.commit([{ kind: 'cursor', topicId: 1, subscriptionId: 1, cursor }]);
  await subject.free();
  const after = await subject.goOn();
  assert.ok(after > 20, `${after} batches were accepted after space returned`);
  await subject.judge(t);
});

it('what is consumed on a full disk makes room', async (t) => {
  const disk = await smallDisk(t);
  if (disk === undefined) return;
  const subject = await Subject.begin(t, disk, { freeSpaceFloorBytes: 768 * 1024, writeBufferBytes: 64 * 1024 });
  const refusal = await subject.fill();
  assert.ok(isCode(refusal, 'exhausted'), String(refusal));
  const newest = subject.acknowledged.at(-1);
  assert.ok(newest);
  const { firstSequence: head, offset } = newest;
  await subject.log.commit([{ kind: 'head', topicId: 1, head, offset }]);
  await subject.log.trim({ topicId: 1, head });
  await subject.log.compact();
  subject.acknowledged.splice(0, subject.acknowledged.length - 1);
  const again = await subject.fill();
  assert.ok(isCode(again, 'exhausted'), String(again));
  assert.ok(subject.acknowledged.length > 20, `${subject.acknowledged.length} batches found room`);
  await subject.judge(t);
});

it('without the floor the log stops at the failed write; opened again, it has every acknowledged batch and goes on', async (t) => {
  const disk = await smallDisk(t);
  if (disk === undefined) return;
  // With a write buffer larger than the disk it is LevelDB's log that cannot be written, the case that poisons LevelDB.
  const subject = await Subject.begin(t, disk, { freeSpaceFloorBytes: 0, writeBufferBytes: 4 * 1024 * 1024 });
  const refusal = await subject.fill();
  assert.ok(isCode(refusal, 'unavailable'), String(refusal));
  assert.equal(refusal.reason, 'LOG_FAILED');
  assert.equal((await subject.log.failed).reason, 'LOG_FAILED');
  for (let n = 0; n < 20; n += 1) assert.ok(isCode(await subject.publish(), 'unavailable'));
  await subject.log.close();
  await subject.free();
  await subject.reopen();
  const after = await subject.goOn();
  assert.ok(after > 20, `${after} batches were accepted after space returned`);
  await subject.judge(t);
});
