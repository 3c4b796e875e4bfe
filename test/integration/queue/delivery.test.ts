import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Message } from '../../../generated/muster/v1/queue.js';
import {
  ms,
  QueueBench,
  type Received,
  type TestConsumer,
  SUBSCRIPTION as subscription,
  TOPIC as topic,
  textOf,
} from '../../support/queue-consumer.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

const NO_BACKOFF = { initial: ms(0), max: ms(0) };

describe('deliveries', () => {
  it('of one consumer are in the order of the topic and settled by one range', async (t) => {
    const bench = await QueueBench.start(t);
    for (let n = 0; n < 20; n += 1) await bench.publish(`${2 * n}`, `${2 * n + 1}`);
    const consumer = await bench.consumer();
    const received = await consumer.got(40);
    assert.deepEqual(
      received.map(({ text }) => Number(text)),
      Array.from({ length: 40 }, (_, n) => n),
    );
    assert.deepEqual(await consumer.settle({ acks: [{ first: 1, last: 30 }] }), []);
    assert.equal((await bench.subscriptionStats()).backlog, 10);
    assert.deepEqual(await consumer.settle({ acks: [{ first: 1, last: 40 }] }), []);
    assert.equal((await bench.subscriptionStats()).backlog, 0);
  });

  it('are shared by the consumers of a subscription, and each subscription has all', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.subscription('other');
    const consumers = [await bench.consumer({ maxMessages: 5 }), await bench.consumer({ maxMessages: 5 })];
    const other = await bench.consumer({ subscription: 'other' });
    await bench.publish(...Array.from({ length: 10 }, (_, n) => `${n}`));
    await Promise.all(consumers.map((consumer) => consumer.got(5)));
    await other.got(10);
    const shared = consumers.flatMap(({ texts }) => texts).sort();
    assert.deepEqual(shared, [...other.texts]);
    const { consumers: seen, leased } = await bench.subscriptionStats();
    assert.deepEqual([seen.map((one) => one.leased), leased], [[5, 5], 10]);
  });

  it('stop at the credit: 0 pauses, a huge one is cut, a message larger than it goes alone', async (t) => {
    const bench = await QueueBench.start(t);
    const consumer = await bench.consumer({ maxMessages: 4_000_000_000, maxBytes: 4_000_000_000 });
    const [stats] = (await bench.subscriptionStats()).consumers;
    assert.deepEqual(stats?.credit, { maxMessages: 65_536, maxBytes: 64 * 1024 * 1024 });
    await consumer.credit(0);
    await bench.publish('a', 'b', 'c'.repeat(10_000), 'd');
    const other = await bench.consumer({ maxMessages: 1 });
    await other.got(1);
    assert.deepEqual(consumer.texts, []);
    await consumer.credit(10, 1000);
    await consumer.got(1);
    assert.deepEqual(consumer.texts, ['b']);
    await consumer.ackAll();
    await consumer.got(2);
    assert.equal(consumer.received[1]?.text.length, 10_000);
    assert.equal(consumer.received.length, 2, 'something was delivered beside the one that is larger than the credit');
    await consumer.ackAll();
    await consumer.got(3);
  });

  it('come again when their lease ends, elsewhere, and die after max_attempts', async (t) => {
    const wishes = { lease: ms(1000), maxAttempts: 3, backoff: NO_BACKOFF };
    const bench = await QueueBench.start(t, { subscription: wishes });
    await bench.publish('poison');
    const consumers = [await bench.consumer({ maxMessages: 1 }), await bench.consumer({ maxMessages: 1 })];
    await waitFor('the message to die', async () => (await bench.subscriptionStats()).dead === 1);
    const attempts = consumers.flatMap(({ received }) => received.map(({ attempt }) => attempt)).sort();
    assert.deepEqual(attempts, [1, 2, 3]);
    const deadLetters = await waitFor('its letter to be stored', async () => {
      const page = await bench.client.listDeadLetters({ topic, subscription, pageSize: 0, pageToken: '' });
      return page.deadLetters.length > 0 && page.deadLetters;
    });
    assert.deepEqual(
      deadLetters.map(({ sequence, attempts: failed, reason, message }) => [
        sequence,
        failed,
        reason,
        message && textOf(message),
      ]),
      [[1, 3, 'its lease ran out', 'poison']],
    );
    // A dead letter counts as settled.
    await waitFor('the topic to be empty', async () => (await bench.stats()).messages === 0);
  });

  it('keep their lease as long as it is extended', async (t) => {
    const bench = await QueueBench.start(t, { subscription: { lease: ms(1000), backoff: NO_BACKOFF } });
    await bench.publish('kept', 'lost');
    const consumer = await bench.consumer({ maxMessages: 2 });
    await consumer.got(2);
    const kept = { first: 1, last: 1 };
    assert.deepEqual(await consumer.settle({ extends: [{ deliveries: kept, lease: ms(600_000) }] }), []);
    await consumer.got(3);
    assert.deepEqual(consumer.texts, ['kept', 'lost', 'lost']);
    assert.deepEqual(await consumer.settle({ acks: [1, 3] }), []);
  });

  it('come again after a nack: at once, after a delay, after the backoff, or as a dead letter', async (t) => {
    const backoff = { initial: ms(300), max: ms(300) };
    const bench = await QueueBench.start(t, { subscription: { backoff } });
    await bench.publish('now', 'delayed', 'dead', 'backed-off');
    const consumer = await bench.consumer();
    await consumer.got(4);
    const range = (n: number): { first: number; last: number } => ({ first: n, last: n });
    await consumer.settle({
      nacks: [
        { deliveries: range(1), delay: ms(0) },
        { deliveries: range(2), delay: ms(700) },
        { deliveries: range(3), deadLetter: true, reason: 'no good' },
        range(4),
      ].map((nack) => ('first' in nack ? { deliveries: nack } : nack)),
    });
    await consumer.got(7);
    assert.deepEqual(
      consumer.received.slice(4).map(({ text, attempt }) => [text, attempt]),
      [
        ['now', 2],
        ['backed-off', 2],
        ['delayed', 2],
      ],
    );
    const { deadLetters } = await bench.client.listDeadLetters({ topic, subscription, pageSize: 0, pageToken: '' });
    assert.deepEqual(
      deadLetters.map(({ reason, attempts }) => [reason, attempts]),
      [['no good', 1]],
    );
  });

  it('of one key come in order and one at a time, whoever consumes', async (t) => {
    const bench = await QueueBench.start(t, { subscription: { ordered: true, backoff: NO_BACKOFF } });
    const of = (key: string, text: string): { key: string; payload: Buffer } => ({ key, payload: Buffer.from(text) });
    await bench.publish(of('a', 'a1'), of('a', 'a2'), of('b', 'b1'), 'free', of('a', 'a3'), of('b', 'b2'));
    const consumers = [await bench.consumer(), await bench.consumer()];
    const seen: string[] = [];
    // Each in its turn gives the first of a key back once, then takes it.
    const refused = new Set<string>();
    const take = async (consumer: TestConsumer, { delivery, text }: Received): Promise<void> => {
      const isFirst = text.endsWith('1') && !refused.has(text);
      if (isFirst) refused.add(text);
      else seen.push(text);
      const delayed = { deliveries: { first: delivery, last: delivery }, delay: ms(20) };
      await consumer.settle(isFirst ? { nacks: [delayed] } : { acks: [delivery] });
    };
    while (seen.length < 6) {
      await waitFor('more', () => consumers.some(({ received }) => received.length > 0));
      for (const consumer of consumers) {
        for (const one of consumer.received.splice(0)) await take(consumer, one);
      }
    }
    assert.deepEqual(
      seen.filter((text) => text.startsWith('a')),
      ['a1', 'a2', 'a3'],
    );
    assert.deepEqual(
      seen.filter((text) => text.startsWith('b')),
      ['b1', 'b2'],
    );
    assert.equal(refused.size, 2);
  });

  it('stand still while the subscription is paused', async (t) => {
    const bench = await QueueBench.start(t, { subscription: { paused: true } });
    const consumer = await bench.consumer();
    const made = await bench.client.getSubscription({ topic, subscription });
    await bench.publish('a');
    assert.equal((await bench.subscriptionStats()).paused, true);
    assert.deepEqual(consumer.texts, []);
    await bench.client.updateSubscription({ subscription: { ...made, paused: false } });
    await consumer.got(1);
    const stale = await failureOf(bench.client.updateSubscription({ subscription: { ...made, paused: true } }));
    assert.equal(stale.reason, 'REVISION');
  });

  it('end when the subscription is deleted, and a subscription that nobody uses goes by itself', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.subscription('idle', { expireAfterIdle: ms(1000) });
    await bench.subscription('used', { expireAfterIdle: ms(1000) });
    const used = await bench.consumer({ subscription: 'used' });
    await waitFor('the idle one to go', async () => (await bench.stats()).subscriptions.length === 2);
    assert.equal((await failureOf(bench.client.getSubscription({ topic, subscription: 'idle' }))).code, 'not_found');
    await bench.client.deleteSubscription({ topic, subscription: 'used' });
    await used.ended();
    assert.equal(used.failure?.reason, 'UNKNOWN_SUBSCRIPTION');
    const consumer = await bench.consumer();
    await bench.publish('a');
    await consumer.got(1);
    await bench.client.deleteTopic({ topic, force: true });
    await consumer.ended();
    assert.equal(consumer.failure?.reason, 'UNKNOWN_TOPIC');
  });

  it('of a queue that stops end in good order: what was not settled does not count as an attempt', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.publish('settled', 'kept');
    const consumer = await bench.consumer();
    await consumer.got(2);
    const stopping = bench.queue.stop();
    await waitFor('to be told', () => consumer.isDraining);
    assert.deepEqual(await consumer.settle({ acks: [1] }), []);
    await consumer.end();
    assert.equal(consumer.failure, undefined);
    await stopping;
    await bench.queue.start();
    const again = await bench.consumer();
    await again.got(1);
    assert.deepEqual(
      again.received.map(({ text, attempt }) => [text, attempt]),
      [['kept', 1]],
    );
  });

  it('of a consumer that is cut off count as attempts, of one that ends do not', async (t) => {
    const bench = await QueueBench.start(t, { subscription: { backoff: NO_BACKOFF } });
    await bench.publish('a');
    const first = await bench.consumer();
    await first.got(1);
    await first.end();
    const second = await bench.consumer();
    await second.got(1);
    second.cut();
    const third = await bench.consumer();
    await third.got(1);
    assert.deepEqual(
      [second, third].map(({ received }) => received[0]?.attempt),
      [1, 2],
    );
  });
});

