import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SubscribeResponse } from '../../../generated/muster/v1/queue.js';
import { encodeDeliveries } from '../../../src/queue/delivery-frame.js';
import { MusterError } from '../../../src/kit/errors.js';
import type { WantedSettings } from '../../../src/queue/subscription/settings.js';
import {
  acks,
  CREDIT,
  deliveryFixture,
  failureOf,
  FULL,
  loadDelivery,
  nack,
  type DeliveryFixture,
} from '../../support/queue-delivery.js';
import {
  collectGarbage,
  encoded,
  fieldsOf,
  payloads,
  TestSink,
  turns,
  type MessageFields,
} from '../../support/queue-parts.js';

describe('delivering', () => {
  it('sends what is stored and what comes, in order, as frames of the contract', async () => {
    const { topic, delivery } = await deliveryFixture();
    await topic.publish(encoded('a', 'b'));
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    await topic.publish(encoded('c'));
    await delivery.quiet();
    assert.deepEqual(sink.payloads, ['a', 'b', 'c']);
    const frame = sink.frames.at(-1);
    assert.ok(frame);
    const { frame: decoded } = SubscribeResponse.decode(encodeDeliveries(frame.firstDelivery, frame.runs));
    assert.ok(decoded?.$case === 'deliveries');
    assert.equal(decoded.value.firstDelivery, 3);
    assert.deepEqual(
      decoded.value.runs.map(({ firstSequence, count, attempt }) => [firstSequence, count, attempt]),
      [[3, 1, 1]],
    );
  });

  it('reads from the disk what is not in memory, ahead, and each batch once', async () => {
    const { topic, delivery, log } = await deliveryFixture({}, false);
    for (let index = 0; index < 20; index += 1) await topic.publish(encoded(String(index)));
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    await delivery.quiet();
    assert.equal(sink.payloads.length, 20);
    assert.deepEqual(log.reads, [1]);
  });

  it('does not hold on to what it read when all of it is settled, or its consumer is gone', async () => {
    for (const settles of [true, false]) {
      const { topic, delivery } = await deliveryFixture({}, false);
      await topic.publish(encoded('a', 'b'));
      await topic.publish(encoded('c'));
      const read: WeakRef<object>[] = [];
      const reading = topic.read.bind(topic);
      topic.read = async (...place) => {
        const views = await reading(...place);
        read.push(...views.map((view) => new WeakRef(view)));
        return views;
      };
      const id = delivery.attach({ name: 'c', deliver: () => true, end: () => undefined }, CREDIT);
      await delivery.quiet();
      assert.equal(read.length, 2);
      if (settles) await delivery.settle(id, acks(1, 3)).stored;
      else delivery.detach(id, { counts: false });
      await turns();
      collectGarbage();
      assert.deepEqual(
        read.map((one) => one.deref()),
        [undefined, undefined],
      );
    }
  });

  it('reads nothing for a subscriber that keeps up', async () => {
    const { topic, delivery, log } = await deliveryFixture();
    delivery.attach(new TestSink(), CREDIT);
    for (let index = 0; index < 20; index += 1) await topic.publish(encoded(String(index)));
    await delivery.quiet();
    assert.deepEqual(log.reads, []);
  });

  it('stops at the credit, and goes on with more', async () => {
    const { topic, delivery } = await deliveryFixture();
    await topic.publish(encoded('a', 'b', 'c'));
    const sink = new TestSink();
    const id = delivery.attach(sink, { ...CREDIT, maxMessages: 1 });
    await delivery.quiet();
    assert.deepEqual(sink.payloads, ['a']);
    delivery.setCredit(id, { ...CREDIT, maxMessages: 2 });
    await delivery.quiet();
    assert.deepEqual(sink.payloads, ['a', 'b']);
    await delivery.settle(id, acks(1, 2)).stored;
    await delivery.quiet();
    assert.deepEqual(sink.payloads, ['a', 'b', 'c']);
    assert.equal(delivery.leasedBy(id), 1);
  });

  it('holds a sink that has enough until it can take more, whatever its credit becomes meanwhile', async () => {
    const { topic, delivery } = await deliveryFixture();
    const [held, free] = [new TestSink('held'), new TestSink('free')];
    held.room = 1;
    const id = delivery.attach(held, { ...CREDIT, maxMessages: 100 });
    await topic.publish(encoded('a'));
    await delivery.quiet();
    assert.deepEqual([held.payloads, delivery.consumers[0]?.held], [['a'], true]);
    delivery.setCredit(id, { ...CREDIT, maxMessages: 3 });
    await topic.publish(encoded('b'));
    await delivery.quiet();
    assert.deepEqual(held.payloads, ['a']);
    const other = delivery.attach(free, { ...CREDIT, maxMessages: 1 });
    await delivery.quiet();
    assert.deepEqual(free.payloads, ['b']);
    await topic.publish(encoded('c', 'd', 'e'));
    held.room = Infinity;
    delivery.resume(id);
    delivery.resume(id);
    await delivery.quiet();
    assert.deepEqual(held.payloads, ['a', 'c', 'd']);
    assert.deepEqual(
      delivery.consumers.map((one) => [one.id, one.held, one.sink.name, one.credit.maxMessages]),
      [
        [id, false, 'held', 3],
        [other, false, 'free', 1],
      ],
    );
  });

  it('does nothing for consumers that are not there', async () => {
    const { delivery } = await deliveryFixture();
    delivery.setCredit(9, CREDIT);
    delivery.resume(9);
    delivery.detach(9, { counts: true });
    const { failures, stored } = delivery.settle(9, acks(1));
    await stored;
    assert.deepEqual(failures, [{ delivery: 1, reason: 'LEASE_OVER' }]);
    assert.equal(delivery.leasedBy(9), 0);
  });

  it('counts, and knows since when nobody consumes', async () => {
    const { topic, delivery, clock } = await deliveryFixture();
    await clock.advance(5000);
    assert.equal(delivery.idleMs, 5000);
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a'));
    await delivery.quiet();
    assert.equal(delivery.idleMs, 0);
    await delivery.settle(id, acks(1)).stored;
    await clock.advance(1000);
    assert.ok(delivery.delivered.perSecond > 0 && delivery.settledRate.perSecond > 0);
    delivery.detach(id, { counts: false });
    await clock.advance(2000);
    assert.equal(delivery.idleMs, 2000);
  });

  it('follows a change of the settings', async () => {
    const { topic, delivery } = await deliveryFixture({ paused: true });
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    await topic.publish(encoded('a'));
    await delivery.quiet();
    assert.deepEqual(sink.payloads, []);
    const settings = { ...delivery.record.settings, paused: false };
    delivery.update({ ...delivery.record, settings, revision: 2 });
    await delivery.quiet();
    assert.deepEqual([sink.payloads, delivery.record.revision], [['a'], 2]);
  });
});

