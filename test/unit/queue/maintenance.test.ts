import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import type { Logger } from '../../../src/kit/logger.js';
import { Broker } from '../../../src/queue/broker.js';
import { Maintenance } from '../../../src/queue/maintenance.js';
import { PRODUCER_MEMORY_MS } from '../../../src/queue/producers.js';
import { subscriptionSettings, type WantedSettings } from '../../../src/queue/subscription/settings.js';
import { topicSettings, type WantedTopicSettings } from '../../../src/queue/topic-settings.js';
import { CREDIT, failureOf, FULL } from '../../support/queue-delivery.js';
import { encoded, queueParts, TestSink, turns, type QueueParts } from '../../support/queue-parts.js';

const MIB = 1024 * 1024;
const SLOW_MS = 1000;

interface Fixture extends QueueParts {
  readonly broker: Broker;
  readonly maintenance: Maintenance;
  /** What was logged, with its level. */
  readonly lines: string[];
  readonly settle: (until: number) => Promise<void>;
}

async function fixture(topic: WantedTopicSettings = {}, subscription: WantedSettings = {}): Promise<Fixture> {
  const parts = queueParts();
  const lines: string[] = [];
  const logger: Logger = {
    ...parts.logger,
    info: (message) => lines.push(`info ${message}`),
    error: (message) => lines.push(`error ${message}`),
    with: () => logger,
  };
  const broker = await Broker.open({ ...parts, logger, autoCreateTopics: false });
  await broker.createTopic('orders', topicSettings(topic));
  await broker.createSubscription('orders', 'mail', subscriptionSettings(subscription));
  const maintenance = new Maintenance(broker, { clock: parts.clock, logger });
  const settle = async (until: number): Promise<void> => {
    const delivery = broker.delivery('orders', 'mail');
    const id = delivery.attach(new TestSink(), CREDIT);
    await delivery.quiet();
    await delivery.settle(id, { acks: [{ first: 1, last: until - 1 }], nacks: [], extends: [] }).stored;
    delivery.detach(id, { counts: false });
    await turns();
  };
  return { ...parts, logger, broker, maintenance, lines, settle };
}

/** As many rounds as it takes until the slow things were looked at. */
async function slowRound({ maintenance, clock }: Fixture): Promise<void> {
  for (let round = 0; round < 10; round += 1) {
    await clock.advance(SLOW_MS / 10);
    await maintenance.tick();
  }
}

