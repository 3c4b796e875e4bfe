import type { TestContext } from 'node:test';
import {
  Message,
  Nack,
  Subscription,
  Topic,
  type DeliveryRange,
  type Extend,
  type SettleFailure,
  type SubscribeRequest,
  type SubscribeResponse,
  type SubscriptionStats,
  type TopicStats,
} from '../../generated/muster/v1/queue.js';
import { messageOf, type MusterError } from '../../src/kit/errors.js';
import type { ClientDuplex } from '../../src/rpc/types.js';
import { TestQueue } from './queue-host.js';
import { connectQueue, type QueueClient } from './queue-process.js';
import { waitFor } from './waiting.js';

/** A queue in this process, spoken to by plain calls; and a consumer of which a test sees every frame. */

export const TOPIC = 't';
export const SUBSCRIPTION = 's';

export type TopicWishes = Parameters<typeof Topic.fromPartial>[0];
export type SubscriptionWishes = Parameters<typeof Subscription.fromPartial>[0];
export type MessageWishes = Parameters<typeof Message.fromPartial>[0];

/** A duration of the contract. */
export function ms(milliseconds: number): { seconds: number; nanos: number } {
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanos: (milliseconds - seconds * 1000) * 1_000_000 };
}

export function textOf({ payload }: Message): string {
  return payload.toString('utf8');
}

/** A queue with a topic and, unless `subscription` is false, a subscription that begins with the first message. */
export class QueueBench {
  readonly queue: TestQueue;
  readonly client: QueueClient;

  private constructor(queue: TestQueue, client: QueueClient) {
    this.queue = queue;
    this.client = client;
  }

  static async start(
    t: TestContext,
    { topic = {}, subscription = {} }: { topic?: TopicWishes; subscription?: SubscriptionWishes | false } = {},
  ): Promise<QueueBench> {
    // Before the queue stops, which waits for streams that are open.
    let close = (): void => undefined;
    t.after(() => {
      close();
    });
    const queue = await TestQueue.make(t);
    await queue.start();
    const connected = connectQueue(`unix:${queue.ready.socket}`);
    close = () => {
      connected.close();
    };
    const bench = new QueueBench(queue, connected.client);
    await bench.client.createTopic({ topic: Topic.fromPartial({ name: TOPIC, ...topic }) });
    if (subscription !== false) await bench.subscription(SUBSCRIPTION, subscription);
    return bench;
  }

  get address(): string {
    return `unix:${this.queue.ready.socket}`;
  }

  async subscription(name: string, wishes: SubscriptionWishes = {}): Promise<void> {
    const start: SubscriptionWishes['start'] = { at: { $case: 'earliest', value: {} } };
    await this.client.createSubscription({
      subscription: Subscription.fromPartial({ topic: TOPIC, name, start, ...wishes }),
    });
  }

  /** Publishes these as one batch. Answers with the sequence of the first. */
  async publish(...messages: readonly (string | MessageWishes)[]): Promise<number> {
    const { firstSequence } = await this.client.publish({ topic: TOPIC, messages: messages.map(toMessage) });
    return firstSequence;
  }

  async stats(): Promise<TopicStats> {
    const [stats] = (await this.client.getStats({ topic: TOPIC })).topics;
    if (!stats) throw new Error(`there is no topic ${TOPIC}`);
    return stats;
  }

  async subscriptionStats(name = SUBSCRIPTION): Promise<SubscriptionStats> {
    const found = (await this.stats()).subscriptions.find(({ subscription }) => subscription === name);
    if (!found) throw new Error(`there is no subscription ${name}`);
    return found;
  }

  consumer(options: ConsumerWishes = {}): Promise<TestConsumer> {
    return TestConsumer.open(this.client, options);
  }
}

export function toMessage(wishes: string | MessageWishes): Message {
  return Message.fromPartial(typeof wishes === 'string' ? { payload: Buffer.from(wishes) } : wishes);
}

export interface ConsumerWishes {
  readonly subscription?: string;
  readonly name?: string;
  readonly maxMessages?: number;
  readonly maxBytes?: number;
}

export interface Received {
  readonly delivery: number;
  readonly sequence: number;
  readonly attempt: number;
  readonly message: Message;
  readonly text: string;
}