describe('settling', () => {
  it('is durable before it is said, and then moves the floor', async () => {
    const { topic, delivery, log, settled } = await deliveryFixture();
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a', 'b', 'c'));
    await delivery.quiet();
    let release = (): void => undefined;
    log.onCommit = () =>
      new Promise<void>((resolve) => {
        release = resolve;
      });
    const { failures, stored } = delivery.settle(id, acks(1, 2));
    await turns();
    assert.deepEqual([failures, delivery.floor, settled()], [[], 1, 0]);
    release();
    await stored;
    assert.deepEqual([delivery.floor, settled()], [3, 1]);
    assert.deepEqual(log.changes('cursor').at(-1)?.cursor, { floor: 3, settled: [], dropped: 0 });
  });

  it('says at once what it could not settle', async () => {
    const { topic, delivery } = await deliveryFixture();
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a'));
    await delivery.quiet();
    await delivery.settle(id, acks(1)).stored;
    const { failures } = delivery.settle(id, { ...acks(1), extends: [{ range: { first: 7, last: 7 } }] });
    assert.deepEqual(failures, [
      { delivery: 1, reason: 'ALREADY_SETTLED' },
      { delivery: 7, reason: 'UNKNOWN_DELIVERY' },
    ]);
  });

  it('that a full disk refused is stored with the next group, and the floor waits for it', async () => {
    const { topic, delivery, log } = await deliveryFixture({ maxAttempts: 3 });
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a', 'b', 'c', 'd'));
    await delivery.quiet();
    log.onCommit = () => {
      throw FULL;
    };
    assert.equal(await failureOf(delivery.settle(id, acks(1)).stored), FULL);
    assert.equal(await failureOf(delivery.settle(id, nack(2)).stored), FULL);
    assert.equal(await failureOf(delivery.settle(id, nack(3, { deadLetter: true })).stored), FULL);
    assert.equal(delivery.floor, 1);
    log.onCommit = () => undefined;
    await delivery.settle(id, acks(4)).stored;
    const group = log.groups.at(-1) ?? [];
    assert.deepEqual(group.map(({ kind }) => kind).sort(), ['cursor', 'dead letter', 'retry']);
    assert.deepEqual(log.changes('cursor').at(-1)?.cursor, {
      floor: 2,
      settled: [{ from: 3, until: 5 }],
      dropped: 0,
    });
    assert.equal(delivery.floor, 2);
  });

  it('outlives a new start: what was settled never comes again, the rest does with its attempts', async () => {
    const before = await deliveryFixture({ leaseMs: 600_000 });
    const id = before.delivery.attach(new TestSink(), CREDIT);
    await before.topic.publish(encoded('a', 'b', 'c', 'd'));
    await before.delivery.quiet();
    await before.delivery.settle(id, acks(2)).stored;
    await before.delivery.settle(id, nack(3, { delayMs: 60_000 })).stored;
    before.delivery.close(new MusterError('unavailable', 'stopping'));
    const { delivery, clock } = await loadDelivery(before);
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    await delivery.quiet();
    assert.deepEqual(
      [sink.payloads, sink.attempts],
      [
        ['a', 'd'],
        [1, 1],
      ],
    );
    await clock.advance(60_000);
    await delivery.quiet();
    assert.deepEqual(
      [sink.payloads, sink.attempts],
      [
        ['a', 'd', 'c'],
        [1, 1, 2],
      ],
    );
  });
});