describe('letting go of messages', () => {
  it('goes up to what all subscriptions have settled, at the next round', async () => {
    const { broker, maintenance, settle, log } = await fixture();
    await broker.createSubscription('orders', 'audit', subscriptionSettings({}));
    const topic = broker.topic('orders');
    await topic.publish(encoded('a', 'b'));
    await topic.publish(encoded('c'));
    await settle(3);
    await maintenance.tick();
    assert.equal(topic.head, 1);
    await broker.delivery('orders', 'audit').seekTo(2);
    await maintenance.tick();
    assert.deepEqual([topic.head, log.trims.at(-1)], [2, { topicId: 1, head: 2 }]);
    await broker.deleteSubscription('orders', 'audit');
    await maintenance.tick();
    assert.equal(topic.head, 3);
  });

  it('does nothing while nobody subscribes', async () => {
    const parts = await fixture();
    await parts.broker.deleteSubscription('orders', 'mail');
    await parts.broker.topic('orders').publish(encoded('a'));
    await slowRound(parts);
    assert.equal(parts.broker.topic('orders').head, 1);
  });

  it('keeps what is settled for min_retention', async () => {
    const parts = await fixture({ minRetentionMs: 60_000 });
    const topic = parts.broker.topic('orders');
    await topic.publish(encoded('a'));
    await parts.clock.advance(30_000);
    await topic.publish(encoded('b'));
    await parts.settle(3);
    await slowRound(parts);
    assert.equal(topic.head, 1);
    await parts.clock.advance(30_000);
    await slowRound(parts);
    assert.equal(topic.head, 2);
    await parts.clock.advance(30_000);
    await slowRound(parts);
    assert.equal(topic.head, 3);
  });

  it('drops what is older than max_age where that is wished', async () => {
    const parts = await fixture({ maxAgeMs: 60_000, onFull: 'DROP_OLDEST' });
    const topic = parts.broker.topic('orders');
    await topic.publish(encoded('a', 'b'));
    await parts.clock.advance(59_000);
    await topic.publish(encoded('c'));
    await slowRound(parts);
    assert.equal(topic.head, 1);
    await slowRound(parts);
    assert.deepEqual([topic.head, parts.broker.delivery('orders', 'mail').stats().dropped], [3, 2]);
  });

  it('refuses publishers while something unsettled is older than max_age, where that is wished', async () => {
    const parts = await fixture({ maxAgeMs: 60_000 });
    const topic = parts.broker.topic('orders');
    await topic.publish(encoded('a'));
    await parts.clock.advance(61_000);
    await slowRound(parts);
    assert.equal(topic.head, 1);
    assert.equal((await failureOf(topic.publish(encoded('b')))).reason, 'TOPIC_FULL');
    await parts.settle(2);
    await parts.maintenance.tick();
    assert.equal((await topic.publish(encoded('b'))).firstSequence, 2);
  });

  it('is tried again when the disk was full, without a word', async () => {
    const parts = await fixture();
    const topic = parts.broker.topic('orders');
    await topic.publish(encoded('a'));
    await parts.settle(2);
    parts.log.onCommit = () => {
      throw FULL;
    };
    await slowRound(parts);
    assert.equal(topic.head, 1);
    assert.deepEqual(
      parts.lines.filter((line) => line.startsWith('error')),
      [],
    );
    parts.log.onCommit = () => undefined;
    await slowRound(parts);
    assert.equal(topic.head, 2);
  });

  it('of one topic is not stopped by another one that is damaged, which is logged', async () => {
    const parts = await fixture({ maxAgeMs: 60_000, onFull: 'DROP_OLDEST' });
    await parts.broker.createTopic('billing', topicSettings({ maxAgeMs: 60_000, onFull: 'DROP_OLDEST' }));
    for (const name of ['billing', 'orders']) {
      await parts.broker.topic(name).publish(encoded('a'));
      await parts.clock.advance(1);
    }
    const sequenceAt = parts.log.sequenceAt.bind(parts.log);
    parts.log.sequenceAt = (topicId, timeMs) =>
      topicId === 2 ? Promise.reject(new Error('damaged')) : sequenceAt(topicId, timeMs);
    await parts.clock.advance(61_000);
    await slowRound(parts);
    assert.deepEqual([parts.broker.topic('orders').head, parts.broker.topic('billing').head], [2, 1]);
    assert.ok(parts.lines.includes('error upkeep of a topic failed; it is tried again'));
  });
});

describe('what time does', () => {
  it('lets delayed messages enter when they are due', async () => {
    const { broker, maintenance, clock } = await fixture();
    const topic = broker.topic('orders');
    await topic.publish(
      encoded({ deliverAfter: { seconds: 5, nanos: 0 } }, { deliverAfter: { seconds: 9, nanos: 0 } }),
    );
    await clock.advance(4999);
    await maintenance.tick();
    assert.deepEqual([topic.delayed, topic.next], [2, 1]);
    await clock.advance(1);
    await maintenance.tick();
    assert.deepEqual([topic.delayed, topic.next], [1, 2]);
  });

  it('deletes subscriptions that nobody consumes, where that is wished', async () => {
    const parts = await fixture({}, { expireAfterIdleMs: 60_000 });
    await parts.broker.createSubscription('orders', 'kept', subscriptionSettings({}));
    const id = parts.broker.delivery('orders', 'mail').attach(new TestSink(), CREDIT);
    await parts.clock.advance(120_000);
    await slowRound(parts);
    parts.broker.delivery('orders', 'mail').detach(id, { counts: false });
    await parts.clock.advance(50_000);
    await slowRound(parts);
    const names = (): string[] =>
      parts.broker.deliveries(parts.broker.topic('orders')).map(({ record }) => record.name);
    assert.deepEqual(names(), ['kept', 'mail']);
    await parts.clock.advance(9000);
    await slowRound(parts);
    assert.deepEqual(names(), ['kept']);
    assert.ok(parts.lines.includes('info an idle subscription expired'));
  });

  it('forgets producers that were silent for a day', async () => {
    const parts = await fixture();
    const topic = parts.broker.topic('orders');
    const owner = topic.producers.open('p', parts.clock.now(), () => undefined);
    await topic.publish(encoded('a'), { name: 'p', owner, batch: 1 });
    topic.producers.close('p', owner);
    await parts.clock.advance(PRODUCER_MEMORY_MS - 10_000);
    await slowRound(parts);
    assert.equal(topic.producers.lastBatch('p'), 1);
    await parts.clock.advance(10_001);
    await slowRound(parts);
    assert.equal(topic.producers.lastBatch('p'), 0);
    assert.equal(parts.log.changes('producer').at(-1)?.record, undefined);
    assert.deepEqual((await parts.log.load()).topics[0]?.producers, []);
  });

  it('forgets dedupe ids after their window and the next', async () => {
    const parts = await fixture({ dedupeWindowMs: 10_000 });
    await parts.broker.topic('orders').publish(encoded({ dedupeId: 'x' }));
    const [stored] = parts.log.changes('dedupe');
    assert.ok(stored);
    const known = async (): Promise<number> => (await parts.log.dedupe(1, [stored.window], ['x'])).size;
    await slowRound(parts);
    assert.equal(await known(), 1);
    await parts.clock.advance(20_000);
    await slowRound(parts);
    assert.equal(await known(), 0);
  });
});

