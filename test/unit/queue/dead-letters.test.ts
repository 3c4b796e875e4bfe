import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Broker } from '../../../src/queue/broker.js';
import { DeadLetters } from '../../../src/queue/dead-letters.js';
import type { Delivery } from '../../../src/queue/delivery.js';
import { subscriptionSettings } from '../../../src/queue/subscription/settings.js';
import { topicSettings } from '../../../src/queue/topic-settings.js';
import { acks, CREDIT } from '../../support/queue-delivery.js';
import { encoded, queueParts, TestSink, type QueueParts } from '../../support/queue-parts.js';

interface Fixture extends QueueParts {
  readonly broker: Broker;
  readonly delivery: Delivery;
  readonly letters: DeadLetters;
  readonly sink: TestSink;
  readonly id: number;
}

async function open(parts: QueueParts): Promise<Omit<Fixture, 'sink' | 'id'>> {
  const broker = await Broker.open({ ...parts, autoCreateTopics: false });
  if (broker.topics().length === 0) {
    await broker.createTopic('orders', topicSettings({}));
    await broker.createSubscription('orders', 'mail', subscriptionSettings({ maxAttempts: 1 }));
  }
  const delivery = broker.delivery('orders', 'mail');
  return { ...parts, broker, delivery, letters: new DeadLetters(broker, delivery) };
}

/** A subscription to which so many messages have died. */
async function fixture(count: number): Promise<Fixture> {
  const parts = await open(queueParts());
  const sink = new TestSink();
  const id = parts.delivery.attach(sink, { maxMessages: 10_000, maxBytes: CREDIT.maxBytes });
  await parts.broker
    .topic('orders')
    .publish(encoded(...Array.from({ length: count }, (_, index) => String(index + 1))));
  await parts.delivery.quiet();
  const nacks = Array.from({ length: count }, (_, index) => ({
    range: { first: index + 1, last: index + 1 },
    deadLetter: true,
    reason: 'no',
  }));
  await parts.delivery.settle(id, { acks: [], nacks, extends: [] }).stored;
  return { ...parts, sink, id };
}

async function sequences({ letters }: Pick<Fixture, 'letters'>, after = 0, limit = 10_000): Promise<number[]> {
  return (await letters.list(after, limit)).map(({ sequence }) => sequence);
}

describe('the dead letters of a subscription', () => {
  it('are listed by their sequence, a page at a time', async () => {
    const parts = await fixture(5);
    assert.deepEqual(await sequences(parts), [1, 2, 3, 4, 5]);
    assert.deepEqual(await sequences(parts, 2, 2), [3, 4]);
    assert.deepEqual(await sequences(parts, 5), []);
  });

  it('are listed whole when they are more than one page of the log', async () => {
    const parts = await fixture(2100);
    assert.equal((await sequences(parts)).length, 2100);
    assert.equal((await sequences(parts, 0, 1500)).length, 1500);
  });

  it('are delivered again, those that were named, and listed no more', async () => {
    const parts = await fixture(4);
    assert.equal(await parts.letters.replay([2, 4, 2, 99]), 2);
    await parts.delivery.quiet();
    assert.deepEqual(parts.sink.payloads.slice(4), ['2', '4']);
    assert.deepEqual(await sequences(parts), [1, 3]);
    assert.equal(parts.delivery.stats().dead, 2);
    assert.equal(await parts.letters.replay([2]), 0);
  });

  it('are delivered again, all of them, with their attempts counted anew', async () => {
    const parts = await fixture(3);
    assert.equal(await parts.letters.replay([]), 3);
    await parts.delivery.quiet();
    assert.deepEqual([parts.sink.payloads.slice(3), parts.sink.attempts.at(-1)], [['1', '2', '3'], 1]);
    await parts.delivery.settle(parts.id, acks(4, 6)).stored;
    assert.deepEqual(
      [await sequences(parts), parts.delivery.stats().dead, parts.delivery.stats().replayed],
      [[], 0, 0],
    );
    assert.equal(await parts.log.deadLetter(1, 1, 1), undefined);
  });

  it('that are being delivered again are so after a new start', async () => {
    const before = await fixture(2);
    before.delivery.setCredit(before.id, { maxMessages: 0, maxBytes: 0 });
    await before.letters.replay([1]);
    const { delivery } = await open(before);
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    await delivery.quiet();
    assert.deepEqual([sink.payloads, delivery.stats().dead], [['1'], 1]);
  });

  it('are deleted, those that were named, or all', async () => {
    const parts = await fixture(4);
    assert.equal(await parts.letters.purge([1, 3, 77]), 2);
    assert.deepEqual([await sequences(parts), parts.delivery.stats().dead], [[2, 4], 2]);
    assert.equal(await parts.letters.purge([]), 2);
    assert.deepEqual([await sequences(parts), parts.delivery.stats().dead], [[], 0]);
    assert.equal(await parts.letters.purge([]), 0);
  });

  it('that are being delivered again are not deleted', async () => {
    const parts = await fixture(2);
    await parts.letters.replay([1]);
    assert.equal(await parts.letters.purge([1]), 0);
    assert.equal(await parts.letters.purge([]), 1);
    assert.equal((await parts.log.deadLetter(1, 1, 1))?.replayed, true);
  });
});
