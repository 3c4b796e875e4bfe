import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import type { WantedSettings } from '../../../src/queue/subscription/settings.js';
import {
  acks,
  CREDIT,
  DAMAGE,
  deliveryFixture,
  failureOf,
  nack,
  type DeliveryFixture,
} from '../../support/queue-delivery.js';
import { encoded, TestSink, turns } from '../../support/queue-parts.js';

describe('damage', () => {
  /** Three batches on disk, the first of them damaged, and a consumer. */
  async function damaged(
    wanted: WantedSettings = {},
  ): Promise<DeliveryFixture & { readonly sink: TestSink; readonly id: number }> {
    const parts = await deliveryFixture(wanted, false);
    for (const text of ['a', 'b', 'c']) await parts.topic.publish(encoded(text));
    parts.log.onRead = (from) => {
      if (from === 1) throw DAMAGE;
    };
    const sink = new TestSink();
    const id = parts.delivery.attach(sink, CREDIT);
    await parts.delivery.quiet();
    return { ...parts, sink, id };
  }

  it('stops delivery, visibly, until someone seeks past it', async () => {
    const { delivery, sink, topic } = await damaged();
    assert.deepEqual([delivery.damage, sink.payloads], [DAMAGE, []]);
    await topic.publish(encoded('d'));
    await delivery.quiet();
    assert.deepEqual(sink.payloads, []);
    await delivery.seekTo(2);
    await delivery.quiet();
    assert.deepEqual([delivery.damage, sink.payloads], [undefined, ['b', 'c', 'd']]);
  });

  it('that a seek has left behind while it was found stops nothing', async () => {
    const { delivery, log, sink } = await damaged();
    let fail = (): void => undefined;
    log.onRead = (from) =>
      from > 1
        ? undefined
        : new Promise<void>((_, reject) => {
            fail = () => {
              reject(DAMAGE);
            };
          });
    await delivery.seekTo(1);
    await turns();
    await delivery.seekTo(2);
    fail();
    await delivery.quiet();
    assert.deepEqual([delivery.damage, sink.payloads], [undefined, ['b', 'c']]);
  });

  it('of the disk is tried again by itself when it may pass', async () => {
    const { topic, delivery, log, clock } = await deliveryFixture({}, false);
    await topic.publish(encoded('a'));
    log.onRead = () => {
      throw new MusterError('unavailable', 'the disk cannot be read now');
    };
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    await delivery.quiet();
    assert.equal(delivery.damage?.code, 'unavailable');
    log.onRead = () => undefined;
    await clock.advance(1000);
    await delivery.quiet();
    assert.deepEqual([delivery.damage, sink.payloads], [undefined, ['a']]);
  });

  it('is also what is missing, and whatever else cannot be read', async () => {
    const { delivery, log, topic } = await damaged();
    log.onRead = () => {
      throw new Error('a bug');
    };
    await delivery.seekTo(2);
    await delivery.quiet();
    assert.deepEqual([delivery.damage?.code, delivery.damage?.message], ['internal', 'a bug']);
    topic.read = () => Promise.resolve([]);
    log.onRead = () => undefined;
    await delivery.seekTo(3);
    await delivery.quiet();
    assert.deepEqual([delivery.damage?.code, delivery.damage?.metadata['sequence']], ['data_loss', '3']);
  });

  it('under a message that died keeps the cursor where it is, until someone seeks past it', async () => {
    const { topic, delivery, log } = await deliveryFixture({ maxAttempts: 1 }, false);
    const sink = new TestSink();
    const id = delivery.attach(sink, CREDIT);
    for (const text of ['a', 'b']) await topic.publish(encoded(text));
    await delivery.quiet();
    log.onRead = (from) => {
      if (from === 1) throw DAMAGE;
    };
    await topic.publish(encoded('c'));
    await delivery.quiet();
    assert.equal(await failureOf(delivery.settle(id, nack(1)).stored), DAMAGE);
    assert.deepEqual([delivery.damage, delivery.floor], [DAMAGE, 1]);
    assert.equal(await failureOf(delivery.settle(id, acks(2)).stored), DAMAGE);
    await delivery.seekTo(2);
    assert.deepEqual([delivery.damage, delivery.floor, delivery.stats().dead], [undefined, 2, 0]);
    await delivery.quiet();
    assert.deepEqual(sink.payloads.slice(-2), ['b', 'c']);
  });
});

describe('a subscription that is closed', () => {
  const gone = new MusterError('not_found', 'subscription mail was deleted');

  it('ends its consumers, delivers and stores nothing more, and takes no new ones', async () => {
    const { topic, delivery, log, clock } = await deliveryFixture();
    const sink = new TestSink();
    const id = delivery.attach(sink, CREDIT);
    await topic.publish(encoded('a'));
    await delivery.quiet();
    const groups = log.groups.length;
    delivery.close(gone);
    assert.equal(sink.ended, gone);
    assert.equal(clock.pending, 0);
    await delivery.settle(id, acks(1)).stored;
    delivery.detach(id, { counts: true });
    delivery.wake();
    await turns();
    assert.equal(log.groups.length, groups);
    assert.throws(() => delivery.attach(new TestSink(), CREDIT), gone);
  });

  it('lets a read end that was under way', async () => {
    const { topic, delivery, log } = await deliveryFixture({}, false);
    await topic.publish(encoded('a'));
    let fail = (): void => undefined;
    log.onRead = () =>
      new Promise<void>((_, reject) => {
        fail = () => {
          reject(DAMAGE);
        };
      });
    const sink = new TestSink();
    delivery.attach(sink, CREDIT);
    delivery.close(gone);
    fail();
    await delivery.quiet();
    assert.deepEqual([delivery.damage, sink.payloads], [undefined, []]);
  });
});