describe('messages that fail', () => {
  it('come again after the wait that was asked for, or the backoff', async () => {
    const { topic, delivery, clock } = await deliveryFixture();
    const sink = new TestSink();
    const id = delivery.attach(sink, CREDIT);
    await topic.publish(encoded('a', 'b'));
    await delivery.quiet();
    await delivery.settle(id, nack(1, { delayMs: 5000 })).stored;
    await delivery.settle(id, nack(2)).stored;
    await clock.advance(999);
    assert.deepEqual(sink.payloads, ['a', 'b']);
    await clock.advance(1);
    assert.deepEqual(sink.payloads, ['a', 'b', 'b']);
    await clock.advance(3999);
    assert.deepEqual(sink.payloads, ['a', 'b', 'b']);
    await clock.advance(1);
    assert.deepEqual([sink.payloads.at(-1), sink.attempts], ['a', [1, 2, 2]]);
  });

  it('come again when their lease is over, at the time, without anybody asking', async () => {
    const { topic, delivery, clock, log } = await deliveryFixture({ leaseMs: 10_000 });
    const sink = new TestSink();
    const id = delivery.attach(sink, CREDIT);
    await topic.publish(encoded('a', 'b'));
    await delivery.quiet();
    await delivery.settle(id, { acks: [], nacks: [], extends: [{ range: { first: 2, last: 2 }, leaseMs: 60_000 }] })
      .stored;
    await clock.advance(9999);
    assert.deepEqual(log.changes('retry'), []);
    await clock.advance(1);
    assert.deepEqual(
      log.changes('retry').map(({ sequence, retry }) => [sequence, retry?.attempts]),
      [[1, 1]],
    );
    await clock.advance(1000);
    assert.deepEqual(
      [sink.payloads, sink.attempts],
      [
        ['a', 'b', 'a'],
        [1, 2],
      ],
    );
  });

  it('come at once to others when their consumer goes', async () => {
    const { topic, delivery } = await deliveryFixture();
    const [first, second] = [new TestSink(), new TestSink()];
    const id = delivery.attach(first, CREDIT);
    await topic.publish(encoded('a', 'b'));
    await delivery.quiet();
    delivery.attach(second, CREDIT);
    delivery.detach(id, { counts: true });
    delivery.detach(id, { counts: true });
    await delivery.quiet();
    assert.deepEqual([second.payloads, second.attempts], [['a', 'b'], [2]]);
    assert.equal(delivery.consumers.length, 1);
  });

  it('become dead letters in the group that stores the cursor', async () => {
    const { topic, delivery, log, clock } = await deliveryFixture({ maxAttempts: 1 });
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a', 'b'));
    await delivery.quiet();
    await clock.advance(500);
    await delivery.settle(id, nack(1, { reason: 'broken' })).stored;
    const group = log.groups.at(-1) ?? [];
    assert.deepEqual(group.map(({ kind }) => kind).sort(), ['cursor', 'dead letter']);
    const letter = await log.deadLetter(1, 1, 1);
    assert.deepEqual(letter && { ...letter, message: payloads(letter.message) }, {
      sequence: 1,
      message: ['a'],
      publishedMs: clock.now() - 500,
      diedMs: clock.now(),
      attempts: 1,
      reason: 'broken',
      replayed: false,
    });
    assert.deepEqual([delivery.floor, delivery.stats().dead], [2, 1]);
  });

  it('become dead letters when their last lease is over or their last consumer goes, read from the disk', async () => {
    const { topic, delivery, log, clock } = await deliveryFixture({ maxAttempts: 1, leaseMs: 10_000 }, false);
    const id = delivery.attach(new TestSink(), { ...CREDIT, maxMessages: 1 });
    await topic.publish(encoded('a'));
    await topic.publish(encoded('b'));
    await delivery.quiet();
    await clock.advance(10_000);
    await delivery.quiet();
    delivery.detach(id, { counts: true });
    await turns();
    const letters = await log.deadLetters(1, 1, { after: 0, limit: 10 });
    assert.deepEqual(
      letters.map(({ message, reason }) => [payloads(message), reason]),
      [
        [['a'], 'its lease ran out'],
        [['b'], 'its consumer went away'],
      ],
    );
  });

  it('are read ahead when many die at once', async () => {
    const { topic, delivery, log } = await deliveryFixture({}, false);
    for (let index = 0; index < 20; index += 1) await topic.publish(encoded(String(index)));
    const id = delivery.attach(new TestSink(), CREDIT);
    await delivery.quiet();
    const nack = { range: { first: 1, last: 20 }, delayMs: undefined, deadLetter: true, reason: 'bad' };
    await delivery.settle(id, { acks: [], nacks: [nack], extends: [] }).stored;
    assert.equal((await log.deadLetters(1, 1, { after: 0, limit: 100 })).length, 20);
    assert.deepEqual(log.reads, [1]);
  });

  it('count as settled without a letter when retention dropped them first', async () => {
    const { topic, delivery, log } = await deliveryFixture({ maxAttempts: 1 }, false);
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a'));
    await topic.publish(encoded('b'));
    await delivery.quiet();
    log.onCommit = () => {
      throw FULL;
    };
    log.onRead = () => {
      throw new MusterError('unavailable', 'the disk cannot be read now');
    };
    await failureOf(delivery.settle(id, nack(1)).stored);
    log.onCommit = () => undefined;
    log.onRead = () => undefined;
    await topic.moveHead(2);
    await delivery.settle(id, acks(2)).stored;
    assert.deepEqual([delivery.floor, delivery.stats().dead, log.changes('dead letter')], [3, 0, []]);
  });
});