/** One stream of Subscribe. Keeps all that arrives. */
export class TestConsumer {
  readonly received: Received[] = [];
  isDraining = false;
  hasEnded = false;
  failure: MusterError | undefined;
  readonly #stream: ClientDuplex<SubscribeRequest, SubscribeResponse>;
  readonly #settled = new Map<number, readonly SettleFailure[]>();
  #newestSettled = 0;
  #frames = 0;

  private constructor(stream: ClientDuplex<SubscribeRequest, SubscribeResponse>) {
    this.#stream = stream;
  }

  static async open(client: QueueClient, wishes: ConsumerWishes = {}): Promise<TestConsumer> {
    const { subscription = SUBSCRIPTION, name = '', maxMessages = 0, maxBytes = 0 } = wishes;
    const stream = client.subscribe();
    const credit = { maxMessages, maxBytes };
    const open = { topic: TOPIC, subscription, consumer: name, credit };
    await stream.send({ frame: { $case: 'open', value: open } });
    const first = await stream[Symbol.asyncIterator]().next();
    if (first.done === true || first.value.frame?.$case !== 'opened') throw new Error('the stream was not opened');
    const consumer = new TestConsumer(stream);
    void consumer.#read();
    return consumer;
  }

  get texts(): readonly string[] {
    return this.received.map(({ text }) => text);
  }

  /** Waits until so many have been delivered in all. */
  async got(count: number): Promise<readonly Received[]> {
    await waitFor(`${count} deliveries`, () => this.received.length >= count || this.failure !== undefined);
    if (this.received.length < count) throw new Error(`the stream ended: ${messageOf(this.failure)}`);
    return this.received;
  }

  /** Settles, and waits until that is confirmed. Answers with what could not be settled. */
  async settle(order: {
    readonly acks?: readonly (number | DeliveryRange)[];
    readonly nacks?: readonly (number | Parameters<typeof Nack.fromPartial>[0])[];
    readonly extends?: readonly Extend[];
  }): Promise<readonly SettleFailure[]> {
    this.#frames += 1;
    const id = this.#frames;
    const nacks = order.nacks ?? [];
    const value = {
      id,
      acks: (order.acks ?? []).map(toRange),
      nacks: nacks.map((one) => Nack.fromPartial(typeof one === 'number' ? { deliveries: toRange(one) } : one)),
      extends: [...(order.extends ?? [])],
    };
    await this.#stream.send({ frame: { $case: 'settle', value } });
    await waitFor('the settle to be confirmed', () => this.#newestSettled >= id || this.failure !== undefined);
    if (this.failure) throw this.failure;
    return this.#settled.get(id) ?? [];
  }

  /** Acknowledges everything that came so far. */
  ackAll(): Promise<readonly SettleFailure[]> {
    return this.settle({ acks: [{ first: 1, last: this.received.at(-1)?.delivery ?? 1 }] });
  }

  credit(maxMessages: number, maxBytes = 0): Promise<void> {
    return this.#stream.send({ frame: { $case: 'credit', value: { maxMessages, maxBytes } } });
  }

  send(frame: SubscribeRequest['frame']): Promise<void> {
    return this.#stream.send({ frame });
  }

  /** Waits until the server ended the stream. */
  ended(): Promise<boolean> {
    return waitFor('the stream to end', () => this.hasEnded);
  }

  /** In good order. */
  async end(): Promise<void> {
    this.#stream.end();
    await this.ended();
  }

  cut(): void {
    this.#stream.cancel();
  }

  async #read(): Promise<void> {
    try {
      for await (const { frame } of this.#stream) this.#take(frame);
    } catch (error) {
      this.failure = error as MusterError;
    } finally {
      this.hasEnded = true;
    }
  }

  #take(frame: SubscribeResponse['frame']): void {
    if (frame?.$case === 'draining') this.isDraining = true;
    if (frame?.$case === 'settled') {
      this.#newestSettled = frame.value.id;
      this.#settled.set(frame.value.id, frame.value.failures);
    }
    if (frame?.$case !== 'deliveries') return;
    let index = 0;
    for (const { firstSequence, count, attempt } of frame.value.runs) {
      for (let sequence = firstSequence; sequence < firstSequence + count; sequence += 1) {
        const message = Message.fromPartial(frame.value.messages[index] ?? {});
        const delivery = frame.value.firstDelivery + index;
        this.received.push({ delivery, sequence, attempt, message, text: textOf(message) });
        index += 1;
      }
    }
  }
}

function toRange(range: number | DeliveryRange): DeliveryRange {
  return typeof range === 'number' ? { first: range, last: range } : range;
}
