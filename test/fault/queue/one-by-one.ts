import { Message, Subscription, Topic, type Deliveries } from '../../../generated/muster/v1/queue.js';
import { isCode, type MusterError } from '../../../src/kit/errors.js';
import { randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { QueueJudge } from '../../support/queue-history.js';
import type { QueueClient } from '../../support/queue-process.js';
import { digest, readMessage, TOPIC as topic } from './life.js';

/** One publisher that knows what was acknowledged, and one consumer: for faults of the disk. */

export const SUBSCRIPTION = 's';
const PUBLISHER = 'p';

export class OneByOne {
  readonly judge = new QueueJudge();
  readonly #random: Random;
  #n = 0;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  async setUp(client: QueueClient): Promise<void> {
    await client.createTopic({ topic: Topic.fromPartial({ name: topic }) });
    await client.createSubscription({ subscription: Subscription.fromPartial({ topic, name: SUBSCRIPTION }) });
    this.judge.record({ kind: 'subscribed', subscription: SUBSCRIPTION, mode: 'single', all: true });
  }

  /** Publishes one message of `bytes`. Undefined: it was acknowledged. */
  async publish(client: QueueClient, bytes: number): Promise<MusterError | undefined> {
    this.#n += 1;
    const id = `${PUBLISHER}/${this.#n}`;
    // Nothing that compresses: the disk shall fill.
    const filler = Array.from({ length: bytes }, () => String.fromCharCode(randomBetween(this.#random, 40, 120)));
    const text = `${id}||${filler.join('')}`;
    const message = Message.fromPartial({ payload: Buffer.from(`${text}|${digest(text)}`) });
    this.judge.record({ kind: 'sent', id });
    try {
      const { firstSequence } = await client.publish({ topic, messages: [message] });
      this.judge.record({ kind: 'published', id, sequence: firstSequence });
      return undefined;
    } catch (error) {
      if (isCode(error)) return error;
      throw error;
    }
  }

  /** Consumes up to `count` messages and waits until they are settled; fewer when nothing is left. */
  async consume(client: QueueClient, count: number): Promise<number> {
    const wanted = Math.min(count, await backlogOf(client));
    if (wanted === 0) return 0;
    const stream = client.subscribe();
    const open = {
      topic,
      subscription: SUBSCRIPTION,
      consumer: '',
      credit: { maxMessages: wanted, maxBytes: 2 ** 25 },
    };
    await stream.send({ frame: { $case: 'open', value: open } });
    const taken: number[] = [];
    for await (const { frame } of stream) {
      if (frame?.$case === 'settled') break;
      if (frame?.$case !== 'deliveries') continue;
      this.#take(frame.value, taken, wanted);
      if (taken.length < wanted) continue;
      const settle = { id: 1, acks: [{ first: 1, last: wanted }], nacks: [], extends: [] };
      await stream.send({ frame: { $case: 'settle', value: settle } });
    }
    for (const sequence of taken) this.judge.record({ kind: 'settled', subscription: SUBSCRIPTION, sequence });
    return wanted;
  }

  /** Consumes everything; what is found to be wrong. */
  async finish(client: QueueClient): Promise<readonly string[]> {
    while ((await this.consume(client, 1000)) > 0);
    this.judge.finish(new Map(), () => true);
    return this.judge.findings;
  }

  #take({ runs, messages }: Deliveries, taken: number[], wanted: number): void {
    let index = 0;
    for (const { firstSequence, count, attempt } of runs) {
      for (let sequence = firstSequence; sequence < firstSequence + count; sequence += 1) {
        const message = messages[index];
        index += 1;
        if (!message || taken.length >= wanted) continue;
        taken.push(sequence);
        const about = { subscription: SUBSCRIPTION, sequence };
        this.judge.record({ kind: 'delivered', ...about, attempt, ...readMessage(message) });
        this.judge.record({ kind: 'settling', ...about, how: 'ack' });
      }
    }
  }
}

async function backlogOf(client: QueueClient): Promise<number> {
  const { topics } = await client.getStats({ topic });
  return topics[0]?.subscriptions.find(({ subscription }) => subscription === SUBSCRIPTION)?.backlog ?? 0;
}