describe('dead letters that are delivered again', () => {
  async function replay({ delivery, log }: DeliveryFixture): Promise<number> {
    return delivery.replay(await log.deadLetters(1, 1, { after: 0, limit: 10 }));
  }

  async function withLetter(
    wanted: WantedSettings = {},
  ): Promise<DeliveryFixture & { readonly sink: TestSink; readonly id: number }> {
    const parts = await deliveryFixture({ maxAttempts: 1, ...wanted });
    const sink = new TestSink();
    const id = parts.delivery.attach(sink, CREDIT);
    await parts.topic.publish(encoded({ payload: Buffer.from('a'), key: 'k' }));
    await parts.delivery.quiet();
    await parts.delivery.settle(id, nack(1, { reason: 'first' })).stored;
    return { ...parts, sink, id };
  }

  it('come from their letters, also when the topic has let go of them, and are gone when acknowledged', async () => {
    const parts = await withLetter();
    const { delivery, topic, sink, id, log } = parts;
    await topic.moveHead(2);
    assert.equal(await replay(parts), 1);
    assert.equal((await log.deadLetter(1, 1, 1))?.replayed, true);
    await delivery.quiet();
    assert.deepEqual(
      [sink.payloads, sink.attempts],
      [
        ['a', 'a'],
        [1, 1],
      ],
    );
    await delivery.settle(id, acks(2)).stored;
    assert.equal(await log.deadLetter(1, 1, 1), undefined);
    assert.equal(delivery.stats().dead, 0);
  });

  it('die again with their message, their new reason and time', async () => {
    const parts = await withLetter();
    const { delivery, topic, id, log, clock } = parts;
    await topic.moveHead(2);
    await replay(parts);
    await delivery.quiet();
    await clock.advance(1000);
    await delivery.settle(id, nack(2, { reason: 'second' })).stored;
    const letter = await log.deadLetter(1, 1, 1);
    assert.deepEqual([letter?.reason, letter?.replayed, letter?.diedMs], ['second', false, clock.now()]);
    assert.deepEqual(letter && payloads(letter.message), ['a']);
    assert.equal(delivery.stats().dead, 1);
  });

  it('are left out when their letter was purged meanwhile', async () => {
    const parts = await withLetter();
    const { delivery, sink, log, topic, id } = parts;
    delivery.setCredit(id, { ...CREDIT, maxMessages: 0 });
    await replay(parts);
    await log.commit([{ kind: 'dead letter', topicId: 1, subscriptionId: 1, sequence: 1, letter: undefined }]);
    delivery.setCredit(id, CREDIT);
    await topic.publish(encoded('b'));
    await delivery.quiet();
    assert.deepEqual(sink.payloads, ['a', 'b']);
  });

  it('wait for their key as others do', async () => {
    const parts = await withLetter({ ordered: true });
    const { delivery, sink, id, topic } = parts;
    await topic.publish(encoded({ payload: Buffer.from('b'), key: 'k' }));
    await delivery.quiet();
    await replay(parts);
    await delivery.quiet();
    assert.deepEqual(sink.payloads, ['a', 'b']);
    await delivery.settle(id, acks(2)).stored;
    await delivery.quiet();
    assert.deepEqual(sink.payloads, ['a', 'b', 'a']);
  });

  it('are counted down when they are purged', async () => {
    const { delivery } = await withLetter();
    delivery.purged(1);
    assert.equal(delivery.stats().dead, 0);
  });
});

