import { AckPolicy, jetstream, jetstreamManager, type JsMsg, RetentionPolicy, StorageType } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import type { Consumer, ConsumerOptions, Endpoint, Publisher, PublisherOptions, QueueClient } from './port.js';

/**
 * NATS JetStream: a topic is a stream on the file store that keeps messages until all consumers have acknowledged them, a subscription a
 * durable pull consumer, acknowledged together once a turn of the event loop. That the file store syncs is its server's configuration.
 */

/** Messages a consumer may hold. */
const PENDING = 20_000;
const FETCH = 2000;
const ACK_WAIT_NANOSECONDS = 600e9;

export class NatsClient implements QueueClient {
  readonly #address: string;
  #connection: NatsConnection | undefined;

  constructor(endpoint: Endpoint) {
    this.#address = endpoint.address;
  }

  async #connected(): Promise<NatsConnection> {
    this.#connection ??= await connect({ servers: this.#address, reconnect: false });
    return this.#connection;
  }

  async prepare(topic: string, subscriptions: readonly string[]): Promise<void> {
    const manager = await jetstreamManager(await this.#connected());
    await manager.streams.add({
      name: topic,
      subjects: [topic],
      storage: StorageType.File,
      retention: RetentionPolicy.Interest,
    });
    for (const subscription of subscriptions) {
      await manager.consumers.add(topic, {
        durable_name: subscription,
        ack_policy: AckPolicy.All,
        ack_wait: ACK_WAIT_NANOSECONDS,
        max_ack_pending: PENDING,
      });
    }
  }

  async publisher(options: PublisherOptions): Promise<Publisher> {
    const { topic } = options;
    const connection = await this.#connected();
    const stream = jetstream(connection, { timeout: 60_000 });
    const stored = (): void => {
      options.acked(1);
    };
    const failed = (error: unknown): void => {
      options.failed(error);
    };
    return {
      send: (payload) => {
        stream.publish(topic, payload).then(stored, failed);
      },
      flush: () => undefined,
      finish: () => undefined,
      close: () => Promise.resolve(),
    };
  }

  async consumer(options: ConsumerOptions): Promise<Consumer> {
    const connection = await this.#connected();
    const consumer = await jetstream(connection).consumers.get(options.topic, options.subscription);
    let newest: JsMsg | undefined;
    const acknowledge = (): void => {
      newest?.ack();
      newest = undefined;
    };
    const messages = await consumer.consume({
      max_messages: FETCH,
      callback: (message) => {
        options.received([message.data]);
        if (options.stalled) return;
        if (!newest) setImmediate(acknowledge);
        newest = message;
      },
    });
    return {
      close: async () => {
        await messages.close();
      },
    };
  }

  /** Settled messages leave by themselves. */
  reclaim(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#connection?.close();
  }
}
