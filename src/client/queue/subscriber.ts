import { QueueService } from '../../../generated/muster/v1/queue.js';
import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import type { Random } from '../../kit/random.js';
import { stopped } from '../../kit/tasks.js';
import { createClient, type Channel } from '../../rpc/client.js';
import { Consumption } from './consumption.js';
import { Delivery, DeliveryBatch } from './delivery.js';
import type { HeldFrame } from './held-frame.js';
import { assertKnown } from './options.js';
import { isFinal, noticeAway, RECONNECT } from './retrying.js';
import { assertWithin, checkedSettings, toSubscription, type SubscriptionSettings } from './subscription-settings.js';

export interface SubscribeOptions {
  /** Makes the subscription with these settings when there is none yet; one that exists is used as it is. */
  readonly create?: SubscriptionSettings;
  /** Messages delivered and not yet settled. Default 1,000, at most 65,536. */
  readonly maxMessages?: number;
  /** The same in bytes; one larger message is delivered alone. Default 4 MiB, at most 64 MiB. */
  readonly maxBytes?: number;
  /** Names this consumer in what operators see. Default: who it is by its certificate. */
  readonly consumer?: string;
  /**
   * The library extends the leases of what is not settled, also of what waits to be taken, until so long after it was delivered; then it
   * may be delivered to others. Milliseconds, default 10 minutes; 0: leases are the program's own business.
   */
  readonly holdMs?: number;
  /** Told of each ack() and nack() that came to nothing, because the lease was over, for example. The message is then delivered again. */
  readonly onFailure?: (error: MusterError) => void;
}

/** What a subscriber works with. */
export interface SubscriberParts {
  readonly channel: () => Promise<Channel>;
  readonly clock: Clock;
  readonly random: Random;
}

const OPTIONS: ReadonlySet<string> = new Set<keyof SubscribeOptions>([
  'create',
  'maxMessages',
  'maxBytes',
  'consumer',
  'holdMs',
  'onFailure',
]);
const PROCESS_OPTIONS: ReadonlySet<string> = new Set<keyof ProcessOptions>(['concurrency', 'onError']);
const DEFAULT_MESSAGES = 1_000;
const DEFAULT_BYTES = 4 * 1024 * 1024;
/** The queue's own bounds. */
const MESSAGES_MAX = 65_536;
const BYTES_MAX = 64 * 1024 * 1024;
const DEFAULT_HOLD_MS = 600_000;
const DEFAULT_DRAIN_MS = 30_000;

/** Takes the next item from the frame that is the next one, saying how many of its messages that are. */
type Take<T> = (held: HeldFrame) => { readonly item: T; readonly messages: number };

/**
 * What a subscription delivers, as an async iterable that begins when it is iterated. A lost connection comes back by itself; what was
 * delivered over the old one and not settled is delivered again. Leaving the loop hands over what was settled and gives the rest back.
 * Several loops share the messages.
 * @throws while iterating: not_found (unknown topic or subscription), denied, data_loss
 */
export class Subscriber<T> implements AsyncIterable<T> {
  readonly #names: { readonly topic: string; readonly subscription: string };
  readonly #options: SubscribeOptions;
  readonly #parts: SubscriberParts;
  readonly #take: Take<T>;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #current: Consumption | undefined;
  /** Frames of the current stream that are not given whole; bounded by the credit. */
  #frames: HeldFrame[] = [];
  #waiting: (() => void)[] = [];
  /** Nothing more is given; set once. */
  #end: { readonly error?: unknown } | undefined;
  #wasOpen = false;
  /** The stream of the last attempt was open. */
  #open = false;
  #gone = (): void => undefined;
  /** Resolves when it has ended, by itself or by drain() or close(). */
  readonly closed = new Promise<void>((resolve) => {
    this.#gone = resolve;
  });

  /** Use Queue.subscribe() or Queue.subscribeBatches(). @throws invalid */
  constructor(
    names: { readonly topic: string; readonly subscription: string },
    options: SubscribeOptions,
    parts: SubscriberParts,
    take: Take<T>,
  ) {
    this.#names = names;
    this.#options = checked(options);
    this.#parts = parts;
    this.#take = take;
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return {
      next: () => this.#next(),
      return: async () => {
        await this.close();
        return { done: true, value: undefined };
      },
    };
  }

  /**
   * Ends in good order: nothing more is given, loops end, and when the program has settled what it was given, at the latest after `graceMs`,
   * the stream is ended. Resolves when what was settled is on the queue's disk; the rest is delivered to others at once.
   */
  async drain(graceMs = DEFAULT_DRAIN_MS): Promise<void> {
    const current = this.#current;
    this.#finish({});
    if (current) {
      current.pause();
      await this.#quietWithin(current, graceMs);
      await current.finish();
    }
    this.#stop.abort(stopped('the subscriber'));
    await this.#running;
    this.#gone();
  }

  /** drain() without waiting for what is not settled. */
  close(): Promise<void> {
    return this.drain(0);
  }

  async #quietWithin(current: Consumption, graceMs: number): Promise<void> {
    if (graceMs === 0) return;
    const over = new AbortController();
    const late = sleep(this.#parts.clock, graceMs, over.signal).catch(() => undefined);
    await Promise.race([current.quiet(), late]);
    over.abort();
  }

