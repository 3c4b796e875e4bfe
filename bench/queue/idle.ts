import { CreateSubscriptionRequest, CreateTopicRequest, QueueService } from '../../generated/muster/v1/queue.js';
import { createClient, openChannel } from '../../src/rpc/client.js';
import { rssOf } from '../measure.js';
import { pause, until, type Bench, type Scenario } from './bench.js';
import { nowMs } from './port.js';

/** 10,000 subscriptions on 1,000 topics that nobody uses: what they cost in memory, and how long a start with them takes. */

const TOPICS = 1000;
const EACH = 10;
const AT_ONCE = 32;
const START_SECONDS = 30;

async function create(address: string): Promise<void> {
  const channel = openChannel({ address });
  const queue = createClient(QueueService, channel);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < TOPICS) {
      const topic = `idle-${next}`;
      next += 1;
      await queue.createTopic(CreateTopicRequest.fromPartial({ topic: { name: topic } }));
      for (let index = 0; index < EACH; index += 1) {
        await queue.createSubscription(
          CreateSubscriptionRequest.fromPartial({ subscription: { topic, name: `subscription-${index}` } }),
        );
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  } finally {
    channel.close();
  }
}

async function answers(address: string): Promise<boolean> {
  const channel = openChannel({ address, connectTimeoutMs: 1000 });
  try {
    await createClient(QueueService, channel).getTopic({ topic: `idle-${TOPICS - 1}` });
    return true;
  } catch {
    return false;
  } finally {
    channel.close();
  }
}

async function measure(bench: Bench): Promise<Record<string, number>[]> {
  const { system, endpoint } = bench;
  const rssEmpty = rssOf(system.pid);
  const beganMs = nowMs();
  await create(endpoint.address);
  const createSeconds = (nowMs() - beganMs) / 1000;
  await pause(1);
  const rss = rssOf(system.pid);
  await system.stop();
  const startedMs = nowMs();
  system.spawnAgain();
  await until('the queue to answer', START_SECONDS, () => answers(endpoint.address));
  const startSeconds = (nowMs() - startedMs) / 1000;
  await pause(1);
  return [{ rssEmpty, rss, startSeconds, rssAgain: rssOf(system.pid), createSeconds }];
}

export const idle: Scenario = {
  name: 'idle',
  tables: [
    {
      title: '10,000 idle subscriptions on 1,000 topics',
      columns: [
        { key: 'rssEmpty', title: 'memory empty', unit: 'bytes' },
        { key: 'rss', title: 'memory', unit: 'bytes' },
        { key: 'startSeconds', title: 'start s', unit: 's' },
        { key: 'rssAgain', title: 'memory after start', unit: 'bytes' },
        { key: 'createSeconds', title: 'created in s', unit: 's' },
      ],
    },
  ],
  measure,
};
