import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { Content } from '../../../../src/client/queue/message.js';
import { Publisher, type PublisherOptions } from '../../../../src/client/queue/publisher.js';
import { ManualClock, systemClock, type Clock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';
import { seededRandom } from '../../../../src/kit/random.js';
import { openChannel } from '../../../../src/rpc/client.js';
import { lostConnection, refusal, startFakeQueue, type FakeQueue } from '../../../support/fake-queue.js';
import { failureOf } from '../../../support/rpc.js';
import { waitFor } from '../../../support/waiting.js';

function publisherOf(
  t: TestContext,
  { address }: FakeQueue,
  options: PublisherOptions = {},
  { topic = 'orders', clock = systemClock }: { topic?: string; clock?: Clock } = {},
) {
  const channel = openChannel({ address });
  const publisher = new Publisher(topic, options, {
    channel: () => Promise.resolve(channel),
    clock,
    random: seededRandom(1),
  });
  t.after(async () => {
    await publisher.close().catch(() => undefined);
    channel.close();
  });
  return publisher;
}

function payloads({ stored }: FakeQueue): string[] {
  return stored.map(({ payload }) => payload.toString());
}

function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `m${index}`);
}

/** Fails once, with what looks like a lost connection. */
function once(): () => Promise<void> {
  let left = 1;
  return () => {
    left -= 1;
    return left < 0 ? Promise.resolve() : Promise.reject(lostConnection());
  };
}

