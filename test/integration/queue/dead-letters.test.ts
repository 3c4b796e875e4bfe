import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ms, QueueBench, SUBSCRIPTION as subscription, TOPIC as topic, textOf } from '../../support/queue-consumer.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

/** The texts of the dead letters, with how often they were tried. */
async function lettersOf({ client }: QueueBench): Promise<[string, number][]> {
  const { deadLetters } = await client.listDeadLetters({ topic, subscription, pageSize: 0, pageToken: '' });
  return deadLetters.map(({ message, attempts }) => [message ? textOf(message) : '', attempts]);
}

/** A bench whose messages `a` to `e` all died at the first attempt. */
async function withDead(t: Parameters<typeof QueueBench.start>[0]): Promise<QueueBench> {
  const bench = await QueueBench.start(t, { subscription: { backoff: { initial: ms(0), max: ms(0) } } });
  await bench.publish('a', 'b', 'c', 'd', 'e');
  const consumer = await bench.consumer();
  await consumer.got(5);
  await consumer.settle({ nacks: [{ deliveries: { first: 1, last: 5 }, deadLetter: true, reason: 'r'.repeat(2000) }] });
  await consumer.end();
  return bench;
}

describe('dead letters', () => {
  it('are listed page by page, with their reason cut, over a restart, when the topic is long empty', async (t) => {
    const bench = await withDead(t);
    await waitFor('the topic to be empty', async () => (await bench.stats()).messages === 0);
    await bench.queue.stop();
    await bench.queue.start();
    const seen: number[] = [];
    let pageToken = '';
    do {
      const page = await bench.client.listDeadLetters({ topic, subscription, pageSize: 2, pageToken });
      assert.ok(page.deadLetters.length <= 2);
      for (const { sequence, reason } of page.deadLetters) {
        seen.push(sequence);
        assert.equal(reason.length, 1024);
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    assert.deepEqual(seen, [1, 2, 3, 4, 5]);
    assert.equal((await bench.subscriptionStats()).dead, 5);
  });

  it('are delivered again as they were when they are replayed, and are gone once acknowledged', async (t) => {
    const bench = await withDead(t);
    assert.deepEqual(await bench.client.replayDeadLetters({ topic, subscription, sequences: [2, 4, 77] }), {
      replayed: 2,
    });
    const consumer = await bench.consumer();
    await consumer.got(2);
    assert.deepEqual(
      consumer.received.map(({ sequence, text, attempt }) => [sequence, text, attempt]),
      [
        [2, 'b', 1],
        [4, 'd', 1],
      ],
    );
    assert.deepEqual(await consumer.settle({ acks: [1] }), []);
    // One is given up once more, the other one is done.
    await consumer.settle({ nacks: [{ deliveries: { first: 2, last: 2 }, deadLetter: true, reason: '' }] });
    assert.deepEqual(
      (await lettersOf(bench)).map(([text]) => text),
      ['a', 'c', 'd', 'e'],
    );
    assert.deepEqual(await bench.client.replayDeadLetters({ topic, subscription, sequences: [] }), { replayed: 4 });
    await consumer.got(6);
    await consumer.settle({ acks: [{ first: 3, last: 6 }] });
    assert.deepEqual(await lettersOf(bench), []);
    const { dead, backlog } = await bench.subscriptionStats();
    assert.deepEqual([dead, backlog], [0, 0]);
  });

  it('that are being replayed come again after a restart', async (t) => {
    const bench = await withDead(t);
    await bench.client.replayDeadLetters({ topic, subscription, sequences: [3] });
    await bench.queue.stop();
    await bench.queue.start();
    const consumer = await bench.consumer();
    await consumer.got(1);
    assert.deepEqual(consumer.texts, ['c']);
  });

  it('are deleted when they are purged, and a topic that has some is not empty', async (t) => {
    const bench = await withDead(t);
    const refusal = await failureOf(bench.client.deleteTopic({ topic, force: false }));
    assert.equal(refusal.reason, 'NOT_EMPTY');
    assert.deepEqual(await bench.client.purgeDeadLetters({ topic, subscription, sequences: [1, 99] }), { purged: 1 });
    assert.deepEqual(
      (await lettersOf(bench)).map(([text]) => text),
      ['b', 'c', 'd', 'e'],
    );
    assert.deepEqual(await bench.client.purgeDeadLetters({ topic, subscription, sequences: [] }), { purged: 4 });
    assert.equal((await bench.subscriptionStats()).dead, 0);
    await waitFor('the topic to be empty', () =>
      bench.client.deleteTopic({ topic, force: false }).then(
        () => true,
        () => false,
      ),
    );
  });

  it('unblock their key', async (t) => {
    const bench = await QueueBench.start(t, { subscription: { ordered: true } });
    await bench.publish({ key: 'k', payload: Buffer.from('1') }, { key: 'k', payload: Buffer.from('2') });
    const consumer = await bench.consumer();
    await consumer.got(1);
    await consumer.settle({ nacks: [{ deliveries: { first: 1, last: 1 }, deadLetter: true, reason: '' }] });
    await consumer.got(2);
    assert.deepEqual(consumer.texts, ['1', '2']);
  });
});

describe('messages that are pulled', () => {
  it('are settled by their lease, each once', async (t) => {
    const bench = await QueueBench.start(t, { subscription: { backoff: { initial: ms(0), max: ms(0) } } });
    const { client } = bench;
    await bench.publish('a', 'b', 'c');
    const { messages } = await client.pull({ topic, subscription, maxMessages: 10, wait: undefined });
    assert.deepEqual(
      messages.map(({ message, attempt }) => [message && textOf(message), attempt]),
      [
        ['a', 1],
        ['b', 1],
        ['c', 1],
      ],
    );
    const [a = '', b = '', c = ''] = messages.map(({ lease }) => lease);
    const nothing = { topic, subscription, acks: [], nacks: [], extends: [] };
    assert.deepEqual(await client.settle({ ...nothing, acks: [a], extends: [{ lease: c, duration: ms(60_000) }] }), {
      failures: [],
    });
    const nack = { lease: b, delay: undefined, deadLetter: false, reason: '' };
    const { failures } = await client.settle({ ...nothing, acks: [a, 'nonsense'], nacks: [nack] });
    assert.deepEqual(failures.map(({ reason }) => reason).sort(), ['ALREADY_SETTLED', 'UNKNOWN_LEASE']);
    const again = await client.pull({ topic, subscription, maxMessages: 10, wait: ms(5000) });
    assert.deepEqual(
      again.messages.map(({ message, attempt }) => [message && textOf(message), attempt]),
      [['b', 2]],
    );
    await client.settle({ ...nothing, acks: [c, again.messages[0]?.lease ?? ''] });
    assert.equal((await bench.subscriptionStats()).backlog, 0);
    assert.deepEqual(await client.pull({ topic, subscription, maxMessages: 1, wait: undefined }), { messages: [] });
  });

  it('are waited for', async (t) => {
    const bench = await QueueBench.start(t);
    const pulled = bench.client.pull({ topic, subscription, maxMessages: 1, wait: ms(60_000) }, { timeoutMs: 60_000 });
    await waitFor('the pull to wait', async () => (await bench.subscriptionStats()).consumers.length === 1);
    await bench.publish('a');
    assert.equal((await pulled).messages.length, 1);
  });

  it('are not waited for in a queue that stops', async (t) => {
    const bench = await QueueBench.start(t);
    const pulled = bench.client.pull({ topic, subscription, maxMessages: 1, wait: ms(60_000) }, { timeoutMs: 60_000 });
    await waitFor('the pull to wait', async () => (await bench.subscriptionStats()).consumers.length === 1);
    await bench.queue.stop();
    assert.deepEqual(await pulled, { messages: [] });
  });
});
