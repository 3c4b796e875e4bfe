import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import {
  PublishStreamRequest,
  QueueService,
  SettleRequest,
  SubscribeRequest,
  type PublishAck,
  type PublishStreamResponse,
  type SettleResponse,
} from '../../../generated/muster/v1/queue.js';
import { freshSeed, randomBetween, seededRandom } from '../../../src/kit/random.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import { rawRequests } from '../../../src/rpc/raw.js';
import type { ClientDuplex } from '../../../src/rpc/types.js';
import { ms, QueueBench, SUBSCRIPTION, TOPIC, toMessage } from '../../support/queue-consumer.js';
import { failureOf } from '../../support/rpc.js';

const MIB = 1024 * 1024;
const RAW = {
  publish: rawRequests(QueueService.publish),
  publishStream: rawRequests(QueueService.publishStream),
  subscribe: rawRequests(QueueService.subscribe),
};

type RawPublish = ClientDuplex<Buffer, PublishStreamResponse>;

function rawClient(t: TestContext, { address }: QueueBench): ReturnType<typeof createClient<typeof RAW>> {
  const channel = openChannel({ address });
  t.after(() => {
    channel.close();
  });
  return createClient(RAW, channel);
}

function publishOpen(producer = ''): Buffer {
  const frame = { $case: 'open', value: { topic: TOPIC, producer } } as const;
  return Buffer.from(PublishStreamRequest.encode({ frame }).finish());
}

function publishBatch(batch: number, ...texts: readonly string[]): Buffer {
  const frame = { $case: 'batch', value: { batch, messages: texts.map(toMessage) } } as const;
  return Buffer.from(PublishStreamRequest.encode({ frame }).finish());
}