describe('messages with wishes', () => {
  it('are delivered after their time, with the place they get then, over a restart too', async (t) => {
    const bench = await QueueBench.start(t);
    const late = { payload: Buffer.from('late'), deliverAfter: ms(3000) };
    assert.equal(await bench.publish(late, 'now'), 1);
    assert.equal((await bench.stats()).delayed, 1);
    const consumer = await bench.consumer();
    await consumer.got(1);
    assert.equal(consumer.texts[0], 'now');
    consumer.cut();
    await bench.queue.stop();
    await bench.queue.start();
    const again = await bench.consumer();
    await waitFor('the late one', () => again.texts.includes('late'));
    assert.equal(again.received.find(({ text }) => text === 'late')?.sequence, 2);
    assert.equal((await bench.stats()).delayed, 0);
  });

  it('with one dedupe id are stored once within the window, over a restart too', async (t) => {
    const bench = await QueueBench.start(t);
    const messages = [Message.fromPartial({ dedupeId: 'x' }), Message.fromPartial({ dedupeId: 'y' })];
    const first = await bench.client.publish({ topic, messages });
    assert.deepEqual([first.count, first.duplicates], [2, []]);
    await bench.queue.stop();
    await bench.queue.start();
    const again = await bench.client.publish({
      topic,
      messages: [...messages, Message.fromPartial({ dedupeId: 'z' })],
    });
    assert.deepEqual([again.firstSequence, again.count], [3, 1]);
    assert.deepEqual(again.duplicates, [
      { index: 0, sequence: 1 },
      { index: 1, sequence: 2 },
    ]);
  });

  it('with one dedupe id are stored again after the window', async (t) => {
    const bench = await QueueBench.start(t, { topic: { dedupeWindow: ms(50) } });
    const publish = (): Promise<number> => bench.publish({ dedupeId: 'x' });
    assert.equal(await publish(), 1);
    await waitFor('the id to be forgotten', async () => (await publish()) > 1);
  });
});
