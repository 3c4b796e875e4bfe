import type { Endpoint, QueueClient } from './port.js';

/** A client process loads only the client it is. */
export async function connectClient(endpoint: Endpoint): Promise<QueueClient> {
  switch (endpoint.client) {
    case 'muster-raw':
      return new (await import('./muster-raw-client.js')).MusterRawClient(endpoint);
    case 'redis':
      return new (await import('./redis-client.js')).RedisClient(endpoint);
    case 'ioredis':
      return new (await import('./ioredis-client.js')).IoredisClient(endpoint);
    case 'amqp':
      return new (await import('./rabbit-client.js')).RabbitClient(endpoint);
    case 'nats':
      return new (await import('./nats-client.js')).NatsClient(endpoint);
    case 'muster':
      return new (await import('./muster-client.js')).MusterClient(endpoint);
  }
}
