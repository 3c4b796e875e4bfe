import {
  QueueService,
  type Message,
  type SettleRequest,
  type SubscribeOpen,
  type SubscribeRequest,
} from '../../generated/muster/v1/queue.js';
import { MusterError } from '../kit/errors.js';
import { onAbort } from '../kit/tasks.js';
import { describePrincipal } from '../rpc/principal.js';
import { rawResponses } from '../rpc/raw.js';
import { untilAborted } from '../rpc/streams.js';
import type { CallContext, Duplex, Handlers } from '../rpc/types.js';
import { fromDuration, toDate } from '../wire/time.js';
import type { Broker } from './broker.js';
import { SettledNotices, StreamConsumer } from './consumer.js';
import { serializeDeliveries } from './delivery-frame.js';
import type { Delivery, Frame } from './delivery.js';
import { subscriptionToUse } from './entrance.js';
import type { Pulls, LeaseOrder, PulledRun } from './pulls.js';
import type { Credit } from './subscription/types.js';
import {
  cutReason,
  decodeMessage,
  drainingFrame,
  fromCredit,
  fromFirstCredit,
  fromSettle,
  settledFrame,
  splitMessages,
  subscribeOpenedFrame,
  toCredit,
  toSubscription,
} from './wire.js';

export const CONSUME_METHODS = {
  subscribe: { ...rawResponses(QueueService.subscribe), responseSerialize: serialized },
  pull: QueueService.pull,
  settle: QueueService.settle,
};

/** What is sent to a consumer: deliveries, or something else that is encoded. */
type Outgoing = Frame | Buffer;

function serialized(outgoing: Outgoing): Buffer {
  return Buffer.isBuffer(outgoing) ? outgoing : serializeDeliveries(outgoing.firstDelivery, outgoing.runs);
}

const CONSUMER_CHARACTERS_MAX = 128;
const PULL_MESSAGES_MAX = 1000;
const PULL_WAIT_MAX_MS = 60_000;

/** The consuming calls of the Queue service. */
export function consumeHandlers(broker: Broker, pulls: Pulls): Handlers<typeof CONSUME_METHODS> {
  return {
    subscribe: (stream, context) => subscribe(broker, stream, context),

    async pull(request, context) {
      const delivery = subscriptionToUse(broker, request, context);
      const maxMessages = Math.min(request.maxMessages || 1, PULL_MESSAGES_MAX);
      const waitMs = Math.min(fromDuration(request.wait) ?? 0, PULL_WAIT_MAX_MS);
      const name = describePrincipal(context.principal);
      const stop = new AbortController();
      const stopWaiting = (): void => {
        stop.abort();
      };
      const forget = [context.signal, context.draining].map((signal) => onAbort(signal, stopWaiting));
      try {
        const order = { name, maxMessages, waitMs, signal: stop.signal };
        const { runs, expiresMs } = await pulls.pull(delivery, order);
        return { messages: runs.flatMap((run) => pulledMessages(run, expiresMs)) };
      } finally {
        for (const each of forget) each();
      }
    },

    async settle(request, context) {
      const delivery = subscriptionToUse(broker, request, context);
      return { failures: [...(await pulls.settle(delivery, fromSettleRequest(request)))] };
    },
  };
}

interface PulledMessage {
  message: Message;
  sequence: number;
  lease: string;
  leaseExpires: Date | undefined;
  published: Date | undefined;
  attempt: number;
}

function pulledMessages({ run, leases }: PulledRun, expiresMs: number): PulledMessage[] {
  return splitMessages(run.messages).map((field, index) => ({
    message: decodeMessage(field),
    sequence: run.firstSequence + index,
    lease: leases[index] ?? '',
    leaseExpires: toDate(expiresMs),
    published: toDate(run.publishedMs),
    attempt: run.attempt,
  }));
}

function fromSettleRequest({ acks, nacks, extends: extended }: SettleRequest): readonly LeaseOrder[] {
  return [
    ...acks.map((lease): LeaseOrder => ({ lease, kind: 'ack' })),
    ...nacks.map(({ lease, delay, deadLetter, reason }): LeaseOrder => ({
      lease,
      kind: 'nack',
      delayMs: fromDuration(delay),
      deadLetter,
      reason: cutReason(reason),
    })),
    ...extended.map(({ lease, duration }): LeaseOrder => ({ lease, kind: 'extend', leaseMs: fromDuration(duration) })),
  ];
}