describe('a seek', () => {
  it('delivers again what is stored, durably, and says so before', async () => {
    const before = await deliveryFixture();
    const sink = new TestSink();
    const id = before.delivery.attach(sink, CREDIT);
    await before.topic.publish(encoded('a', 'b', 'c'));
    await before.delivery.quiet();
    await before.delivery.settle(id, acks(1, 3)).stored;
    const outcome = { sequence: 2, redelivered: 2, skipped: 0 };
    assert.deepEqual(before.delivery.planSeek(2), outcome);
    assert.deepEqual(await before.delivery.seekTo(2), outcome);
    await before.delivery.quiet();
    assert.deepEqual(sink.payloads, ['a', 'b', 'c', 'b', 'c']);
    before.delivery.close(new MusterError('unavailable', 'stopping'));
    const { delivery } = await loadDelivery(before);
    const again = new TestSink();
    delivery.attach(again, CREDIT);
    await delivery.quiet();
    assert.deepEqual(again.payloads, ['b', 'c']);
  });

  it('skips what lies before it', async () => {
    const { topic, delivery } = await deliveryFixture();
    await topic.publish(encoded('a', 'b', 'c'));
    assert.deepEqual(await delivery.seekTo(3), { sequence: 3, redelivered: 0, skipped: 2 });
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    await delivery.quiet();
    assert.deepEqual([sink.payloads, delivery.floor], [['c'], 3]);
  });
});

describe('what retention drops', () => {
  it('is not delivered, counts as dropped, and is stored so', async () => {
    const { topic, delivery, log } = await deliveryFixture();
    await topic.publish(encoded('a', 'b'));
    await topic.publish(encoded('c'));
    await topic.moveHead(3);
    await turns();
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    await delivery.quiet();
    assert.deepEqual(sink.payloads, ['c']);
    assert.deepEqual(log.changes('cursor').at(-1)?.cursor, { floor: 3, settled: [], dropped: 2 });
    delivery.dropBelow(1);
    assert.equal(delivery.stats().dropped, 2);
  });
});

describe('large messages', () => {
  it('go alone when they are larger than the credit', async () => {
    const { topic, delivery } = await deliveryFixture();
    const large: MessageFields = { payload: Buffer.alloc(5000, 65) };
    const sink = new TestSink();
    const id = delivery.attach(sink, { maxMessages: 10, maxBytes: 1000 });
    await topic.publish(encoded('a', large, 'b'));
    await delivery.quiet();
    assert.deepEqual(
      sink.payloads.map((text) => text.length),
      [1],
    );
    await delivery.settle(id, acks(1)).stored;
    await delivery.quiet();
    assert.deepEqual(
      sink.payloads.map((text) => text.length),
      [1, 5000],
    );
    assert.ok(fieldsOf(large).length > 1000);
  });
});