  async #next(): Promise<IteratorResult<T>> {
    this.#running ??= this.#run();
    for (;;) {
      const [held] = this.#frames;
      if (held) return { done: false, value: this.#give(held) };
      if (this.#end) {
        if ('error' in this.#end) throw this.#end.error;
        return { done: true, value: undefined };
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #give(held: HeldFrame): T {
    const { item, messages } = this.#take(held);
    held.given += messages;
    if (held.given >= held.frame.count) this.#frames.shift();
    this.#current?.give(messages);
    return item;
  }

  /** One stream after another, until the end. Never rejects. */
  async #run(): Promise<void> {
    const { clock, random } = this.#parts;
    const backoff = new Backoff(RECONNECT, random);
    while (!this.#isOver()) {
      try {
        await this.#consume(backoff);
      } catch (error) {
        const failure = this.#mayCreate(error) ? await this.#create() : { error };
        if (!failure) continue;
        this.#failed(failure.error);
      }
      if (!this.#isOver()) await sleep(clock, backoff.next(), this.#stop.signal).catch(() => undefined);
    }
    this.#gone();
  }

  async #consume(backoff: Backoff): Promise<void> {
    const { topic, subscription } = this.#names;
    const { maxMessages = DEFAULT_MESSAGES, maxBytes = DEFAULT_BYTES, consumer = '', holdMs } = this.#options;
    this.#open = false;
    const channel = await this.#parts.channel();
    if (this.#isOver()) return;
    const consumption = new Consumption(channel, {
      topic,
      subscription,
      consumer,
      credit: { maxMessages, maxBytes },
      holdMs: holdMs ?? DEFAULT_HOLD_MS,
      clock: this.#parts.clock,
      onOpen: () => {
        this.#wasOpen = true;
        this.#open = true;
        backoff.reset();
      },
      onFrame: (held) => {
        this.#received(held);
      },
      onDraining: () => {
        this.#frames = [];
        void consumption.quiet().then(() => consumption.finish());
      },
      onFailure: this.#options.onFailure ?? (() => undefined),
    });
    this.#current = consumption;
    try {
      await consumption.run();
    } finally {
      this.#current = undefined;
      this.#frames = [];
    }
  }

  #received(held: HeldFrame): void {
    if (this.#end) return;
    this.#frames.push(held);
    this.#wake();
  }

  /** A subscription that was there and is gone is not made anew: messages may have been missed, which the program has to hear. */
  #mayCreate(error: unknown): boolean {
    return (
      this.#options.create !== undefined &&
      !this.#wasOpen &&
      isCode(error, 'not_found') &&
      // A queue that makes topics on first use makes the topic, too.
      (error.reason === 'UNKNOWN_SUBSCRIPTION' || error.reason === 'UNKNOWN_TOPIC')
    );
  }

  /** Makes the subscription; answers with why it could not. */
  async #create(): Promise<{ readonly error: unknown } | undefined> {
    const { topic, subscription } = this.#names;
    try {
      const client = createClient(QueueService, await this.#parts.channel());
      await client.createSubscription({
        subscription: toSubscription(topic, subscription, this.#options.create ?? {}),
      });
    } catch (error) {
      // Somebody else may have just made it.
      return isCode(error, 'exists') ? undefined : { error };
    }
    return undefined;
  }

  /** Failures that may pass are tried again. */
  #failed(error: unknown): void {
    if (isFinal(error)) this.#finish({ error });
    else if (!this.#open && !this.#isOver()) noticeAway(error);
  }

  #isOver(): boolean {
    return this.#end !== undefined;
  }

  #finish(end: { readonly error?: unknown }): void {
    this.#end ??= end;
    this.#frames = [];
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

function checked(options: SubscribeOptions): SubscribeOptions {
  assertKnown('a subscriber', options, OPTIONS);
  const { maxMessages, maxBytes, holdMs, create } = options;
  assertWithin('maxMessages', maxMessages, 1, MESSAGES_MAX);
  assertWithin('maxBytes', maxBytes, 1, BYTES_MAX);
  assertWithin('holdMs', holdMs, 0, Infinity);
  return create === undefined ? options : { ...options, create: checkedSettings(create) };
}

export interface ProcessOptions {
  /** Handlers that run at once. Default 1: in order. */
  readonly concurrency?: number;
  /** Told of what a handler threw. The message is given back, to be delivered again. */
  readonly onError?: (error: unknown, message: Delivery) => void;
}

/** What a subscription delivers, message by message. */
export class MessageSubscriber extends Subscriber<Delivery> {
  /** Use Queue.subscribe(). */
  constructor(
    names: { readonly topic: string; readonly subscription: string },
    options: SubscribeOptions,
    parts: SubscriberParts,
  ) {
    super(names, options, parts, (held) => ({ item: new Delivery(held, held.given), messages: 1 }));
  }

  /**
   * Runs `handler` for each message: when it returns the message is acknowledged, when it throws it is given back with the error's message
   * as its reason, unless the handler has settled it itself. Resolves after drain() or close(), when the last handler has ended.
   * @throws what iterating throws
   */
  async process(handler: (message: Delivery) => unknown, options: ProcessOptions = {}): Promise<void> {
    const { concurrency = 1, onError } = options;
    assertKnown('process', options, PROCESS_OPTIONS);
    assertWithin('concurrency', concurrency, 1, MESSAGES_MAX);
    if (typeof handler !== 'function')
      throw new MusterError('invalid', 'process needs a function that takes a message');
    const work = async (): Promise<void> => {
      for await (const message of this) {
        try {
          await handler(message);
          message.ack();
        } catch (error) {
          message.nack({ reason: messageOf(error) });
          onError?.(error, message);
        }
      }
    };
    await Promise.all(Array.from({ length: concurrency }, work));
  }
}

/** What a subscription delivers, as the frames it comes in. */
export class BatchSubscriber extends Subscriber<DeliveryBatch> {
  /** Use Queue.subscribeBatches(). */
  constructor(
    names: { readonly topic: string; readonly subscription: string },
    options: SubscribeOptions,
    parts: SubscriberParts,
  ) {
    super(names, options, parts, (held) => ({ item: new DeliveryBatch(held), messages: held.frame.count }));
  }
}
