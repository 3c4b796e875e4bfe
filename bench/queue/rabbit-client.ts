import { connect, type ChannelModel, type ConsumeMessage } from 'amqplib';
import type { Consumer, ConsumerOptions, Endpoint, Publisher, PublisherOptions, QueueClient } from './port.js';

/**
 * RabbitMQ: persistent messages with publisher confirms to a durable fanout exchange, one durable queue a subscription. Acknowledged together,
 * once a turn of the event loop.
 */

/** Unacknowledged messages a consumer may hold. */
const PREFETCH = 2000;

export class RabbitClient implements QueueClient {
  readonly #url: string;
  /** `classic` or `quorum`. */
  readonly #kind: string;
  #connection: ChannelModel | undefined;

  constructor(endpoint: Endpoint) {
    this.#url = `amqp://guest:guest@${endpoint.address}`;
    this.#kind = endpoint.variant;
  }

  async #connected(): Promise<ChannelModel> {
    this.#connection ??= await connect(this.#url, { noDelay: true });
    return this.#connection;
  }

  async prepare(topic: string, subscriptions: readonly string[]): Promise<void> {
    const channel = await (await this.#connected()).createChannel();
    await channel.assertExchange(topic, 'fanout', { durable: true });
    for (const subscription of subscriptions) {
      const queue = `${topic}.${subscription}`;
      await channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': this.#kind } });
      await channel.bindQueue(queue, topic, '');
    }
    await channel.close();
  }

  async publisher(options: PublisherOptions): Promise<Publisher> {
    const { topic } = options;
    const connection = await this.#connected();
    const channel = await connection.createConfirmChannel();
    connection.on('error', (error: unknown) => {
      options.failed(error);
    });
    channel.on('error', (error) => {
      options.failed(error);
    });
    const confirmed = (error: unknown): void => {
      if (error) options.failed(error);
      else options.acked(1);
    };
    const persistent = { persistent: true };
    return {
      send: (payload) => {
        channel.publish(topic, '', payload, persistent, confirmed);
      },
      flush: () => undefined,
      finish: () => undefined,
      close: () => channel.close(),
    };
  }

  async consumer(options: ConsumerOptions): Promise<Consumer> {
    const connection = await this.#connected();
    const channel = await connection.createChannel();
    connection.on('error', (error: unknown) => {
      options.failed(error);
    });
    channel.on('error', (error) => {
      options.failed(error);
    });
    await channel.prefetch(PREFETCH);
    let newest: ConsumeMessage | undefined;
    const acknowledge = (): void => {
      if (newest) channel.ack(newest, true);
      newest = undefined;
    };
    await channel.consume(`${options.topic}.${options.subscription}`, (message) => {
      if (!message) return;
      options.received([message.content]);
      if (options.stalled) return;
      if (!newest) setImmediate(acknowledge);
      newest = message;
    });
    return { close: () => channel.close() };
  }

  /** Settled messages leave by themselves. */
  reclaim(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#connection?.close();
  }
}
