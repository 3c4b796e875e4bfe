import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ManualClock } from '../../../src/kit/clock.js';
import { Broker } from '../../../src/queue/broker.js';
import { Maintenance } from '../../../src/queue/maintenance.js';
import { subscriptionSettings } from '../../../src/queue/subscription/settings.js';
import type { Topic } from '../../../src/queue/topic.js';
import { topicSettings } from '../../../src/queue/topic-settings.js';
import { CREDIT } from '../../support/queue-delivery.js';
import { encoded, queueParts, TestSink, turns } from '../../support/queue-parts.js';

const DAY_MS = 24 * 3600 * 1000;
const LEASE_MS = 30_000;

interface Fixture {
  readonly clock: ManualClock;
  readonly broker: Broker;
  readonly topic: Topic;
  /** Upkeep over a second and a bit. */
  readonly upkeep: () => Promise<void>;
}

async function fixture(): Promise<Fixture> {
  const parts = queueParts();
  const broker = await Broker.open({ ...parts, autoCreateTopics: false });
  await broker.createTopic('orders', topicSettings({}));
  await broker.createSubscription('orders', 'mail', subscriptionSettings({ leaseMs: LEASE_MS }));
  const maintenance = new Maintenance(broker, parts);
  const upkeep = async (): Promise<void> => {
    for (let round = 0; round < 12; round += 1) {
      await parts.clock.advance(100);
      await maintenance.tick();
    }
  };
  return { clock: parts.clock, broker, topic: broker.topic('orders'), upkeep };
}

describe('a wall clock that jumps', () => {
  for (const jumpMs of [DAY_MS, -DAY_MS]) {
    it(`by ${jumpMs / DAY_MS} day ends no lease and keeps none longer`, async () => {
      const { clock, broker, topic, upkeep } = await fixture();
      const delivery = broker.delivery('orders', 'mail');
      const sink = new TestSink();
      const consumer = delivery.attach(sink, CREDIT);
      await topic.publish(encoded('a'));
      await turns();
      assert.equal(delivery.leasedBy(consumer), 1);
      clock.jumpWallClock(jumpMs);
      await upkeep();
      await clock.advance(LEASE_MS - 2000);
      assert.equal(delivery.leasedBy(consumer), 1);
      assert.equal(delivery.stats().waiting, 0);
      await clock.advance(1000);
      assert.equal(delivery.leasedBy(consumer), 0);
      // The second attempt comes after its backoff of a second, whatever the wall clock says.
      await clock.advance(1000);
      assert.equal(delivery.leasedBy(consumer), 1);
    });
  }

  it('back and forth still lets delayed messages in, once each', async () => {
    const { clock, topic, upkeep } = await fixture();
    clock.jumpWallClock(DAY_MS);
    await topic.publish(encoded({ deliverAfter: { seconds: 10, nanos: 0 } }));
    clock.jumpWallClock(-DAY_MS);
    await topic.publish(encoded({ deliverAfter: { seconds: 20, nanos: 0 } }));
    await clock.advance(30_000);
    await upkeep();
    assert.equal(topic.next, 2, 'the second one was due by the clock of today');
    await clock.advance(DAY_MS);
    await upkeep();
    assert.equal(topic.next, 3);
    assert.equal(topic.delayed, 0);
  });

  it('ahead for a while and back leaves dedupe ids working', async () => {
    const { clock, topic, upkeep } = await fixture();
    clock.jumpWallClock(DAY_MS);
    await upkeep();
    clock.jumpWallClock(-DAY_MS);
    await upkeep();
    const first = await topic.publish(encoded({ dedupeId: 'x' }));
    const second = await topic.publish(encoded({ dedupeId: 'x' }));
    assert.equal(first.firstSequence, 1);
    assert.deepEqual(second.duplicates, [{ index: 0, sequence: 1 }]);
  });
});
