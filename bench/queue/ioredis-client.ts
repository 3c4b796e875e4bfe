import { Redis } from 'ioredis';
import type { Consumer, ConsumerOptions, Endpoint, Publisher, PublisherOptions, QueueClient } from './port.js';
import { RedisClient } from './redis-client.js';

/** Redis Streams as most Node.js services publish to them: ioredis, with its automatic pipelining. Everything else is as in RedisClient. */
export class IoredisClient implements QueueClient {
  readonly #endpoint: Endpoint;
  readonly #plain: RedisClient;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
    this.#plain = new RedisClient(endpoint);
  }

  prepare(topic: string, subscriptions: readonly string[]): Promise<void> {
    return this.#plain.prepare(topic, subscriptions);
  }

  async publisher(options: PublisherOptions): Promise<Publisher> {
    const { topic } = options;
    const redis = new Redis({
      path: this.#endpoint.address.slice('unix:'.length),
      lazyConnect: true,
      enableAutoPipelining: true,
      retryStrategy: () => null,
    });
    redis.on('error', (error) => {
      options.failed(error);
    });
    await redis.connect();
    const settled = (error: unknown): void => {
      if (error) options.failed(error);
      else options.acked(1);
    };
    return {
      send: (payload) => {
        void redis.xadd(topic, '*', 'd', payload, settled);
      },
      flush: () => undefined,
      finish: () => undefined,
      close: () => {
        redis.disconnect();
        return Promise.resolve();
      },
    };
  }

  consumer(options: ConsumerOptions): Promise<Consumer> {
    return this.#plain.consumer(options);
  }

  reclaim(topic: string): Promise<void> {
    return this.#plain.reclaim(topic);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
