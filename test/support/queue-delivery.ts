import assert from 'node:assert/strict';
import { MusterError } from '../../src/kit/errors.js';
import { BatchCache } from '../../src/queue/batch-cache.js';
import { Delivery } from '../../src/queue/delivery.js';
import { GroupCommit } from '../../src/queue/group-commit.js';
import { subscriptionSettings, type WantedSettings } from '../../src/queue/subscription/settings.js';
import type { SettleOrder } from '../../src/queue/subscription/types.js';
import { Topic } from '../../src/queue/topic.js';
import { topicSettings } from '../../src/queue/topic-settings.js';
import { queueParts, type QueueParts } from './queue-parts.js';

/** One subscription with its topic, for tests of what is delivered and settled. */

export const CREDIT = { maxMessages: 1000, maxBytes: 1_000_000 };
export const FULL = new MusterError('exhausted', 'the disk is almost full');
export const DAMAGE = new MusterError('data_loss', 'message 1 of topic orders is damaged');

export interface DeliveryFixture extends QueueParts {
  readonly topic: Topic;
  readonly delivery: Delivery;
  readonly commit: GroupCommit;
  readonly settled: () => number;
}

/** The subscription as it is loaded. `cached`: whether what is published stays in memory. */
export async function loadDelivery(of: QueueParts, cached = true): Promise<DeliveryFixture> {
  const [loaded] = (await of.log.load()).topics;
  const [subscription] = loaded?.subscriptions ?? [];
  assert.ok(loaded && subscription);
  const commit = new GroupCommit(of.log);
  const topic = new Topic(loaded, { ...of, commit, cache: new BatchCache(cached ? undefined : 1) });
  let settled = 0;
  const onSettled = (): void => {
    settled += 1;
  };
  const delivery = new Delivery(subscription, topic, { ...of, commit, onSettled });
  topic.subscribers.add(delivery);
  return { ...of, topic, delivery, commit, settled: () => settled };
}

export async function deliveryFixture(wanted: WantedSettings = {}, cached = true): Promise<DeliveryFixture> {
  const parts = queueParts();
  await parts.log.load();
  const place = { topicId: 1, name: 'orders', revision: 1, createdMs: 1 };
  await parts.log.commit([
    { kind: 'topic', topic: { ...place, id: 1, settings: topicSettings({}) } },
    { kind: 'subscription', subscription: { ...place, id: 1, name: 'mail', settings: subscriptionSettings(wanted) } },
    { kind: 'cursor', topicId: 1, subscriptionId: 1, cursor: { floor: 1, settled: [], dropped: 0 } },
  ]);
  return loadDelivery(parts, cached);
}

export function acks(first: number, last = first): SettleOrder {
  return { acks: [{ first, last }], nacks: [], extends: [] };
}

export function nack(first: number, more: Partial<SettleOrder['nacks'][number]> = {}): SettleOrder {
  return {
    acks: [],
    nacks: [{ range: { first, last: first }, deadLetter: false, reason: 'no', ...more }],
    extends: [],
  };
}

/** The MusterError `work` fails with. */
export async function failureOf(work: Promise<unknown>): Promise<MusterError> {
  const error = await work.then(
    () => undefined,
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof MusterError, 'it was to fail on purpose');
  return error;
}