/** One consumer's stream. Only one that ends without a word counts as failed attempts of what it had. */
async function subscribe(
  broker: Broker,
  stream: Duplex<Outgoing, SubscribeRequest>,
  context: CallContext,
): Promise<void> {
  const frames = stream[Symbol.asyncIterator]();
  const open = await firstFrame(frames);
  if (!open) return;
  const delivery = subscriptionToUse(broker, open, context);
  const credit = fromFirstCredit(open.credit);
  await stream.send(
    subscribeOpenedFrame({ subscription: toSubscription(open.topic, delivery.record), credit: toCredit(credit) }),
  );
  const session = new ConsumerSession(delivery, stream, { name: nameOf(open, context), credit });
  const draining = (): void => {
    session.drain();
  };
  context.draining?.addEventListener('abort', draining, { once: true });
  if (context.draining?.aborted) session.drain();
  let counts = true;
  try {
    await untilAborted(Promise.race([session.run(frames), session.failed]), context.signal);
    counts = false;
  } finally {
    context.draining?.removeEventListener('abort', draining);
    session.close({ counts: counts && context.draining?.aborted !== true });
  }
}

async function firstFrame(frames: AsyncIterator<SubscribeRequest>): Promise<SubscribeOpen | undefined> {
  const first = await frames.next();
  if (first.done === true) return undefined;
  const { frame } = first.value;
  if (frame?.$case === 'open') return frame.value;
  throw new MusterError('invalid', 'the first frame of the stream must be `open`, with topic and subscription', {
    reason: 'NOT_OPENED',
  });
}

function nameOf(open: SubscribeOpen, { principal }: CallContext): string {
  return open.consumer.slice(0, CONSUMER_CHARACTERS_MAX) || describePrincipal(principal);
}

/** One consumer's stream, from its opening to its end. */
class ConsumerSession {
  /** Never resolves; rejects when the stream cannot go on. */
  readonly failed: Promise<never>;
  readonly #delivery: Delivery;
  readonly #stream: Duplex<Outgoing, SubscribeRequest>;
  readonly #notices: SettledNotices;
  readonly #id: number;
  #credit: Credit;
  #draining = false;
  #fail: (error: unknown) => void = () => undefined;

  constructor(
    delivery: Delivery,
    stream: Duplex<Outgoing, SubscribeRequest>,
    { name, credit }: { name: string; credit: Credit },
  ) {
    this.#delivery = delivery;
    this.#stream = stream;
    this.#credit = credit;
    this.failed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => undefined);
    const fail = (error: unknown): void => {
      this.#fail(error);
    };
    this.#notices = new SettledNotices((notice) => stream.send(settledFrame(notice)), fail);
    const consumer = new StreamConsumer(name, {
      send: (frame) => stream.send(frame),
      room: () => {
        delivery.resume(this.#id);
      },
      end: fail,
    });
    this.#id = delivery.attach(consumer, credit);
  }

  /** Takes frames until the consumer ends the stream, and answers what it settled. */
  async run(frames: AsyncIterator<SubscribeRequest>): Promise<void> {
    for (let next = await frames.next(); next.done !== true; next = await frames.next()) {
      this.#take(next.value);
      if (this.#notices.isFull) await this.#notices.idle();
    }
    await this.#notices.idle();
  }

  #take({ frame }: SubscribeRequest): void {
    switch (frame?.$case) {
      case 'settle': {
        const { failures, stored } = this.#delivery.settle(this.#id, fromSettle(frame.value));
        this.#notices.add({ id: frame.value.id, failures }, stored);
        return;
      }
      case 'credit':
        this.#credit = fromCredit(frame.value, this.#credit);
        if (!this.#draining) this.#delivery.setCredit(this.#id, this.#credit);
        return;
      case 'open':
        throw new MusterError('invalid', 'the stream is open already: settle deliveries, or change the credit');
      case undefined:
        throw new MusterError('invalid', 'a frame has none of `settle` and `credit`');
    }
  }

  /** Nothing more is delivered; the consumer is asked to settle what it has. */
  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#delivery.setCredit(this.#id, { maxMessages: 0, maxBytes: 0 });
    this.#stream.send(drainingFrame()).catch(this.#fail);
  }

  close(how: { readonly counts: boolean }): void {
    this.#delivery.detach(this.#id, how);
  }
}