/** One encoded field with a length. */
function field(number: number, bytes: Buffer): Buffer {
  if (bytes.length > 127) throw new Error('too long for one byte of length');
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

/** A `batch` frame with batch number 1 around this, which stands for its messages. */
function batchAround(messages: Buffer): Buffer {
  return field(2, Buffer.concat([messages, Buffer.from([0x10, 1])]));
}

async function acksOf(stream: RawPublish, count: number): Promise<PublishAck[]> {
  const acks: PublishAck[] = [];
  const frames = stream[Symbol.asyncIterator]();
  while (acks.length < count) {
    const next = await frames.next();
    if (next.done === true) throw new Error(`the stream ended after ${acks.length} acknowledgements`);
    if (next.value.frame?.$case === 'acks') acks.push(...next.value.frame.value.acks);
  }
  return acks;
}

async function drained(stream: AsyncIterable<unknown>): Promise<void> {
  const frames = stream[Symbol.asyncIterator]();
  while ((await frames.next()).done !== true);
}

/** How a stream fails that begins with these frames. */
async function streamFailure(stream: RawPublish, ...frames: readonly Buffer[]): Promise<string> {
  const failure = await failureOf(
    (async () => {
      for (const frame of frames) await stream.send(frame);
      await drained(stream);
    })(),
  );
  return `${failure.code}: ${failure.message}`;
}

describe('a queue that is called wrongly', () => {
  it('names the nearest topic or subscription', async (t) => {
    const { client } = await QueueBench.start(t);
    await client.createTopic({ topic: { ...(await client.getTopic({ topic: TOPIC })), name: 'orders' } });
    const unknown = await failureOf(client.publish({ topic: 'order', messages: [toMessage('x')] }));
    assert.equal(unknown.code, 'not_found');
    assert.equal(unknown.reason, 'UNKNOWN_TOPIC');
    assert.match(unknown.message, /"order".*orders/);
    const none = await failureOf(client.pull({ topic: TOPIC, subscription: 'ss', maxMessages: 1, wait: undefined }));
    assert.equal(none.reason, 'UNKNOWN_SUBSCRIPTION');
    assert.match(none.message, /"ss".*"?s"?/);
  });

  it('refuses names with the characters of paths, and takes those of objects as names like any other', async (t) => {
    const { client } = await QueueBench.start(t);
    for (const name of ['', '.', '..', '../x', 'a/b', '/etc', 'a b', 'a\0b', 'ü', '-a', '_a', 'x'.repeat(65)]) {
      const topic = await failureOf(
        client.createTopic({ topic: { ...(await client.getTopic({ topic: TOPIC })), name } }),
      );
      assert.equal(topic.code, 'invalid', name);
      const made = failureOf(client.getTopic({ topic: name }));
      assert.equal((await made).code, 'invalid', name);
    }
    for (const name of ['constructor', 'toString', 'hasOwnProperty', 'a__proto__']) {
      await client.createTopic({ topic: { ...(await client.getTopic({ topic: TOPIC })), name } });
      const { firstSequence } = await client.publish({ topic: name, messages: [toMessage('x')] });
      assert.equal(firstSequence, 1);
    }
    assert.equal((await failureOf(client.getTopic({ topic: '__proto__' }))).code, 'invalid');
    assert.equal((await failureOf(client.getTopic({ topic: 'prototype' }))).code, 'not_found');
  });

  it('answers settles of what cannot be settled one by one, and settles the rest', async (t) => {
    const bench = await QueueBench.start(t, {
      subscription: { lease: ms(1000), backoff: { initial: ms(0), max: ms(0) } },
    });
    await bench.publish('a', 'b', 'c');
    const consumer = await bench.consumer();
    await consumer.got(3);
    assert.deepEqual(await consumer.settle({ acks: [1] }), []);
    assert.deepEqual(await consumer.settle({ acks: [1, 99, 2] }), [
      { delivery: 1, reason: 'ALREADY_SETTLED' },
      { delivery: 99, reason: 'UNKNOWN_DELIVERY' },
    ]);
    // The lease of the third ends; it comes again under another number, and the old one cannot settle it.
    await consumer.got(4);
    assert.equal(consumer.received[3]?.text, 'c');
    assert.deepEqual(await consumer.settle({ acks: [3] }), [{ delivery: 3, reason: 'LEASE_OVER' }]);
    assert.deepEqual(await consumer.settle({ acks: [consumer.received.at(-1)?.delivery ?? 0] }), []);
    assert.equal((await bench.subscriptionStats()).backlog, 0);
  });

  it('takes absurd delays for the nearest possible, and no settle of others fails for them', async (t) => {
    const bench = await QueueBench.start(t);
    const { client } = bench;
    await bench.publish('a', 'b');
    const { messages } = await client.pull({ topic: TOPIC, subscription: SUBSCRIPTION, maxMessages: 2, wait: ms(0) });
    const [a = '', b = ''] = messages.map(({ lease }) => lease);
    const settle = (request: Partial<SettleRequest>): Promise<SettleResponse> =>
      client.settle(SettleRequest.fromPartial({ topic: TOPIC, subscription: SUBSCRIPTION, ...request }));
    const absurd = { lease: a, delay: { seconds: -8e12, nanos: 0 }, deadLetter: false, reason: '' };
    assert.deepEqual((await settle({ nacks: [absurd] })).failures, []);
    assert.deepEqual((await settle({ acks: [b] })).failures, []);
    const again = await client.pull({ topic: TOPIC, subscription: SUBSCRIPTION, maxMessages: 2, wait: ms(0) });
    assert.deepEqual(
      again.messages.map(({ attempt }) => attempt),
      [2],
    );
  });

  it('settles at most so many leases in one call', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.publish('a');
    const { messages } = await bench.client.pull({
      topic: TOPIC,
      subscription: SUBSCRIPTION,
      maxMessages: 1,
      wait: ms(0),
    });
    const lease = messages[0]?.lease ?? '';
    const settle = (count: number): Promise<SettleResponse> =>
      bench.client.settle(
        SettleRequest.fromPartial({
          topic: TOPIC,
          subscription: SUBSCRIPTION,
          acks: Array.from({ length: count }, () => lease),
        }),
      );
    assert.equal((await failureOf(settle(10_001))).code, 'invalid');
    assert.equal((await settle(10_000)).failures.length, 4096);
  });

  it('does not let one consumer settle what another has', async (t) => {
    const bench = await QueueBench.start(t);
    await bench.publish('a');
    const first = await bench.consumer();
    await first.got(1);
    const second = await bench.consumer();
    assert.deepEqual(await second.settle({ acks: [1] }), [{ delivery: 1, reason: 'UNKNOWN_DELIVERY' }]);
    assert.deepEqual(await first.settle({ acks: [1] }), []);
  });

  it('refuses a batch that is too large, and leaves the stream open', async (t) => {
    const bench = await QueueBench.start(t);
    const large = await failureOf(bench.publish('x'.repeat(MIB)));
    assert.equal(large.code, 'invalid');
    assert.equal(large.reason, 'TOO_LARGE');
    const many = await failureOf(bench.publish(...Array.from({ length: 10_001 }, () => 'x')));
    assert.equal(many.reason, 'TOO_LARGE');
    assert.equal((await failureOf(bench.publish())).code, 'invalid');
    const stream = rawClient(t, bench).publishStream();
    await stream.send(publishOpen());
    await stream.send(publishBatch(1, 'x'.repeat(MIB)));
    await stream.send(publishBatch(2));
    await stream.send(publishBatch(3, 'good'));
    const acks = await acksOf(stream, 3);
    assert.deepEqual(
      acks.map(({ batch, refusal }) => [batch, refusal?.code ?? 0]),
      [
        [1, 3],
        [2, 3],
        [3, 0],
      ],
    );
    assert.equal((await bench.stats()).messages, 1);
    stream.cancel();
  });

  it('refuses malformed batches by name and takes the good ones around them', async (t) => {
    const bench = await QueueBench.start(t);
    const bad: Record<string, Buffer> = {
      'a key that is not UTF-8': field(1, field(3, Buffer.from([0xff, 0xfe]))),
      'an attribute that is not UTF-8': field(1, field(2, field(1, Buffer.from([0xc0])))),
      'a length that goes beyond its message': field(1, Buffer.from([0x0a, 50, 1])),
      'a payload that is a number': field(1, Buffer.from([0x08, 1])),
      'a dedupe id of 129 bytes': Buffer.concat([
        Buffer.from([0x0a, 0x84, 0x01, 0x22, 0x81, 0x01]),
        Buffer.alloc(129, 'a'),
      ]),
    };
    for (const [what, messages] of Object.entries(bad)) {
      const stream = rawClient(t, bench).publishStream();
      await stream.send(publishOpen());
      const length = messages.length + 2;
      const head = Buffer.from(length > 127 ? [0x12, (length & 127) | 128, length >> 7] : [0x12, length]);
      await stream.send(Buffer.concat([head, messages, Buffer.from([0x10, 1])]));
      await stream.send(publishBatch(2, 'good'));
      const acks = await acksOf(stream, 2);
      assert.equal(acks[0]?.refusal?.code, 3, what);
      assert.equal(acks[1]?.refusal, undefined, what);
      stream.cancel();
    }
    assert.equal((await bench.stats()).messages, Object.keys(bad).length);
  });

  it('ends a stream that is not one, and says why', async (t) => {
    const bench = await QueueBench.start(t);
    const raw = rawClient(t, bench);
    const open = publishOpen();
    const cases: [expected: RegExp, ...frames: Buffer[]][] = [
      [/invalid: the first frame .*open/, publishBatch(1, 'x')],
      [/invalid: .*open already/, open, open],
      [/invalid: .*neither/, open, Buffer.alloc(0)],
      [/invalid: .*no number/, open, publishBatch(0, 'x')],
      [/invalid/, Buffer.from([0x0a, 0xff])],
      [/invalid/, open, Buffer.from([0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01])],
      [/invalid/, open, Buffer.from([0x13])],
      [/invalid/, open, batchAround(Buffer.alloc(0)).subarray(0, 3)],
    ];
    for (const [expected, ...frames] of cases) {
      assert.match(await streamFailure(raw.publishStream(), ...frames), expected);
    }
    const settle = SubscribeRequest.fromPartial({ frame: { $case: 'settle', value: { id: 1 } } });
    const early = raw.subscribe();
    await early.send(Buffer.from(SubscribeRequest.encode(settle).finish()));
    const failure = await failureOf(early[Symbol.asyncIterator]().next());
    assert.equal(failure.code, 'invalid');
    assert.match(failure.message, /first frame.*open/);
    const consumer = await bench.consumer();
    const again = { topic: TOPIC, subscription: SUBSCRIPTION, consumer: '', credit: undefined };
    await consumer.send({ $case: 'open', value: again });
    await consumer.ended();
    assert.equal(consumer.failure?.code, 'invalid');
    assert.match(consumer.failure.message, /open already/);
  });

  it('survives 2,000 frames of noise, and is as good as before', async (t) => {
    const seed = Number(process.env['MUSTER_SEED'] ?? freshSeed());
    t.diagnostic(`MUSTER_SEED=${seed}`);
    const random = seededRandom(seed);
    const bench = await QueueBench.start(t);
    const raw = rawClient(t, bench);
    const good = publishBatch(1, 'first', 'second');
    for (let round = 0; round < 2000; round += 1) {
      const noise = random.next() < 0.5 ? Buffer.from(good) : Buffer.alloc(randomBetween(random, 0, 60));
      const flips = noise.length === 0 ? 0 : randomBetween(random, 1, 1 + noise.length);
      for (let flip = 0; flip < flips; flip += 1) {
        noise[randomBetween(random, 0, noise.length)] = randomBetween(random, 0, 256);
      }
      const stream = raw.publishStream();
      try {
        await stream.send(publishOpen());
        await stream.send(noise);
        stream.end();
        await drained(stream);
      } catch (error) {
        const { code } = await failureOf(Promise.reject(error));
        assert.equal(code, 'invalid', `${noise.toString('hex')} failed as ${code}`);
      }
    }
    // What was taken can be read by everybody.
    const { nextSequence } = await bench.stats();
    const consumer = await bench.consumer();
    await consumer.got(nextSequence - 1);
    await consumer.ackAll();
    assert.equal((await bench.subscriptionStats()).backlog, 0);
  });
});
