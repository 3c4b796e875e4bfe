import type { ClientName, Endpoint, QueueClient } from './port.js';

type Make = (endpoint: Endpoint) => QueueClient;

/** A client process loads only the client it is. */
const CLIENTS: Readonly<Record<ClientName, () => Promise<Make>>> = {
  'muster-raw': async () => {
    const { MusterRawClient } = await import('./muster-raw-client.js');
    return (endpoint) => new MusterRawClient(endpoint);
  },
  redis: async () => {
    const { RedisClient } = await import('./redis-client.js');
    return (endpoint) => new RedisClient(endpoint);
  },
  ioredis: async () => {
    const { IoredisClient } = await import('./ioredis-client.js');
    return (endpoint) => new IoredisClient(endpoint);
  },
  amqp: async () => {
    const { RabbitClient } = await import('./rabbit-client.js');
    return (endpoint) => new RabbitClient(endpoint);
  },
  nats: async () => {
    const { NatsClient } = await import('./nats-client.js');
    return (endpoint) => new NatsClient(endpoint);
  },
  muster: async () => {
    const { MusterClient } = await import('./muster-client.js');
    return (endpoint) => new MusterClient(endpoint);
  },
};

/** Loads the code of a client, so that it takes no time later. */
export async function loadClient(name: ClientName): Promise<void> {
  await CLIENTS[name]();
}

export async function connectClient(endpoint: Endpoint): Promise<QueueClient> {
  return (await CLIENTS[endpoint.client]())(endpoint);
}
