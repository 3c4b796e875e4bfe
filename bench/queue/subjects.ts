import { muster, musterOverTls } from './muster-system.js';
import { nats } from './nats-system.js';
import type { ClientName } from './port.js';
import { rabbit } from './rabbit-system.js';
import { redis } from './redis-system.js';
import type { SystemKind } from './system.js';

export type ScenarioName = 'publish' | 'fanout' | 'latency' | 'backlog' | 'idle' | 'stalled';

/** One row of the tables: a system, used in one way. */
export interface Subject {
  readonly name: string;
  readonly system: SystemKind;
  readonly client: ClientName;
  readonly variant: string;
  /** Peers are what Muster is compared with; the rest is shown to be understood. */
  readonly role: 'muster' | 'peer' | 'shown';
  /** Messages in flight that give it its best rate without needless waiting; more gained nothing. */
  readonly inFlight: number;
  readonly scenarios: readonly ScenarioName[];
}

const EVERYWHERE = ['publish', 'fanout', 'latency', 'backlog'] as const;

export const SUBJECTS: readonly Subject[] = [
  {
    name: 'Muster',
    system: muster,
    client: 'muster',
    variant: '',
    role: 'muster',
    inFlight: 8192,
    scenarios: [...EVERYWHERE, 'idle', 'stalled'],
  },
  {
    name: 'Muster, mutual TLS over loopback',
    system: musterOverTls,
    client: 'muster',
    variant: '',
    role: 'shown',
    inFlight: 8192,
    scenarios: ['publish', 'latency'],
  },
  {
    name: 'Muster, raw client',
    system: muster,
    client: 'muster-raw',
    variant: '',
    role: 'shown',
    inFlight: 8192,
    scenarios: ['publish', 'fanout'],
  },
  {
    name: 'Redis Streams',
    system: redis,
    client: 'redis',
    variant: '',
    role: 'peer',
    inFlight: 2000,
    scenarios: EVERYWHERE,
  },
  {
    name: 'Redis Streams, 8 connections',
    system: redis,
    client: 'redis',
    variant: '8',
    role: 'peer',
    inFlight: 4000,
    scenarios: ['publish', 'fanout'],
  },
  {
    name: 'Redis Streams, ioredis',
    system: redis,
    client: 'ioredis',
    variant: '',
    role: 'shown',
    inFlight: 2000,
    scenarios: ['publish'],
  },
  {
    name: 'RabbitMQ, quorum queues',
    system: rabbit,
    client: 'amqp',
    variant: 'quorum',
    role: 'peer',
    inFlight: 2000,
    scenarios: EVERYWHERE,
  },
  {
    name: 'RabbitMQ, classic queues',
    system: rabbit,
    client: 'amqp',
    variant: 'classic',
    role: 'peer',
    inFlight: 2000,
    // Filling and emptying a million takes it minutes.
    scenarios: ['publish', 'fanout', 'latency'],
  },
  {
    name: 'NATS JetStream',
    system: nats,
    client: 'nats',
    variant: '',
    role: 'peer',
    inFlight: 500,
    // Filling a million, synced one by one, takes it minutes.
    scenarios: ['publish', 'fanout', 'latency'],
  },
];