describe('giving space back', () => {
  async function free(parts: Fixture, bytes: number): Promise<void> {
    const topic = parts.broker.topic('orders');
    await topic.publish(encoded({ payload: Buffer.alloc(bytes) }));
    await parts.broker.delivery('orders', 'mail').seekTo(topic.next);
    await parts.maintenance.tick();
  }

  async function quiet({ maintenance }: Fixture, rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round += 1) await maintenance.tick();
  }

  it('happens once after a start, when it has become quiet', async () => {
    const parts = await fixture();
    await quiet(parts, 15);
    assert.equal(parts.log.compactions, 0);
    await quiet(parts, 100);
    assert.equal(parts.log.compactions, 1);
  });

  it('waits until it is quiet, and until it is worth it', async () => {
    const parts = await fixture();
    await quiet(parts, 100);
    await free(parts, 1000);
    await quiet(parts, 100);
    assert.equal(parts.log.compactions, 1);
    await free(parts, 300 * 1024);
    await quiet(parts, 15);
    assert.equal(parts.log.compactions, 1);
    await quiet(parts, 10);
    assert.equal(parts.log.compactions, 2);
    await quiet(parts, 100);
    assert.equal(parts.log.compactions, 2);
  });

  it('counts what the log has deleted by itself', async () => {
    const parts = await fixture();
    await quiet(parts, 100);
    let deletedBytes = 300 * 1024;
    Object.defineProperty(parts.log, 'deletedBytes', { get: () => deletedBytes });
    parts.log.onCompact = () => {
      deletedBytes = 0;
    };
    await quiet(parts, 100);
    assert.equal(parts.log.compactions, 2);
  });

  it('does not wait for a quiet moment when very much was let go of', async () => {
    const parts = await fixture();
    await quiet(parts, 100);
    for (let round = 0; round < 257; round += 1) await free(parts, MIB - 100);
    assert.equal(parts.log.compactions, 2);
  });

  it('that failed is logged, and tried again after more', async () => {
    const parts = await fixture();
    parts.log.onCompact = () => {
      throw new Error('no');
    };
    await quiet(parts, 100);
    assert.deepEqual([parts.log.compactions, parts.lines.filter((line) => line.startsWith('error')).length], [1, 1]);
    parts.log.onCompact = () => undefined;
    await free(parts, 300 * 1024);
    await quiet(parts, 30);
    assert.equal(parts.log.compactions, 2);
  });
});

describe('the rounds of upkeep', () => {
  it('go on by the clock until they are stopped', async () => {
    const { broker, maintenance, clock, settle } = await fixture();
    const stop = new AbortController();
    const running = maintenance.run(stop.signal);
    await broker.topic('orders').publish(encoded('a'));
    await settle(2);
    await clock.advance(99);
    assert.equal(broker.topic('orders').head, 1);
    await clock.advance(1);
    await turns();
    assert.deepEqual([broker.topic('orders').head], [2]);
    stop.abort();
    await running;
    broker.close(new MusterError('unavailable', 'stopping'));
    assert.equal(clock.pending, 0);
    await maintenance.run(stop.signal);
  });
});
