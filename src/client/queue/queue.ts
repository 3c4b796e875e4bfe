import { backgroundClock, systemClock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { systemRandom } from '../../kit/random.js';
import type { IdentitySource } from '../../rpc/identity.js';
import { agentAddress, queueAddress } from '../agent-address.js';
import { QueueConnection, type Use } from './connection.js';
import type { Content } from './message.js';
import { Publisher, type PublisherOptions } from './publisher.js';
import type { Receipt } from './receipts.js';
import { BatchSubscriber, MessageSubscriber, type SubscribeOptions } from './subscriber.js';

export interface QueueOptions {
  /** `unix:/path` or `host:port`. Default: MUSTER_QUEUE; else the machine's agent (MUSTER_AGENT) says where the queue is. */
  readonly address?: string;
  /** Name of the queue, where the site has several. */
  readonly queue?: string;
  /** Proves who this program is on the network. Default: the machine's agent gives the service its certificate, and renews it. */
  readonly identity?: IdentitySource;
  /**
   * How long the queue may be out of reach before what publish() was given fails, milliseconds; close() waits no longer either. Default 60 s.
   * Publishers have their own.
   */
  readonly giveUpAfterMs?: number;
}

/** What became of messages published together. */
export interface Published {
  /** Places of the messages in the topic, in the order given. Undefined for those delayed; see Receipt. */
  readonly sequences: readonly (number | undefined)[];
  /** Messages that were stored before, by their dedupe id. */
  readonly duplicates: number;
}

/** Messages of one publish() handed over before their answers are waited for. */
const TOGETHER = 10_000;
/** Publishers of publish() kept open, one a topic. Beyond it the one unused longest is closed when it has handed over everything. */
const PUBLISHERS_MAX = 64;

/**
 * Connects to the site's queue. Without an address it needs an agent, or MUSTER_QUEUE. Nothing is sent until something is published or
 * iterated; an unreachable queue is waited for there.
 * @throws precondition, reason NO_AGENT, where nothing says which queue; invalid for what is no address
 */
export function connectQueue(options: QueueOptions = {}): Queue {
  return new Queue(options, process.env);
}

/** The connection of a program to a queue. Holds the process alive while it publishes or subscribes, until close(). */
export class Queue {
  readonly #connection: QueueConnection;
  /** Of the publishers of publish(). */
  readonly #options: PublisherOptions;
  /** Of publish(), the one used last at the end. */
  readonly #publishers = new Map<string, Publisher>();
  /** Everything that is to be closed. */
  readonly #open = new Set<{ close(): Promise<void> }>();
  #closed: Promise<void> | undefined;

  /** Use connectQueue() or Muster.queue(). @throws precondition */
  constructor(options: QueueOptions, environment: Readonly<Record<string, string | undefined>>) {
    const address = options.address ?? queueAddress(environment);
    const agent = agentAddress(environment);
    if (agent === undefined && !isEnough(address, options.identity)) throw noWay(address);
    this.#options = options.giveUpAfterMs === undefined ? {} : { giveUpAfterMs: options.giveUpAfterMs };
    this.#connection = new QueueConnection({
      address,
      queue: options.queue,
      identity: options.identity,
      agent,
      clock: systemClock,
      background: backgroundClock,
      random: systemRandom,
    });
  }

  /**
   * Publishes one message or several, in order, in batches with what else is published to the topic at the moment. Resolves when all are on
   * the queue's disk. Several messages are not one transaction: when this fails, some may be stored.
   * @throws as Publisher.send()
   */
  async publish(topic: string, content: Content | readonly Content[]): Promise<Published> {
    const contents = isMany(content) ? content : [content];
    const publisher = this.#publisherOf(topic);
    const receipts: Receipt[] = [];
    for (let from = 0; from < contents.length; from += TOGETHER) {
      const some = contents.slice(from, from + TOGETHER);
      receipts.push(...(await Promise.all(some.map((one) => publisher.send(one)))));
    }
    return {
      sequences: receipts.map(({ sequence }) => sequence),
      duplicates: receipts.filter(({ duplicate }) => duplicate).length,
    };
  }

  /** A publisher of one topic with a stream of its own, for volume and for its options. Close it when done. @throws invalid */
  publisher(topic: string, options: PublisherOptions = {}): Publisher {
    this.#assertOpen();
    assertName('topic', topic);
    return this.#kept(new Publisher(topic, options, this.#parts('publish')));
  }

  /**
   * The messages of a subscription, one by one: `for await (const message of queue.subscribe(...)) { ...; message.ack(); }`
   * @throws invalid for options that are out of bounds
   */
  subscribe(topic: string, subscription: string, options: SubscribeOptions = {}): MessageSubscriber {
    this.#assertOpen();
    assertName('topic', topic);
    assertName('subscription', subscription);
    return this.#kept(new MessageSubscriber({ topic, subscription }, options, this.#parts('consume')));
  }

  /** The messages of a subscription in the frames they come in, for volume. @throws invalid */
  subscribeBatches(topic: string, subscription: string, options: SubscribeOptions = {}): BatchSubscriber {
    this.#assertOpen();
    assertName('topic', topic);
    assertName('subscription', subscription);
    return this.#kept(new BatchSubscriber({ topic, subscription }, options, this.#parts('consume')));
  }

  /**
   * Publishes what was given, hands over what was settled, gives back the rest, and ends the connection. May be called twice. To let
   * handlers finish first, drain() their subscribers before.
   * @throws what became of messages given to add() that were not stored
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const ends = await Promise.allSettled([...this.#open].map((one) => one.close()));
    this.#connection.close();
    const failure = ends.find((end) => end.status === 'rejected');
    if (failure) throw failure.reason as unknown;
  }

  #publisherOf(topic: string): Publisher {
    const publisher = this.#publishers.get(topic) ?? this.publisher(topic, this.#options);
    this.#publishers.delete(topic);
    this.#publishers.set(topic, publisher);
    const [oldest] = this.#publishers;
    if (oldest && this.#publishers.size > PUBLISHERS_MAX) {
      this.#publishers.delete(oldest[0]);
      // Everybody who waits for a message of it is told by that message's own promise.
      oldest[1].close().catch(() => undefined);
    }
    return publisher;
  }

  #parts(use: Use): ConstructorParameters<typeof Publisher>[2] {
    return { channel: () => this.#connection.channel(use), clock: systemClock, random: systemRandom };
  }

  #kept<T extends { close(): Promise<void>; readonly closed: Promise<void> }>(one: T): T {
    this.#open.add(one);
    void one.closed.then(() => this.#open.delete(one));
    return one;
  }

  #assertOpen(): void {
    if (!this.#closed) return;
    throw new MusterError('precondition', 'this connection to the queue is closed: make another with connectQueue()', {
      reason: 'CLOSED',
    });
  }
}

/** Whether there is such a topic or subscription the queue says; what is no name at all could not even be sent. */
function assertName(field: string, name: unknown): void {
  if (typeof name === 'string' && name !== '') return;
  throw new MusterError(
    'invalid',
    `the name of the ${field} is ${name === '' ? 'empty' : String(name)}: give its name`,
    {
      fields: [{ field, description: 'must be a name' }],
    },
  );
}

function isMany(content: Content | readonly Content[]): content is readonly Content[] {
  return Array.isArray(content);
}

function isEnough(address: string | undefined, identity: IdentitySource | undefined): boolean {
  return address !== undefined && (address.startsWith('unix:') || identity !== undefined);
}

function noWay(address: string | undefined): MusterError {
  if (address !== undefined && !/:\d+$/.test(address)) {
    return new MusterError(
      'invalid',
      `"${address}" is no address of a queue: write unix:/path of its socket, or host:port`,
    );
  }
  const what =
    address === undefined
      ? 'nothing says where the queue is: run this as a service of an agent (MUSTER_AGENT), or name the socket of a queue on this machine, for example MUSTER_QUEUE=unix:/var/lib/muster/queue/queue.sock'
      : `${address} is on the network, and there is no agent (MUSTER_AGENT) to give this program a certificate: run it as a service of an agent, or use the socket of a queue on this machine`;
  return new MusterError('precondition', what, { reason: 'NO_AGENT' });
}
