/**
 * What the queue's bench asks of every system it measures: a server it starts itself, and a Node.js client that publishes and consumes. One
 * message of the application is one message of the system, everywhere; what a client or a server does with many of them at once is its own
 * affair and part of what is measured.
 */

/** Which code a client process uses. */
export type ClientName = 'muster' | 'muster-raw' | 'redis' | 'ioredis' | 'amqp' | 'nats';

/** How a client process reaches its server; crosses the border between processes. */
export interface Endpoint {
  readonly client: ClientName;
  /** `host:port`, or `unix:/path`. */
  readonly address: string;
  /** What the client needs to know besides, for example the kind of a RabbitMQ queue. */
  readonly variant: string;
  /** Directory with what proves who the client is; '' where nobody asks. */
  readonly credentials: string;
}

export interface PublisherOptions {
  readonly topic: string;
  /** One message in so many is timed: its acknowledgement has to be told at once, the others' may be told with it. */
  readonly timedEvery: number;
  /** So many more messages are acknowledged, in the order of sending: they are on disk. */
  acked(count: number): void;
  failed(error: unknown): void;
}

export interface Publisher {
  send(payload: Buffer): void;
  /** Nothing more is sent at this moment: what a client still holds back should go. */
  flush(): void;
  /** Nothing more comes for now: every acknowledgement has to be told. */
  finish(): void;
  close(): Promise<void>;
}

export interface ConsumerOptions {
  readonly topic: string;
  readonly subscription: string;
  /** It takes what is delivered and never settles it. */
  readonly stalled: boolean;
  /** Every message, in the form the application gets it. All of them are acknowledged afterwards. */
  received(payloads: readonly Uint8Array[]): void;
  failed(error: unknown): void;
}

export interface Consumer {
  close(): Promise<void>;
}

/** A connection of its own. */
export interface QueueClient {
  /** Makes a durable topic and durable subscriptions to all that is published from now on. */
  prepare(topic: string, subscriptions: readonly string[]): Promise<void>;
  publisher(options: PublisherOptions): Promise<Publisher>;
  consumer(options: ConsumerOptions): Promise<Consumer>;
  /** What its user has to order, after all is settled, to get the disk's space back. */
  reclaim(topic: string): Promise<void>;
  close(): Promise<void>;
}

/** Monotonic milliseconds that all processes of the machine share. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
