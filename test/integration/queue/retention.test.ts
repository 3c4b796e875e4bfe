import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Position } from '../../../generated/muster/v1/queue.js';
import { systemClock } from '../../../src/kit/clock.js';
import { ms, QueueBench, SUBSCRIPTION as subscription, TOPIC as topic, textOf } from '../../support/queue-consumer.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

const MIB = 1024 * 1024;
const LARGE = '.'.repeat(300 * 1024);
const EARLIEST: Position = { at: { $case: 'earliest', value: {} } };
const LATEST: Position = { at: { $case: 'latest', value: {} } };

describe('what a topic keeps', () => {
  it('goes when all subscriptions have settled it, and not before', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.subscription('other');
    await bench.publish('a', 'b', 'c');
    const [one, other] = [await bench.consumer(), await bench.consumer({ subscription: 'other' })];
    await one.got(3);
    await one.ackAll();
    await other.got(3);
    await other.settle({ acks: [1] });
    await waitFor('the first to go', async () => (await bench.stats()).firstSequence === 2);
    assert.equal((await bench.stats()).messages, 2);
    await other.ackAll();
    await waitFor('all to go', async () => (await bench.stats()).messages === 0);
    assert.deepEqual(await bench.client.peek({ topic, from: EARLIEST, limit: 0 }), { messages: [] });
  });

  it('goes with the subscription that alone had not settled it', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.subscription('slow');
    await bench.publish('a', 'b');
    const consumer = await bench.consumer();
    await consumer.got(2);
    await consumer.ackAll();
    await bench.client.deleteSubscription({ topic, subscription: 'slow' });
    await waitFor('all to go', async () => (await bench.stats()).messages === 0);
  });

  it('is refused beyond max_bytes, with the time to try again, and taken when there is room', async (t) => {
    const bench = await QueueBench.start(t, { topic: { maxBytes: MIB } });
    for (let n = 0; n < 3; n += 1) await bench.publish(LARGE);
    const refusal = await failureOf(bench.publish(LARGE));
    assert.equal(refusal.code, 'exhausted');
    assert.equal(refusal.reason, 'TOPIC_FULL');
    assert.ok((refusal.retryAfterMs ?? 0) > 0);
    assert.match(refusal.message, /topic t is full: it holds 92\d KB of at most 1.0 MB/);
    // A smaller one still fits.
    await bench.publish('small');
    const consumer = await bench.consumer();
    await consumer.got(4);
    await consumer.settle({ acks: [1] });
    await waitFor('room', async () => (await bench.publish(LARGE)) === 5);
    assert.equal((await bench.subscriptionStats()).dropped, 0);
  });

  it('is dropped from the front beyond max_bytes where that is wished, counted, and consumers go on', async (t) => {
    const bench = await QueueBench.start(t, { topic: { maxBytes: MIB, onFull: 'ON_FULL_DROP_OLDEST' } });
    const consumer = await bench.consumer({ maxMessages: 1 });
    for (let n = 0; n < 10; n += 1) await bench.publish(`${n}${LARGE}`);
    const stats = await bench.stats();
    assert.ok(stats.bytes <= MIB, `${stats.bytes} bytes are kept`);
    assert.equal(stats.messages, 3);
    const { dropped, backlog } = await bench.subscriptionStats();
    assert.equal(dropped, 7);
    assert.equal(backlog, 3);
    // What it had is gone under its hands; the newest three follow.
    const settled: number[] = [];
    for (let count = 1; settled.at(-1) !== 10; count += 1) {
      const { sequence } = (await consumer.got(count))[count - 1] ?? {};
      const [failure] = await consumer.settle({ acks: [count] });
      if (failure) assert.deepEqual(failure, { delivery: count, reason: 'LEASE_OVER' });
      else settled.push(sequence ?? 0);
    }
    assert.deepEqual(settled, [8, 9, 10]);
    await waitFor('all to go', async () => (await bench.stats()).messages === 0);
    assert.equal((await bench.subscriptionStats()).dropped, 7);
  });

  it('is refused while the oldest is over max_age, and taken when it is settled', async (t) => {
    const bench = await QueueBench.start(t, { topic: { maxAge: ms(200) } });
    await bench.publish('old');
    const refusal = await waitFor('the topic to be over its age', () =>
      bench.publish('new').then(
        () => undefined,
        (error: unknown) => failureOf(Promise.reject(error)),
      ),
    );
    assert.equal(refusal.reason, 'TOPIC_FULL');
    assert.match(refusal.message, /older than max_age/);
    const consumer = await bench.consumer();
    await consumer.got(1);
    await waitFor('publishing to go on', async () => {
      await consumer.ackAll().catch(() => undefined);
      return bench.publish('after').catch(() => false);
    });
    assert.equal((await bench.subscriptionStats()).dropped, 0);
  });

  it('is dropped over max_age where that is wished', async (t) => {
    const bench = await QueueBench.start(t, { topic: { maxAge: ms(200), onFull: 'ON_FULL_DROP_OLDEST' } });
    await bench.publish('old', 'older');
    await waitFor('both to be dropped', async () => (await bench.subscriptionStats()).dropped === 2);
    assert.equal((await bench.stats()).messages, 0);
    await bench.publish('new');
    const consumer = await bench.consumer();
    await consumer.got(1);
    assert.deepEqual(consumer.texts, ['new']);
  });

  it('stays for min_retention after it was settled, and can be sought', async (t) => {
    const bench = await QueueBench.start(t, { topic: { minRetention: ms(3600_000) } });
    await bench.publish('a', 'b', 'c');
    const consumer = await bench.consumer();
    await consumer.got(3);
    await consumer.ackAll();
    const plan = await bench.client.seek({ topic, subscription, to: EARLIEST, dryRun: true });
    assert.deepEqual(plan, { sequence: 1, redelivered: 3, skipped: 0 });
    assert.equal((await bench.subscriptionStats()).backlog, 0, 'a dry run moved the subscription');
    assert.deepEqual(await bench.client.seek({ topic, subscription, to: EARLIEST, dryRun: false }), plan);
    await consumer.got(6);
    assert.deepEqual(consumer.texts, ['a', 'b', 'c', 'a', 'b', 'c']);
    assert.deepEqual(await bench.client.seek({ topic, subscription, to: LATEST, dryRun: false }), {
      sequence: 4,
      redelivered: 0,
      skipped: 3,
    });
    assert.equal((await bench.subscriptionStats()).backlog, 0);
    const late: Position = { at: { $case: 'sequence', value: 3 } };
    await bench.client.seek({ topic, subscription, to: late, dryRun: false });
    await consumer.got(7);
    assert.equal(consumer.texts[6], 'c');
  });

  it('can be looked at without being touched', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.publish({ payload: Buffer.from('a'), key: 'k', attributes: { colour: 'red' } }, 'b', 'c');
    const { messages } = await bench.client.peek({ topic, from: { at: { $case: 'sequence', value: 2 } }, limit: 1 });
    assert.deepEqual(
      messages.map(({ sequence, message }) => [sequence, message && textOf(message)]),
      [[2, 'b']],
    );
    const all = await bench.client.peek({ topic, from: undefined, limit: 0 });
    assert.equal(all.messages.length, 3);
    assert.deepEqual(all.messages[0]?.message?.attributes, { colour: 'red' });
    assert.equal((await bench.subscriptionStats()).backlog, 3);
  });
});

