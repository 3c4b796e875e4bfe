import type { TestContext } from 'node:test';
import { join } from 'node:path';
import {
  type Message,
  QueueService,
  type PublishAck,
  type PublishBatch,
  type PublishStreamRequest,
  type PublishStreamResponse,
  type Refusal,
  type SubscribeRequest,
  type SubscribeResponse,
} from '../../generated/muster/v1/queue.js';
import { MusterError } from '../../src/kit/errors.js';
import { silentLogger } from '../../src/kit/logger.js';
import { implement, RpcServer } from '../../src/rpc/server.js';
import type { CallContext, Duplex, Handlers } from '../../src/rpc/types.js';
import { temporaryDirectory } from './rpc.js';

/** A queue that keeps the contract of PublishStream for one topic, in memory, and does what a test says on the way. Not a queue. */

type PublishStream = Duplex<PublishStreamResponse, PublishStreamRequest>;
type SubscribeStream = Duplex<SubscribeResponse, SubscribeRequest>;
export type QueueHandlers = Handlers<typeof QueueService>;

export interface FakeQueue {
  readonly address: string;
  /** What is stored, in order; sequence 1 comes first. */
  readonly stored: Message[];
  /** Sizes of the batches as they came, refused ones too. */
  readonly batches: number[];
  readonly opens: number;
  /** Asked of each batch that would be stored. */
  refuse: (batch: PublishBatch) => Refusal | undefined;
  /** Called before a batch is stored, and before it is answered: both may wait, or throw to lose the connection. */
  beforeStore: (batch: PublishBatch) => Promise<void>;
  beforeAnswer: (batch: PublishBatch) => Promise<void>;
  /** Stops listening and cuts every connection. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

/** The failure that looks like a lost connection to a client. */
export function lostConnection(): MusterError {
  return new MusterError('unavailable', 'the connection was lost');
}

export function refusal(reason: string, retryAfterMs?: number): Refusal {
  const retryAfter = retryAfterMs === undefined ? undefined : { seconds: 0, nanos: retryAfterMs * 1_000_000 };
  return { code: 8, reason, message: `refused: ${reason}`, retryAfter };
}

/** Handlers of the whole contract that refuse, with those given in their place. */
export function queueHandlers(given: Partial<QueueHandlers>): QueueHandlers {
  const refuse = (): never => {
    throw new MusterError('unimplemented', 'the fake queue does not do that');
  };
  const all = Object.fromEntries(Object.keys(QueueService).map((name) => [name, refuse]));
  return { ...all, ...given } as QueueHandlers;
}

class Fake implements FakeQueue {
  readonly stored: Message[] = [];
  readonly batches: number[] = [];
  opens = 0;
  refuse: FakeQueue['refuse'] = () => undefined;
  beforeStore: FakeQueue['beforeStore'] = () => Promise.resolve();
  beforeAnswer: FakeQueue['beforeAnswer'] = () => Promise.resolve();
  readonly #path: string;
  readonly #subscribe: ((stream: SubscribeStream, context: CallContext) => Promise<void>) | undefined;
  readonly #acks = new Map<string, PublishAck[]>();
  #server: RpcServer | undefined;

  constructor(path: string, subscribe: ((stream: SubscribeStream, context: CallContext) => Promise<void>) | undefined) {
    this.#path = path;
    this.#subscribe = subscribe;
  }

  get address(): string {
    return `unix:${this.#path}`;
  }

  async start(): Promise<void> {
    const publishStream = (stream: PublishStream): Promise<void> => this.#publishStream(stream);
    const subscribe = this.#subscribe;
    const server = new RpcServer({
      services: [implement(QueueService, queueHandlers({ publishStream, ...(subscribe ? { subscribe } : {}) }))],
      authorize: () => undefined,
      logger: silentLogger,
    });
    await server.listen({ kind: 'unix', path: this.#path, principal: { kind: 'operator', name: 'tester' } });
    this.#server = server;
  }

  async stop(): Promise<void> {
    await this.#server?.drain(0);
    this.#server = undefined;
  }

  async #publishStream(stream: PublishStream): Promise<void> {
    this.opens += 1;
    let acks: PublishAck[] = [];
    for await (const { frame } of stream) {
      if (frame?.$case === 'open') {
        if (frame.value.topic === 'unknown') {
          throw new MusterError('not_found', 'there is no topic "unknown"', { reason: 'UNKNOWN_TOPIC' });
        }
        acks = this.#acks.get(frame.value.producer) ?? [];
        this.#acks.set(frame.value.producer, acks);
        await stream.send({ frame: { $case: 'opened', value: { lastBatch: acks.at(-1)?.batch ?? 0 } } });
      } else if (frame) {
        const ack = await this.#batch(frame.value, acks);
        await this.beforeAnswer(frame.value);
        await stream.send({ frame: { $case: 'acks', value: { acks: [ack] } } });
      }
    }
  }

  async #batch(batch: PublishBatch, acks: PublishAck[]): Promise<PublishAck> {
    const none = { firstSequence: 0, count: 0, duplicates: [], delayed: 0, repeatedBatch: false, refusal: undefined };
    const before = acks.find((ack) => ack.batch === batch.batch);
    if (before) return { ...before, repeatedBatch: true };
    this.batches.push(batch.messages.length);
    await this.beforeStore(batch);
    const expected = (acks.at(-1)?.batch ?? 0) + 1;
    const gap = { code: 9, reason: 'BATCH_GAP', message: 'out of order', retryAfter: undefined };
    const refused = batch.batch > expected ? gap : this.refuse(batch);
    if (refused) return { ...none, batch: batch.batch, refusal: refused };
    const ack = { ...none, ...this.#store(batch.messages), batch: batch.batch };
    acks.push(ack);
    return ack;
  }

  #store(messages: readonly Message[]): Pick<PublishAck, 'firstSequence' | 'count' | 'duplicates' | 'delayed'> {
    const firstSequence = this.stored.length + 1;
    const duplicates: PublishAck['duplicates'] = [];
    let delayed = 0;
    for (const [index, message] of messages.entries()) {
      const same = this.stored.findIndex(({ dedupeId }) => dedupeId !== '' && dedupeId === message.dedupeId);
      if (same >= 0) duplicates.push({ index, sequence: same + 1 });
      else if (message.deliverAfter !== undefined) delayed += 1;
      else this.stored.push(message);
    }
    const count = this.stored.length + 1 - firstSequence;
    return { firstSequence: count === 0 ? 0 : firstSequence, count, duplicates, delayed };
  }
}

/** A fake queue on a unix socket, stopped after the test. */
export async function startFakeQueue(
  t: TestContext,
  subscribe?: (stream: SubscribeStream, context: CallContext) => Promise<void>,
): Promise<FakeQueue> {
  const fake = new Fake(join(await temporaryDirectory(t), 'queue.sock'), subscribe);
  await fake.start();
  t.after(() => fake.stop());
  return fake;
}