describe('a publisher', () => {
  it('answers each message with its sequence', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue);
    const receipts = await Promise.all(
      ['a', Buffer.from('b'), { payload: 'c', key: 'k' }].map((c) => publisher.send(c)),
    );
    assert.deepEqual(
      receipts.map(({ sequence }) => sequence),
      [1, 2, 3],
    );
    assert.deepEqual(payloads(queue), ['a', 'b', 'c']);
    assert.equal(publisher.pending, 0);
  });

  it('puts what comes in one go into one batch, and fills the next while batches are on their way', async (t) => {
    const queue = await startFakeQueue(t);
    let answer = (): void => undefined;
    const held = new Promise<void>((resolve) => (answer = resolve));
    queue.beforeAnswer = () => held;
    const publisher = publisherOf(t, queue, {}, { clock: new ManualClock() });
    for (const text of numbered(10)) void publisher.add(text);
    await waitFor('the first batch', () => queue.stored.length === 10);
    for (const text of numbered(7)) {
      void publisher.add(text);
      await new Promise((resolve) => setImmediate(resolve));
    }
    answer();
    await publisher.flush();
    assert.equal(queue.stored.length, 17);
    assert.ok(queue.batches.length <= 4, `batches of ${queue.batches.join(', ')}`);
    assert.equal(queue.batches[0], 10);
  });

  it('sends what has waited a moment for answers that do not come', async (t) => {
    const queue = await startFakeQueue(t);
    let answer = (): void => undefined;
    const held = new Promise<void>((resolve) => (answer = resolve));
    queue.beforeAnswer = () => held;
    const clock = new ManualClock();
    const publisher = publisherOf(t, queue, {}, { clock });
    void publisher.add('first');
    await waitFor('the first batch', () => queue.stored.length === 1);
    void publisher.add('second');
    await new Promise((resolve) => setImmediate(resolve));
    for (const text of numbered(3)) void publisher.add(text);
    await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(1);
    for (const text of numbered(2)) void publisher.add(text);
    answer();
    await publisher.flush();
    assert.deepEqual(queue.batches, [1, 1, 3, 2]);
  });

  it('fills batches up to their bounds', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue, { batchMessagesMax: 4, batchBytesMax: 1000 });
    for (const text of numbered(8)) void publisher.add(text);
    void publisher.add(Buffer.alloc(600));
    void publisher.add(Buffer.alloc(600));
    void publisher.add(Buffer.alloc(5000));
    await publisher.flush();
    assert.deepEqual(queue.batches, [4, 4, 1, 1, 1]);
  });

  it('refuses what is no message, and what goes with it is stored', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue);
    const wrong = { payload: { a: 1 } } as unknown as Content;
    const [good, bad, other] = await Promise.allSettled(['a', wrong, 'b'].map((one) => publisher.send(one)));
    assert.deepEqual([good?.status, other?.status], ['fulfilled', 'fulfilled']);
    assert.ok(bad?.status === 'rejected' && isCode(bad.reason, 'invalid'));
    assert.deepEqual(payloads(queue), ['a', 'b']);
  });

  it('sends a message that waited for room as it was given', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue, { inFlightMessagesMax: 1 });
    const reused = { payload: 'a', attributes: { n: '1' } };
    const sent = [publisher.send(reused)];
    reused.payload = 'second';
    reused.attributes.n = 'twelve';
    sent.push(publisher.send(reused));
    reused.payload = 'a third one, and longer';
    await Promise.all(sent);
    assert.deepEqual(payloads(queue), ['a', 'second']);
  });

  it('waits for room: no more is in flight than allowed, and the order holds', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue, { inFlightMessagesMax: 10, batchMessagesMax: 5 });
    const texts = numbered(100);
    const before = texts.slice(0, 50).map((text) => publisher.add(text));
    assert.equal(before.filter((wait) => wait === undefined).length, 10);
    assert.equal(publisher.tryAdd('too many'), false);
    await Promise.all(before.filter((wait) => wait !== undefined));
    for (const text of texts.slice(50)) await publisher.add(text);
    await publisher.flush();
    assert.deepEqual(payloads(queue), texts);
  });

  it('tells duplicates and delayed messages from the others', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue);
    await publisher.send({ payload: 'first', dedupeId: 'one' });
    const receipts = await Promise.all([
      publisher.send('a'),
      publisher.send({ payload: 'again', dedupeId: 'one' }),
      publisher.send({ payload: 'later', deliverAfterMs: 60_000 }),
      publisher.send('b'),
    ]);
    assert.deepEqual(receipts, [
      { sequence: 2, duplicate: false, delayed: false },
      { sequence: 1, duplicate: true, delayed: false },
      { sequence: undefined, duplicate: false, delayed: true },
      { sequence: 3, duplicate: false, delayed: false },
    ]);
  });

  for (const [when, place] of [
    ['before the batch is stored', 'beforeStore'],
    ['after it is stored and before it is answered', 'beforeAnswer'],
  ] as const) {
    it(`sends again what a connection lost ${when} left open: once each, in order`, async (t) => {
      const queue = await startFakeQueue(t);
      const publisher = publisherOf(t, queue, { batchMessagesMax: 3 });
      queue[place] = once();
      const receipts = await Promise.all(numbered(10).map((text) => publisher.send(text)));
      assert.deepEqual(payloads(queue), numbered(10));
      assert.deepEqual(
        receipts.map(({ sequence }) => sequence),
        numbered(10).map((_, index) => index + 1),
      );
      assert.equal(queue.opens, 2);
    });
  }

  it('survives a queue that goes away and comes back, under load', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue, { batchMessagesMax: 10, inFlightMessagesMax: 50 });
    const texts = numbered(2000);
    const restarts = (async () => {
      for (const at of [200, 900, 1500]) {
        await waitFor('progress', () => queue.stored.length >= at);
        await queue.stop();
        await queue.start();
      }
    })();
    for (const text of texts) await publisher.add(text);
    await publisher.flush();
    await restarts;
    assert.deepEqual(payloads(queue), texts);
  });

  it('tells of a refused batch, and stores what came behind it', async (t) => {
    const queue = await startFakeQueue(t);
    queue.refuse = ({ messages }) =>
      messages.some(({ payload }) => payload.toString() === 'm4') ? refusal('TOPIC_FULL', 50) : undefined;
    const publisher = publisherOf(t, queue, { batchMessagesMax: 2 });
    const results = await Promise.allSettled(numbered(10).map((text) => publisher.send(text)));
    assert.deepEqual(
      results.map(({ status }) => status),
      numbered(10).map((_, index) => (index === 4 || index === 5 ? 'rejected' : 'fulfilled')),
    );
    const refused = results[4];
    assert.ok(refused?.status === 'rejected' && isCode(refused.reason, 'exhausted'));
    assert.equal(refused.reason.reason, 'TOPIC_FULL');
    assert.equal(refused.reason.retryAfterMs, 50);
    assert.deepEqual(
      payloads(queue),
      numbered(10).filter((_, index) => index !== 4 && index !== 5),
    );
  });

  it('tells at the flush what became of messages nobody waited for', async (t) => {
    const queue = await startFakeQueue(t);
    queue.refuse = () => refusal('TOPIC_FULL', 50);
    const publisher = publisherOf(t, queue);
    for (const text of numbered(3)) void publisher.add(text);
    const failure = await failureOf(publisher.flush());
    assert.equal(failure.reason, 'TOPIC_FULL');
    assert.equal(failure.metadata['messages'], '3');
    assert.match(failure.message, /3 messages were not stored/);
    await publisher.flush();
  });

  it('sends again until there is room, in order, when it is told to', async (t) => {
    const queue = await startFakeQueue(t);
    let full = 5;
    queue.refuse = () => {
      full -= 1;
      return full < 0 ? undefined : refusal('TOPIC_FULL', 5);
    };
    const publisher = publisherOf(t, queue, { onFull: 'wait', batchMessagesMax: 2, inFlightMessagesMax: 8 });
    for (const text of numbered(40)) await publisher.add(text);
    await publisher.close();
    assert.deepEqual(payloads(queue), numbered(40));
  });

  it('fails at once what cannot succeed, and works when it can', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue, { inFlightMessagesMax: 2 }, { topic: 'unknown' });
    const failures = await Promise.all(numbered(5).map((text) => failureOf(publisher.send(text))));
    assert.deepEqual(new Set(failures.map(({ reason }) => reason)), new Set(['UNKNOWN_TOPIC']));
    assert.equal(publisher.pending, 0);
  });

  it('gives up on a queue that stays away', async (t) => {
    const queue = await startFakeQueue(t);
    await queue.stop();
    const publisher = publisherOf(t, queue, { giveUpAfterMs: 1 });
    const failure = await failureOf(publisher.send('a'));
    assert.equal(failure.code, 'unavailable');
    assert.equal(failure.reason, 'QUEUE_UNREACHABLE');
  });

  it('hands over everything when it is closed, and takes nothing more', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue, { lingerMs: 60_000 });
    for (const text of numbered(3)) void publisher.add(text);
    await publisher.close();
    await publisher.close();
    assert.equal(queue.stored.length, 3);
    assert.equal((await failureOf(publisher.send('more'))).reason, 'CLOSED');
  });

  it('lets a batch wait for more as long as it is told to', async (t) => {
    const queue = await startFakeQueue(t);
    const publisher = publisherOf(t, queue, { lingerMs: 20 });
    for (const text of numbered(3)) {
      void publisher.add(text);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor('the batch', () => queue.stored.length === 3);
    assert.deepEqual(queue.batches, [3]);
  });
});
