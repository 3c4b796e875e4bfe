import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { isCode } from '../../src/kit/errors.js';
import type { Change, DeadLetterRecord, LoadedSubscription, LoadedTopic, QueueLog } from '../../src/queue/log/port.js';
import { TopicWriter, readAll, subscriptionChanges, topicChange, topicRecord } from '../support/queue-log.js';

/** One place a log can live: opened, closed and opened again. */
export interface LogPlace {
  open(): Promise<QueueLog>;
  /** Makes the open log's next write fail as a disk does; absent where an engine cannot fail. */
  breakWrites?(): void;
  /** Removes all of it, with the logs open in it. */
  remove(): Promise<void>;
}

export interface LogDriver {
  readonly name: string;
  /** Whether what is written is there after close and open. */
  readonly durable: boolean;
  place(): Promise<LogPlace>;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const refused =
  (reason: string) =>
  (error: unknown): boolean => {
    assert.ok(isCode(error, 'unavailable'), `expected unavailable, got ${String(error)}`);
    assert.equal(error.reason, reason);
    return true;
  };

function isBug(error: unknown): boolean {
  return isCode(error, 'internal');
}

/** Every call of a log that is not open. */
async function refusesEverything(log: QueueLog, reason: string): Promise<void> {
  const calls = [
    () => log.load(),
    () => log.commit([topicChange(9)]),
    () => log.commit([]),
    () => log.read(1, 1, 1000),
    () => log.sequenceAt(1, 0),
    () => log.trim({ topicId: 1, head: 1 }),
    () => log.compact(),
    () => log.dedupe(1, [1], ['a']),
    () => log.forgetDedupe(1, 1),
    () => log.delayed(1, 1, 1),
    () => log.nextDueMs(1),
    () => log.deadLetter(1, 1, 1),
    () => log.deadLetters(1, 1, { after: 0, limit: 1 }),
    () => log.diskBytes(),
    () => collect(log.scrub(new AbortController().signal)),
  ];
  for (const call of calls) await assert.rejects(call, refused(reason), String(call));
}

async function theTopic(log: QueueLog, id = 1): Promise<LoadedTopic> {
  const { topics } = await log.load();
  const topic = topics.find(({ record }) => record.id === id);
  assert.ok(topic, `topic ${id} is not there`);
  return topic;
}

async function theSubscription(log: QueueLog, id = 1): Promise<LoadedSubscription> {
  const found = (await theTopic(log)).subscriptions.find(({ record }) => record.id === id);
  assert.ok(found, `subscription ${id} is not there`);
  return found;
}

function letter(sequence: number, replayed = false): Change & { readonly kind: 'dead letter' } {
  const record: DeadLetterRecord = {
    sequence,
    message: Buffer.from(`message ${sequence}`),
    publishedMs: 1000,
    diedMs: 2000,
    attempts: 3,
    reason: 'no such order: ä',
    replayed,
  };
  return { kind: 'dead letter', topicId: 1, subscriptionId: 1, sequence, letter: record };
}

function letterGone(sequence: number): Change {
  return { kind: 'dead letter', topicId: 1, subscriptionId: 1, sequence, letter: undefined };
}

function delayed(dueMs: number, number: number, text?: string): Change {
  return { kind: 'delayed', topicId: 1, dueMs, number, message: text === undefined ? undefined : Buffer.from(text) };
}

/** The contract of src/queue/log/port.ts, run on an engine in every state of its lifecycle. */
export function queueLogContract(driver: LogDriver): void {
  describe(`queue log contract: ${driver.name}`, () => {
    const places: LogPlace[] = [];
    const newPlace = async (): Promise<LogPlace> => {
      const place = await driver.place();
      places.push(place);
      return place;
    };
    /** A log with one topic, that has one subscription. */
    const begun = async (): Promise<{ place: LogPlace; log: QueueLog; writer: TopicWriter }> => {
      const place = await newPlace();
      const log = await place.open();
      assert.deepEqual(await log.load(), { topics: [], nextTopicId: 1 });
      await log.commit([topicChange(1), ...subscriptionChanges(1, 1)]);
      return { place, log, writer: new TopicWriter(1) };
    };
    /** The log again, closed and opened where it is durable: what it remembers is then what it stored. */
    const again = async (place: LogPlace, log: QueueLog): Promise<QueueLog> => {
      if (!driver.durable) return log;
      await log.close();
      const reopened = await place.open();
      await reopened.load();
      return reopened;
    };
    after(async () => {
      for (const place of places) await place.remove();
    });

    describe('batches', () => {
      it('come back as they were stored, in order, whatever the size of the reads', async () => {
        const { place, log, writer } = await begun();
        const wanted = [];
        for (let n = 0; n < 40; n += 1) {
          const change = writer.next(1 + (n % 7), Buffer.from(`batch ${n} `.repeat(1 + 13 * (n % 5))));
          wanted.push(change.batch);
          await log.commit([change]);
        }
        const reopened = await again(place, log);
        for (const bytesMax of [1, 100, 5000, 1_000_000]) {
          assert.deepEqual(await readAll(reopened, 1, 1, bytesMax), wanted);
        }
        assert.deepEqual(await reopened.read(1, writer.sequence, 100), []);
        assert.deepEqual(await reopened.read(1, writer.sequence + 1000, 100), []);
      });

      it('are found from every sequence in them, and reads are about as large as asked for', async () => {
        const { place, log, writer } = await begun();
        for (let n = 0; n < 20; n += 1) await log.commit([writer.next(3, Buffer.alloc(100, n))]);
        const reopened = await again(place, log);
        for (let sequence = 1; sequence < writer.sequence; sequence += 1) {
          const [first] = await reopened.read(1, sequence, 1);
          assert.equal(first?.firstSequence, sequence - ((sequence - 1) % 3));
        }
        assert.equal((await reopened.read(1, 1, 1)).length, 1);
        const some = await reopened.read(1, 1, 500);
        assert.ok(some.length >= 4 && some.length <= 6, `${some.length} batches of 100 bytes for 500`);
      });

      it('of many topics in one commit do not mix', async () => {
        const place = await newPlace();
        const log = await place.open();
        await log.load();
        const writers = [1, 2, 255, 256].map((id) => new TopicWriter(id));
        await log.commit(writers.map(({ topicId }) => topicChange(topicId)));
        for (let n = 0; n < 10; n += 1) {
          await log.commit(writers.map((writer) => writer.next(2, Buffer.from(`${writer.topicId}/${n}`))));
        }
        for (const { topicId } of writers) {
          const texts = (await readAll(log, topicId)).map(({ messages }) => messages.toString());
          assert.deepEqual(
            texts,
            Array.from({ length: 10 }, (_, n) => `${topicId}/${n}`),
          );
        }
      });

      it('may be empty of bytes, and as large as a frame', async () => {
        const { place, log, writer } = await begun();
        const large = writer.next(10_000, Buffer.alloc(1024 * 1024, 1));
        await log.commit([large, writer.next(1, Buffer.alloc(0))]);
        const batches = await readAll(await again(place, log), 1);
        assert.deepEqual(
          batches.map(({ count, messages }) => [count, messages.length]),
          [
            [10_000, 1024 * 1024],
            [1, 0],
          ],
        );
      });

      it('are found by time', async () => {
        const { place, log, writer } = await begun();
        const start = writer.publishedMs;
        for (let n = 0; n < 50; n += 1) await log.commit([writer.next(1 + (n % 4), Buffer.from('x'))]);
        const reopened = await again(place, log);
        const batches = await readAll(reopened, 1);
        for (const { firstSequence, publishedMs } of batches) {
          assert.equal(await reopened.sequenceAt(1, publishedMs), firstSequence);
          assert.equal(await reopened.sequenceAt(1, publishedMs - 1), firstSequence);
        }
        assert.equal(await reopened.sequenceAt(1, 0), 1);
        assert.equal(await reopened.sequenceAt(1, writer.publishedMs), undefined);
        const third = batches[3]?.firstSequence ?? 0;
        await reopened.commit([{ kind: 'head', topicId: 1, head: third + 1, offset: 3 }]);
        assert.equal(await reopened.sequenceAt(1, start), third + 1, 'before the head nothing is stored');
      });

      it('that do not fit behind those stored are refused, and nothing of their commit is stored', async () => {
        const { log, writer } = await begun();
        await log.commit([writer.next(2, Buffer.from('ab'))]);
        const { batch } = writer.next(1, Buffer.from('c'));
        const wrong = [
          { ...batch, firstSequence: 5 },
          { ...batch, offset: 1 },
          { ...batch, count: 0 },
          { ...batch, publishedMs: 1 },
        ];
        for (const one of wrong) {
          const changes: Change[] = [topicChange(7), { kind: 'batch', topicId: 1, batch: one }];
          await assert.rejects(log.commit(changes), isBug);
        }
        await assert.rejects(log.commit([{ kind: 'batch', topicId: 3, batch }]), isBug);
        await log.commit([{ kind: 'batch', topicId: 1, batch }]);
        assert.equal((await readAll(log, 1)).length, 2);
        assert.equal((await log.load()).topics.length, 1);
      });
    });

    describe('the head', () => {
      it('hides what is below, also before it is trimmed', async () => {
        const { place, log, writer } = await begun();
        for (let n = 0; n < 10; n += 1) await log.commit([writer.next(5, Buffer.alloc(10, n))]);
        await log.commit([{ kind: 'head', topicId: 1, head: 13, offset: 20 }]);
        const look = async (from: QueueLog): Promise<void> => {
          const batches = await readAll(from, 1);
          assert.equal(batches[0]?.firstSequence, 11, 'the batch that holds the head is whole');
          assert.equal(batches.length, 8);
          const { head, headOffset, next, nextOffset } = await theTopic(from);
          assert.deepEqual(
            { head, headOffset, next, nextOffset },
            { head: 13, headOffset: 20, next: 51, nextOffset: 100 },
          );
        };
        await look(log);
        const reopened = await again(place, log);
        await look(reopened);
        await reopened.trim({ topicId: 1, head: 13 });
        await look(reopened);
        await reopened.compact();
        await look(await again(place, reopened));
      });

      it('may pass the end: the next message is then not below', async () => {
        const { place, log, writer } = await begun();
        await log.commit([writer.next(5, Buffer.alloc(10))]);
        await log.commit([{ kind: 'head', topicId: 1, head: 6, offset: 10 }]);
        await log.trim({ topicId: 1, head: 6 });
        const reopened = await again(place, log);
        assert.deepEqual(await reopened.read(1, 1, 100), []);
        const { next, nextOffset, newestMs } = await theTopic(reopened);
        assert.deepEqual({ next, nextOffset }, { next: 6, nextOffset: 10 });
        assert.equal(newestMs, writer.publishedMs - 10, 'time does not go back in an empty topic');
        await reopened.commit([{ kind: 'head', topicId: 1, head: 100, offset: 10 }]);
        assert.equal((await theTopic(reopened)).next, 100);
        writer.sequence = 100;
        await reopened.commit([writer.next(1, Buffer.from('x'))]);
        assert.deepEqual(
          (await readAll(reopened, 1)).map(({ firstSequence }) => firstSequence),
          [100],
        );
      });

      it('never goes back, and no trim passes it', async () => {
        const { log, writer } = await begun();
        await log.commit([writer.next(5, Buffer.alloc(10)), writer.next(5, Buffer.alloc(10))]);
        await log.commit([{ kind: 'head', topicId: 1, head: 6, offset: 10 }]);
        await assert.rejects(log.commit([{ kind: 'head', topicId: 1, head: 5, offset: 10 }]), isBug);
        await assert.rejects(log.commit([{ kind: 'head', topicId: 1, head: 6, offset: 9 }]), isBug);
        await assert.rejects(log.commit([{ kind: 'head', topicId: 1, head: 7, offset: 21 }]), isBug);
        await assert.rejects(log.trim({ topicId: 1, head: 7 }), isBug);
        await log.trim({ topicId: 1, head: 6 });
        await log.trim({ topicId: 1, head: 6 });
        await log.trim({ topicId: 1, head: 2 });
        assert.equal((await readAll(log, 1)).length, 1);
      });

      it('takes much and little along', async () => {
        const { place, log, writer } = await begun();
        await log.commit(Array.from({ length: 2500 }, (_, n) => writer.next(1, Buffer.from(String(n)))));
        let offset = 0;
        for (const head of [3, 4, 2402, 2403]) {
          const [first] = await log.read(1, head, 1);
          offset = first?.offset ?? 0;
          await log.commit([{ kind: 'head', topicId: 1, head, offset }]);
          await log.trim({ topicId: 1, head });
        }
        const reopened = await again(place, log);
        assert.equal((await readAll(reopened, 1)).length, 2500 - 2402);
        await reopened.trim({ topicId: 1, head: 2403 });
        await reopened.commit([writer.next(1, Buffer.from('last'))]);
        assert.equal((await readAll(await again(place, reopened), 1)).length, 2500 - 2402 + 1);
      });

      it('gives space back', async () => {
        const { log, writer } = await begun();
        const noise = Buffer.from(Array.from({ length: 50_000 }, (_, n) => (n * 7919) & 255));
        for (let n = 0; n < 100; n += 1) await log.commit([writer.next(10, noise)]);
        const full = await log.diskBytes();
        assert.ok(full > 5_000_000, `${full} bytes hold 5 MB`);
        await log.commit([{ kind: 'head', topicId: 1, head: writer.sequence, offset: writer.offset }]);
        await log.trim({ topicId: 1, head: writer.sequence });
        await log.compact();
        const empty = await log.diskBytes();
        assert.ok(empty < 100_000, `${empty} bytes hold nothing`);
      });

      it('gives the space of dead letters back, and says how much there is to give', async () => {
        const { log, writer } = await begun();
        await log.commit([...subscriptionChanges(1, 1), writer.next(100, Buffer.from('messages'))]);
        const deleted = (): number => log.deletedBytes;
        for (let n = 1; n <= 100; n += 1) {
          const { letter: short } = letter(n);
          await log.commit([{ ...letter(n), letter: short && { ...short, message: Buffer.alloc(50_000, 'noise') } }]);
        }
        assert.equal(deleted(), 0);
        for (let n = 100; n >= 1; n -= 1) await log.commit([letterGone(n)]);
        assert.ok(deleted() > 5_000_000, `${deleted()} bytes were deleted`);
        await log.compact();
        assert.deepEqual([deleted(), (await log.diskBytes()) < 100_000], [0, true]);
      });
    });

    describe('topics', () => {
      it('are loaded as they were stored, with the next id', async () => {
        const { place, log } = await begun();
        await log.commit([topicChange(5, 'five')]);
        const changed = { ...topicRecord(5, 'five'), revision: 2 };
        await log.commit([{ kind: 'topic', topic: changed }]);
        const { topics, nextTopicId } = await (await again(place, log)).load();
        assert.equal(nextTopicId, 6);
        assert.deepEqual(
          topics.map(({ record }) => record),
          [topicRecord(1), changed],
        );
        const [, five] = topics;
        assert.deepEqual(
          { ...five, record: undefined },
          {
            record: undefined,
            head: 1,
            headOffset: 0,
            next: 1,
            nextOffset: 0,
            newestMs: 0,
            nextSubscriptionId: 1,
            subscriptions: [],
            delayed: { count: 0, nextDueMs: undefined, nextNumber: 0 },
            producers: [],
          },
        );
      });

      it('go with everything below them, and their id is never given out again', async () => {
        const { place, log, writer } = await begun();
        await log.commit([topicChange(2)]);
        await log.commit([
          writer.next(2, Buffer.from('ab')),
          letter(1),
          letter(2, true),
          delayed(5, 0, 'late'),
          { kind: 'retry', topicId: 1, subscriptionId: 1, sequence: 1, retry: { attempts: 1, notBeforeMs: 5 } },
          { kind: 'dedupe', topicId: 1, window: 1, id: 'a', sequence: 1 },
          { kind: 'producer', topicId: 1, producer: 'p', record: { producer: 'p', acks: [], seenMs: 5 } },
        ]);
        await log.commit([{ kind: 'topic removed', topicId: 1 }]);
        assert.deepEqual(await log.read(1, 1, 1000), []);
        const reopened = await again(place, log);
        const { topics, nextTopicId } = await reopened.load();
        assert.deepEqual(
          topics.map(({ record }) => record.id),
          [2],
        );
        assert.equal(nextTopicId, 3);
        await assert.rejects(reopened.commit([topicChange(1)]), isBug);
        assert.equal((await reopened.dedupe(1, [1], ['a'])).size, 0);
        assert.equal(await reopened.nextDueMs(1), undefined);
        assert.equal(await reopened.deadLetter(1, 1, 1), undefined);
        await reopened.commit([topicChange(3), ...subscriptionChanges(3, 1)]);
      });
    });

    describe('subscriptions', () => {
      it('are loaded with their position, attempts and dead letters', async () => {
        const { place, log, writer } = await begun();
        await log.commit([writer.next(100, Buffer.alloc(100))]);
        const settled = [
          { from: 12, until: 14 },
          { from: 20, until: 21 },
          { from: 90, until: 101 },
        ];
        await log.commit([
          { kind: 'cursor', topicId: 1, subscriptionId: 1, cursor: { floor: 10, settled, dropped: 3 } },
          { kind: 'retry', topicId: 1, subscriptionId: 1, sequence: 15, retry: { attempts: 1, notBeforeMs: 77 } },
          { kind: 'retry', topicId: 1, subscriptionId: 1, sequence: 11, retry: { attempts: 2, notBeforeMs: 0 } },
          letter(12),
          letter(13, true),
          ...subscriptionChanges(1, 2, 101),
        ]);
        const reopened = await again(place, log);
        const { cursor, retries, dead, replayed, record } = await theSubscription(reopened);
        assert.deepEqual(cursor, { floor: 10, settled, dropped: 3 });
        assert.deepEqual(
          [...retries],
          [
            [11, { attempts: 2, notBeforeMs: 0 }],
            [15, { attempts: 1, notBeforeMs: 77 }],
          ],
        );
        assert.deepEqual({ dead, replayed }, { dead: 1, replayed: [13] });
        assert.equal(record.name, 'subscription-1');
        assert.equal((await theTopic(reopened)).nextSubscriptionId, 3);
        await reopened.commit([
          { kind: 'retry', topicId: 1, subscriptionId: 1, sequence: 15, retry: undefined },
          { kind: 'cursor', topicId: 1, subscriptionId: 1, cursor: { floor: 30, settled: [], dropped: 3 } },
        ]);
        const later = await theSubscription(await again(place, reopened));
        assert.deepEqual([...later.retries.keys()], [11]);
        assert.equal(later.cursor.floor, 30);
      });

      it('go with what hangs below them, and leave the others alone', async () => {
        const { place, log } = await begun();
        await log.commit([...subscriptionChanges(1, 2)]);
        await log.commit([letter(3), { ...letter(4), subscriptionId: 2 }]);
        await log.commit([{ kind: 'subscription removed', topicId: 1, subscriptionId: 1 }]);
        assert.deepEqual(
          (await theTopic(log)).subscriptions.map(({ record }) => record.id),
          [2],
        );
        const reopened = await again(place, log);
        assert.deepEqual(
          (await theTopic(reopened)).subscriptions.map(({ dead }) => dead),
          [1],
        );
        assert.deepEqual(await reopened.deadLetters(1, 1, { after: 0, limit: 10 }), []);
        await assert.rejects(reopened.commit([...subscriptionChanges(1, 1)]), isBug);
        await assert.rejects(reopened.commit([letter(5)]), isBug);
        await reopened.commit([...subscriptionChanges(1, 3)]);
      });
    });

    describe('dead letters', () => {
      it('are listed by sequence, page by page, and found one by one', async () => {
        const { place, log } = await begun();
        for (const sequence of [300, 7, 1, 256]) await log.commit([letter(sequence)]);
        const reopened = await again(place, log);
        const all = await reopened.deadLetters(1, 1, { after: 0, limit: 10 });
        assert.deepEqual(
          all,
          [1, 7, 256, 300].map((sequence) => letter(sequence).letter),
        );
        assert.deepEqual(await reopened.deadLetters(1, 1, { after: 7, limit: 1 }), [all[2]]);
        assert.deepEqual(await reopened.deadLetters(1, 1, { after: 300, limit: 1 }), []);
        assert.deepEqual(await reopened.deadLetter(1, 1, 7), all[1]);
        assert.equal(await reopened.deadLetter(1, 1, 8), undefined);
      });

      it('are counted through every change, also several in one commit', async () => {
        const { place, log } = await begun();
        const steps: [readonly Change[], number, readonly number[]][] = [
          [[letter(1), letter(2), letter(3)], 3, []],
          [[letter(2, true)], 2, [2]],
          [[letter(2, true), letter(1)], 2, [2]],
          [[letterGone(1), letter(3, true), letter(4)], 1, [2, 3]],
          [[letter(3, false), letterGone(3), letterGone(2), letterGone(9)], 1, []],
          [[letterGone(4), letter(4), letterGone(4)], 0, []],
        ];
        for (const [changes, dead, replayed] of steps) {
          await log.commit(changes);
          const found = await theSubscription(log);
          assert.deepEqual({ dead: found.dead, replayed: found.replayed }, { dead, replayed });
        }
        assert.equal((await theSubscription(await again(place, log))).dead, 0);
      });
    });

    describe('delayed messages', () => {
      it('are given out by time, and earlier ones that come later are not missed', async () => {
        const { place, log } = await begun();
        await log.commit([delayed(5000, 0, 'a'), delayed(3000, 1, 'b'), delayed(3000, 2, 'c')]);
        const reopened = await again(place, log);
        assert.deepEqual((await theTopic(reopened)).delayed, { count: 3, nextDueMs: 3000, nextNumber: 3 });
        assert.equal(await reopened.nextDueMs(1), 3000);
        const texts = async (dueMs: number, limit = 10): Promise<readonly string[]> =>
          (await reopened.delayed(1, dueMs, limit)).map(({ message }) => message.toString());
        assert.deepEqual(await texts(2999), []);
        assert.deepEqual(await texts(3000), ['b', 'c']);
        assert.deepEqual(await texts(9000, 1), ['b']);
        assert.deepEqual(await texts(9000), ['b', 'c', 'a']);
        await reopened.commit([delayed(3000, 1), delayed(3000, 2)]);
        assert.deepEqual(await texts(9000), ['a']);
        assert.equal(await reopened.nextDueMs(1), 5000);
        await reopened.commit([delayed(1000, 3, 'd')]);
        assert.equal(await reopened.nextDueMs(1), 1000);
        assert.deepEqual(await texts(9000), ['d', 'a']);
        await reopened.commit([delayed(1000, 3), delayed(5000, 0)]);
        assert.deepEqual((await theTopic(reopened)).delayed, { count: 0, nextDueMs: undefined, nextNumber: 4 });
        assert.equal(await reopened.nextDueMs(1), undefined);
        assert.deepEqual(await reopened.delayed(1, 9000, 10), []);
        await reopened.commit([delayed(100, 4, 'e')]);
        assert.deepEqual(await texts(100), ['e']);
        assert.equal((await theTopic(await again(place, reopened))).delayed.count, 1);
      });
    });

    describe('dedupe ids', () => {
      it('are known in the windows asked for, until they are forgotten', async () => {
        const { place, log } = await begun();
        await log.commit([
          { kind: 'dedupe', topicId: 1, window: 4, id: 'a', sequence: 11 },
          { kind: 'dedupe', topicId: 1, window: 5, id: 'b', sequence: 12 },
          { kind: 'dedupe', topicId: 1, window: 5, id: 'late', sequence: 0 },
          { kind: 'dedupe', topicId: 1, window: 5, id: 'ü'.repeat(64), sequence: 13 },
        ]);
        const reopened = await again(place, log);
        const asked = ['a', 'b', 'late', 'other', 'ü'.repeat(64)];
        assert.deepEqual(
          await reopened.dedupe(1, [4, 5], asked),
          new Map([
            ['a', 11],
            ['b', 12],
            ['late', 0],
            ['ü'.repeat(64), 13],
          ]),
        );
        assert.deepEqual(await reopened.dedupe(1, [4], asked), new Map([['a', 11]]));
        assert.deepEqual(await reopened.dedupe(1, [], asked), new Map());
        await reopened.forgetDedupe(1, 5);
        await reopened.forgetDedupe(1, 5);
        await reopened.forgetDedupe(1, 2);
        assert.deepEqual(await reopened.dedupe(1, [4, 5], ['a', 'b']), new Map([['b', 12]]));
      });
    });

    describe('producers', () => {
      it('are loaded with what they published last', async () => {
        const { place, log } = await begun();
        const acks = [
          { batch: 3, firstSequence: 10, count: 5 },
          { batch: 4, firstSequence: 0, count: 0 },
          { batch: 9, firstSequence: 15, count: 1 },
        ];
        await log.commit([
          { kind: 'producer', topicId: 1, producer: 'one', record: { producer: 'one', acks, seenMs: 44 } },
          { kind: 'producer', topicId: 1, producer: 'zwei ü', record: { producer: 'zwei ü', acks: [], seenMs: 45 } },
        ]);
        const reopened = await again(place, log);
        assert.deepEqual((await theTopic(reopened)).producers, [
          { producer: 'one', acks, seenMs: 44 },
          { producer: 'zwei ü', acks: [], seenMs: 45 },
        ]);
        await reopened.commit([{ kind: 'producer', topicId: 1, producer: 'one', record: undefined }]);
        assert.equal((await theTopic(await again(place, reopened))).producers.length, 1);
      });
    });

    describe('commits', () => {
      it('asked for at once are done in the order asked', async () => {
        const { place, log, writer } = await begun();
        const commits = Array.from({ length: 30 }, (_, n) => log.commit([writer.next(1, Buffer.from(String(n)))]));
        await Promise.all(commits);
        const texts = (await readAll(await again(place, log), 1)).map(({ messages }) => messages.toString());
        assert.deepEqual(
          texts,
          Array.from({ length: 30 }, (_, n) => String(n)),
        );
      });

      it('refuse numbers that the log cannot hold', async () => {
        const { log } = await begun();
        const cursor = { floor: 2 ** 53, settled: [], dropped: 0 };
        await assert.rejects(log.commit([{ kind: 'cursor', topicId: 1, subscriptionId: 1, cursor }]), isBug);
        await assert.rejects(log.commit([delayed(-1, 0, 'a')]), isBug);
        await log.commit([delayed(1, 0, 'a')]);
      });
    });

    describe('lifecycle', () => {
      it('a sound log has nothing to scrub', async () => {
        const { place, log, writer } = await begun();
        await log.commit([writer.next(1, Buffer.alloc(300_000))]);
        const reopened = await again(place, log);
        assert.deepEqual(await collect(reopened.scrub(new AbortController().signal)), []);
        const aborted = AbortSignal.abort(new Error('enough'));
        assert.deepEqual(await collect(reopened.scrub(aborted)), []);
      });

      it('close waits for what was asked before and refuses what comes after, also twice', async () => {
        const { place, log, writer } = await begun();
        const commit = log.commit([writer.next(1, Buffer.from('last'))]);
        const closing = log.close();
        await assert.rejects(log.read(1, 1, 100), refused('LOG_CLOSED'));
        await Promise.all([commit, closing, log.close()]);
        await refusesEverything(log, 'LOG_CLOSED');
        if (!driver.durable) return;
        const reopened = await place.open();
        await reopened.load();
        assert.equal((await readAll(reopened, 1)).length, 1);
      });

      it('a failed write stops the log: nothing is answered any more, and what was stored is there when it is opened again', async (t) => {
        const { place, log, writer } = await begun();
        if (!place.breakWrites) {
          t.skip('this engine cannot fail');
          return;
        }
        await log.commit([writer.next(1, Buffer.from('stored'))]);
        place.breakWrites();
        const lost = log.commit([writer.next(1, Buffer.from('lost'))]);
        const behind = log.commit([topicChange(2)]);
        await assert.rejects(lost, refused('LOG_FAILED'));
        await assert.rejects(behind, refused('LOG_FAILED'));
        const reason = await log.failed;
        assert.equal(reason.reason, 'LOG_FAILED');
        await refusesEverything(log, 'LOG_FAILED');
        await log.close();
        const reopened = await place.open();
        await reopened.load();
        assert.deepEqual(
          (await readAll(reopened, 1)).map(({ messages }) => messages.toString()),
          ['stored'],
        );
      });

      it('a failed trim stops it too', async (t) => {
        const { place, log, writer } = await begun();
        if (!place.breakWrites) {
          t.skip('this engine cannot fail');
          return;
        }
        const batches = Array.from({ length: 2000 }, () => writer.next(1, Buffer.from('a')));
        await log.commit([...batches, { kind: 'head', topicId: 1, head: 1999, offset: 1998 }]);
        place.breakWrites();
        await assert.rejects(log.trim({ topicId: 1, head: 1999 }), refused('LOG_FAILED'));
        await log.failed;
        await refusesEverything(log, 'LOG_FAILED');
      });
    });
  });
}