describe('a subscription that comes late', () => {
  it('starts where it asked', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.publish('a', 'b');
    // Times are those of batches: the next one must be a later millisecond.
    const between = await waitFor('the clock to go on', () => {
      const now = systemClock.now();
      return new Date(now + 2);
    });
    await waitFor('the time between', () => systemClock.now() > between.getTime());
    await bench.publish('c', 'd');
    const starts: Record<string, [Position | undefined, string[]]> = {
      earliest: [EARLIEST, ['a', 'b', 'c', 'd', 'e']],
      latest: [LATEST, ['e']],
      'by-default': [undefined, ['e']],
      'at-sequence': [{ at: { $case: 'sequence', value: 2 } }, ['b', 'c', 'd', 'e']],
      'at-time': [{ at: { $case: 'time', value: between } }, ['c', 'd', 'e']],
      'in-future': [{ at: { $case: 'time', value: new Date(systemClock.now() + 3600_000) } }, ['e']],
      'far-sequence': [{ at: { $case: 'sequence', value: 1000 } }, ['e']],
    };
    for (const [name, [start]] of Object.entries(starts)) await bench.subscription(name, { start });
    await bench.publish('e');
    for (const [name, [, expected]] of Object.entries(starts)) {
      const consumer = await bench.consumer({ subscription: name });
      await consumer.got(expected.length);
      assert.deepEqual(consumer.texts, expected, name);
    }
  });
});
