import type { TestContext } from 'node:test';
import { QueueService, type Subscription, type SubscriptionStats } from '../../generated/muster/v1/queue.js';
import { Queue } from '../../src/client/queue/queue.js';
import { toSubscription, type SubscriptionSettings } from '../../src/client/queue/subscription-settings.js';
import { createClient, openChannel } from '../../src/rpc/client.js';
import type { Client } from '../../src/rpc/types.js';
import { TestQueue } from './queue-host.js';
import { waitFor } from './waiting.js';

/** A queue with a topic `orders`, the library connected to it, and an operator. */
export interface QueueFixture {
  readonly queue: TestQueue;
  readonly address: string;
  readonly library: Queue;
  readonly operator: Client<typeof QueueService>;
  readonly subscription: (name: string, settings?: SubscriptionSettings) => Promise<Subscription>;
  /** Waits until what the queue counts of the subscription is as wanted. */
  readonly stats: (name: string, wanted: (stats: SubscriptionStats) => boolean) => Promise<SubscriptionStats>;
}

export const TOPIC = 'orders';

/** The library at an address, closed after the test. */
export function libraryAt(t: TestContext, address: string): Queue {
  const library = new Queue({ address }, {});
  t.after(() => library.close().catch(() => undefined));
  return library;
}

export async function startQueueFixture(t: TestContext): Promise<QueueFixture> {
  const queue = await TestQueue.make(t);
  await queue.start();
  const address = `unix:${queue.ready.socket}`;
  const channel = openChannel({ address });
  t.after(() => {
    channel.close();
  });
  const operator = createClient(QueueService, channel);
  const topic = { minRetention: undefined, maxAge: undefined, dedupeWindow: undefined, created: undefined };
  await operator.createTopic({
    topic: {
      ...topic,
      name: TOPIC,
      maxBytes: 0,
      onFull: 'ON_FULL_UNSPECIFIED',
      publishers: [],
      subscribers: [],
      revision: 0,
    },
  });
  return {
    queue,
    address,
    library: libraryAt(t, address),
    operator,
    subscription: (name, settings = {}) =>
      operator.createSubscription({ subscription: toSubscription(TOPIC, name, settings) }),
    stats: (name, wanted) =>
      waitFor(`the subscription ${name}`, async () => {
        const { topics } = await operator.getStats({ topic: TOPIC });
        const found = topics[0]?.subscriptions.find(({ subscription }) => subscription === name);
        return found && wanted(found) ? found : undefined;
      }),
  };
}

/** The first items of an iterable; the loop is then left. */
export async function take<T>(
  items: AsyncIterable<T>,
  count: number,
  each: (item: T) => unknown = () => undefined,
): Promise<T[]> {
  const taken: T[] = [];
  for await (const item of items) {
    taken.push(item);
    await each(item);
    if (taken.length === count) break;
  }
  return taken;
}
