import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it, type TestContext } from 'node:test';
import { Subscription, Topic } from '../../../generated/muster/v1/queue.js';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { connectQueue, QueueProcess, type QueueClient } from '../../support/queue-process.js';
import { SUBSCRIPTION as subscription, TestConsumer, toMessage, TOPIC as topic } from '../../support/queue-consumer.js';
import { waitFor } from '../../support/waiting.js';

const MIB = 1024 * 1024;
/** What the whole server may grow by under any of this. Its own bounds are far below: 32 MiB of batches that are not stored, 8 MiB per connection. */
const GROWTH_BYTES_MAX = 160 * MIB;
const FLOOD_BATCHES = 40_000;
/** A batch that is not taken for so long waits for the publisher to read. */
const HELD_BACK_MS = 3000;
const STREAMS = 500;
const STREAMS_AT_ONCE = 50;

function rssOf(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]) * 1024;
}

async function start(t: TestContext): Promise<{ queue: QueueProcess; client: QueueClient }> {
  const queue = await QueueProcess.make(t);
  await queue.start();
  const client = connect(t, queue);
  await client.createTopic({ topic: Topic.fromPartial({ name: topic }) });
  await client.createSubscription({ subscription: Subscription.fromPartial({ topic, name: subscription }) });
  return { queue, client };
}

function connect(t: TestContext, queue: QueueProcess): QueueClient {
  const connected = connectQueue(queue.address);
  t.after(() => {
    connected.close();
  });
  return connected.client;
}

async function statsOf(client: QueueClient): Promise<{ consumers: number; publishers: number; backlog: number }> {
  const [stats] = (await client.getStats({ topic })).topics;
  const consumers = stats?.subscriptions.flatMap((one) => one.consumers).length ?? 0;
  return { consumers, publishers: stats?.publishers ?? 0, backlog: stats?.subscriptions[0]?.backlog ?? 0 };
}

describe('a queue with clients that behave badly', () => {
  it('keeps little for a consumer that never reads, and delivers to the others meanwhile', async (t) => {
    const { queue, client } = await start(t);
    await client.createSubscription({ subscription: Subscription.fromPartial({ topic, name: 'stuck' }) });
    // It opens, is given everything there is credit for, and reads nothing at all.
    const stuck = connect(t, queue).subscribe();
    const credit = { maxMessages: 65_536, maxBytes: 64 * MIB };
    await stuck.send({ frame: { $case: 'open', value: { topic, subscription: 'stuck', consumer: '', credit } } });
    await waitFor('it to be attached', async () => (await statsOf(client)).consumers === 1);
    const reader = await TestConsumer.open(connect(t, queue), { maxMessages: 10, maxBytes: 8 * MIB });
    const before = rssOf(queue.pid);
    const large = toMessage('.'.repeat(500_000));
    for (let n = 1; n <= 200; n += 1) {
      await client.publish({ topic, messages: [large] });
      await reader.got(1);
      reader.received.length = 0;
      await reader.settle({ acks: [n] });
    }
    const growth = rssOf(queue.pid) - before;
    t.diagnostic(`100 MB went by, the server grew by ${Math.round(growth / MIB)} MiB`);
    assert.ok(growth < GROWTH_BYTES_MAX, `the server grew by ${growth} bytes`);
    stuck.cancel();
    await waitFor('it to be forgotten', async () => (await statsOf(client)).consumers === 1);
  });

  it('stays small under a publisher that floods it and reads no acknowledgements', async (t) => {
    const { queue, client } = await start(t);
    const flood = connect(t, queue).publishStream();
    await flood.send({ frame: { $case: 'open', value: { topic, producer: '' } } });
    const before = rssOf(queue.pid);
    const messages = [toMessage('x'.repeat(500))];
    let sent = 0;
    for (let isTaken = true; isTaken && sent < FLOOD_BATCHES; sent += 1) {
      const taken = flood.send({ frame: { $case: 'batch', value: { batch: sent + 1, messages } } });
      isTaken = await Promise.race([taken.then(() => true), sleep(systemClock, HELD_BACK_MS).then(() => false)]);
    }
    const other = await client.publish({ topic, messages: [toMessage('of another')] });
    assert.ok(other.firstSequence > 0);
    const growth = rssOf(queue.pid) - before;
    t.diagnostic(`${sent} of ${FLOOD_BATCHES} batches were taken, the server grew by ${Math.round(growth / MIB)} MiB`);
    assert.ok(growth < GROWTH_BYTES_MAX, `the server grew by ${growth} bytes`);
    flood.cancel();
    await client.publish({ topic, messages: [toMessage('still there')] });
  });

  it('forgets streams that come and go: none is left behind, and nothing of what they had is lost', async (t) => {
    const { queue, client } = await start(t);
    const messages = Array.from({ length: 100 }, (_, n) => toMessage(`${n}`));
    await client.publish({ topic, messages });
    const storm = async (): Promise<void> => {
      const alone = connectQueue(queue.address);
      const { client: own } = alone;
      const consumer = await TestConsumer.open(own, { maxMessages: 5 }).catch(() => undefined);
      const publisher = own.publishStream();
      await publisher
        .send({ frame: { $case: 'open', value: { topic, producer: 'one-of-all' } } })
        .catch(() => undefined);
      consumer?.cut();
      alone.close();
    };
    await storm();
    const before = rssOf(queue.pid);
    for (let done = 0; done < STREAMS; done += STREAMS_AT_ONCE) {
      await Promise.all(Array.from({ length: STREAMS_AT_ONCE }, storm));
    }
    await waitFor('all to be forgotten', async () => {
      const { consumers, publishers } = await statsOf(client);
      return consumers === 0 && publishers === 0;
    });
    const growth = rssOf(queue.pid) - before;
    t.diagnostic(`after ${2 * STREAMS} streams the server has grown by ${Math.round(growth / MIB)} MiB`);
    assert.ok(growth < GROWTH_BYTES_MAX, `the server grew by ${growth} bytes`);
    assert.equal((await statsOf(client)).backlog, 100);
    const last = await TestConsumer.open(client);
    const received = await last.got(100);
    assert.equal(new Set(received.map(({ sequence }) => sequence)).size, 100);
    await last.settle({ acks: [{ first: 1, last: received.at(-1)?.delivery ?? 0 }] });
    assert.equal((await statsOf(client)).backlog, 0);
  });

  it('gives what a consumer that never settles has to others', async (t) => {
    const { queue, client } = await start(t);
    const settings = await client.getSubscription({ topic, subscription });
    await client.updateSubscription({
      subscription: { ...settings, lease: { seconds: 1, nanos: 0 }, maxAttempts: 0, backoff: undefined },
    });
    const sleeper = await TestConsumer.open(connect(t, queue), { maxMessages: 10 });
    await client.publish({ topic, messages: Array.from({ length: 10 }, (_, n) => toMessage(`${n}`)) });
    await sleeper.got(10);
    const worker = await TestConsumer.open(client);
    const settled = new Set<string>();
    await waitFor('the worker to have all', async () => {
      for (const { delivery, text } of worker.received.splice(0)) {
        const [failure] = await worker.settle({ acks: [delivery] });
        if (!failure) settled.add(text);
      }
      return settled.size === 10;
    });
  });
});
