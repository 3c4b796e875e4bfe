import { randomBytes } from 'node:crypto';
import type { PublishAck } from '../../../generated/muster/v1/queue.js';
import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock, type Timer } from '../../kit/clock.js';
import { messageOf, MusterError } from '../../kit/errors.js';
import type { Random } from '../../kit/random.js';
import type { Channel } from '../../rpc/client.js';
import {
  asMessage,
  BATCH_BYTES_MAX,
  BATCH_MESSAGES_MAX,
  encodedBytes,
  settledCopy,
  type Content,
  type OutgoingMessage,
} from './message.js';
import { assertKnown } from './options.js';
import { Pipeline, type Waiting } from './pipeline.js';
import { runPublishStream, type PublishLink } from './publish-stream.js';
import type { Receipt } from './receipts.js';
import { isFinal, isFull, noticeAway, RECONNECT } from './retrying.js';
import { Turns } from './turns.js';

export interface PublisherOptions {
  /**
   * How long a batch that is not full waits for more, milliseconds. Default 0: it is sent as soon as the queue has answered most of what
   * was sent before, at once when nothing is on its way; while batches are on their way the next one fills.
   */
  readonly lingerMs?: number;
  /** Encoded bytes after which a batch is full. Default 256 KiB, at most 1 MiB. */
  readonly batchBytesMax?: number;
  /** Messages after which a batch is full. Default 1,000, at most 10,000. */
  readonly batchMessagesMax?: number;
  /** Messages taken and not answered. At the bound add() and send() wait. Default 16,384. */
  readonly inFlightMessagesMax?: number;
  /** The same in encoded bytes; one larger message is taken alone. Default 8 MiB. */
  readonly inFlightBytesMax?: number;
  /** What happens when the topic, or the queue's disk, is full: the messages fail (the default), or are sent again until there is room. */
  readonly onFull?: 'fail' | 'wait';
  /** How long the queue may be out of reach before everything held fails, milliseconds. Default 60 s; Infinity: for ever. */
  readonly giveUpAfterMs?: number;
}

/** What a publisher works with. */
export interface PublisherParts {
  readonly channel: () => Promise<Channel>;
  readonly clock: Clock;
  readonly random: Random;
}

/** One who waits for room, with the message. */
interface Turn {
  readonly message: OutgoingMessage;
  readonly encoded: number;
  readonly waiter: Waiting | undefined;
  readonly taken: () => void;
  readonly refused: (error: MusterError) => void;
}

type State =
  /** No stream, and none wanted. */
  | { readonly at: 'idle' }
  /** There is something to send, and a stream for it is made, now or after a pause. */
  | { readonly at: 'connecting' }
  | { readonly at: 'open'; readonly link: PublishLink }
  /** The queue has refused something, and is given time before it gets it again. */
  | { readonly at: 'pausing'; readonly link: PublishLink; readonly timer: Timer };

/** With so many batches on their way, one that is not full waits for answers. More would cost a frame per message under load. */
const PARTIAL_IN_FLIGHT_MAX = 2;
/** But no longer than this: where answers are slow a message would wait for them before it is on its way, and then for its own. */
const PARTIAL_WAIT_MS = 1;
/** Calls of add() and send() that wait for room. More are refused. */
const WAITING_MAX = 100_000;
/** How long the queue may take to end the stream after close() has everything answered. */
const END_GRACE_MS = 2_000;

const DEFAULTS = {
  lingerMs: 0,
  batchBytesMax: 256 * 1024,
  batchMessagesMax: 1_000,
  inFlightMessagesMax: 16_384,
  inFlightBytesMax: 8 * 1024 * 1024,
  onFull: 'fail',
  giveUpAfterMs: 60_000,
} as const satisfies Required<PublisherOptions>;
const ON_FULL: ReadonlySet<unknown> = new Set<PublisherOptions['onFull']>(['fail', 'wait']);
const OPTIONS: ReadonlySet<string> = new Set(Object.keys(DEFAULTS));

/**
 * Publishes to one topic, in batches that it makes by itself, over one stream, in the order of the calls. When the connection is lost it
 * comes back and sends what was not answered again; the queue recognizes it, so that nothing is stored twice. Memory is bounded by
 * inFlightMessagesMax and inFlightBytesMax. Holds the process alive until close().
 */
export class Publisher {
  readonly topic: string;
  readonly #options: Required<PublisherOptions>;
  readonly #parts: PublisherParts;
  readonly #pipeline: Pipeline;
  readonly #producer = randomBytes(16).toString('hex');
  readonly #turns = new Turns<Turn>(WAITING_MAX);
  readonly #stop = new AbortController();
  #state: State = { at: 'idle' };
  #running: Promise<void> | undefined;
  #scheduled = false;
  #linger: Timer | undefined;
  /** Runs while a batch that is not full waits for answers. */
  #waiting: Timer | undefined;
  #closing: Promise<void> | undefined;
  #gone = (): void => undefined;
  /** Resolves when it is closed, well or not. */
  readonly closed = new Promise<void>((resolve) => {
    this.#gone = resolve;
  });
  #flushes: { readonly until: number; readonly done: () => void }[] = [];
  /** Messages nobody waited for that were not stored; told by the next add() or flush(). */
  #failure: { readonly error: MusterError; readonly messages: number } | undefined;

  /** Use Queue.publisher(). @throws invalid */
  constructor(topic: string, options: PublisherOptions, parts: PublisherParts) {
    this.topic = topic;
    assertKnown('a publisher', options, OPTIONS);
    this.#options = checked({ ...DEFAULTS, ...options });
    this.#parts = parts;
    this.#pipeline = new Pipeline({
      ...this.#options,
      again: (refusal) =>
        refusal.code === 'unavailable' || (refusal.code === 'exhausted' && this.#options.onFull === 'wait'),
      onFailed: (error, messages) => {
        this.#failure = { error: this.#failure?.error ?? error, messages: (this.#failure?.messages ?? 0) + messages };
      },
    });
  }

  /** Messages taken and not answered, and those that wait to be taken. */
  get pending(): number {
    return this.#pipeline.messages + this.#turns.size;
  }

  /**
   * Publishes a message; resolves when it is on the queue's disk.
   * @throws invalid, as a rejection, for a message that is none (naming the field) or too large; exhausted, reason TOPIC_FULL (retryAfterMs says when to try again);
   * not_found, denied; unavailable when the queue was out of reach for too long: the message may be stored or not
   */
  send(content: Content): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const message = asMessage(content);
      const encoded = encodedBytes(message);
      this.#assertOpen();
      const waiter = { resolve, reject };
      if (this.#mayTake(encoded)) this.#take(message, encoded, waiter);
      else
        this.#turns.push({ message: settledCopy(message), encoded, waiter, taken: () => undefined, refused: reject });
    });
  }

  /**
   * Publishes a message without a promise for each: the way for volume. Returns undefined when it was taken, else a promise to wait for
   * before the next one; it resolves when there was room and the message was taken. What fails later is thrown by the next add() or flush().
   * @throws invalid; what became of messages added before
   */
  add(content: Content): Promise<void> | undefined {
    const message = asMessage(content);
    const encoded = encodedBytes(message);
    this.#assertOpen();
    this.#raise();
    if (this.#mayTake(encoded)) {
      this.#take(message, encoded, undefined);
      return undefined;
    }
    return new Promise((taken, refused) => {
      this.#turns.push({ message: settledCopy(message), encoded, waiter: undefined, taken, refused });
    });
  }

  /** Like add(), but false, and the message is not taken, where add() would wait. */
  tryAdd(content: Content): boolean {
    const message = asMessage(content);
    const encoded = encodedBytes(message);
    this.#assertOpen();
    this.#raise();
    if (!this.#mayTake(encoded)) return false;
    this.#take(message, encoded, undefined);
    return true;
  }

  /**
   * Sends what was given so far without waiting for more; resolves when all of it is answered.
   * @throws what became of messages given to add(), when some were not stored
   */
  async flush(): Promise<void> {
    const until = this.#pipeline.taken + this.#turns.size;
    this.#pipeline.seal();
    this.#pump();
    if (this.#pipeline.answered < until) {
      await new Promise<void>((done) => {
        this.#flushes.push({ until, done });
      });
    }
    this.#raise();
  }

  /** Takes nothing more, waits until everything is answered, then ends the stream. May be called twice. @throws as flush() */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.#end();
    }
  }

  async #end(): Promise<void> {
    if (this.#state.at === 'open' || this.#state.at === 'pausing') this.#state.link.end();
    const late = this.#parts.clock.after(END_GRACE_MS, () => {
      this.#stop.abort(new MusterError('cancelled', 'the publisher is closed'));
    });
    await this.#running;
    late.cancel();
    this.#stop.abort(new MusterError('cancelled', 'the publisher is closed'));
    this.#gone();
  }

  #assertOpen(): void {
    if (!this.#closing) return;
    throw new MusterError(
      'precondition',
      'this publisher is closed, or its queue is: take another one, with queue.publisher() or connectQueue()',
      {
        reason: 'CLOSED',
      },
    );
  }

  #raise(): void {
    const failure = this.#failure;
    if (!failure) return;
    this.#failure = undefined;
    const { error, messages } = failure;
    throw new MusterError(error.code, `${messages} messages were not stored: ${error.message}`, {
      ...(error.reason === undefined ? {} : { reason: error.reason }),
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
      metadata: { ...error.metadata, messages: String(messages) },
      cause: error,
    });
  }

  #mayTake(encoded: number): boolean {
    return this.#turns.size === 0 && this.#pipeline.hasRoom(encoded);
  }

  #take(message: OutgoingMessage, encoded: number, waiter: Waiting | undefined): void {
    const full = this.#pipeline.add(message, encoded, waiter);
    if (this.#state.at === 'idle') this.#connect();
    else if (full) this.#pump();
    else if (!this.#scheduled) this.#schedule();
  }

  /** Sends every batch that may go; one that is not full is left to #schedule. */
  #pump(): void {
    if (this.#state.at !== 'open') return;
    const { link } = this.#state;
    for (let frame = this.#pipeline.next(); frame; frame = this.#pipeline.next()) link.send(frame);
    if (!this.#scheduled) this.#schedule();
  }

  /** Sees to it that the batch that fills is sent when its time has come. */
  #schedule(): void {
    if (this.#state.at !== 'open' || this.#pipeline.filling === 0) return;
    if (this.#options.lingerMs > 0) {
      this.#scheduled = true;
      this.#linger = this.#parts.clock.after(this.#options.lingerMs, this.#sendPartial);
    } else if (this.#pipeline.sent < PARTIAL_IN_FLIGHT_MAX) {
      this.#scheduled = true;
      // Behind everything that runs now, so that what is added in one go travels together.
      setImmediate(this.#sendPartial);
    } else {
      this.#waiting ??= this.#parts.clock.after(PARTIAL_WAIT_MS, this.#waitedLong);
    }
  }

  readonly #sendPartial = (): void => {
    this.#scheduled = false;
    if (this.#state.at !== 'open') return;
    this.#pipeline.seal();
    this.#pump();
  };

  readonly #waitedLong = (): void => {
    this.#waiting = undefined;
    this.#sendPartial();
  };

  #connect(): void {
    this.#state = { at: 'connecting' };
    this.#running = this.#run();
  }

  /** One stream after another, for as long as there is something to send. Never rejects. */
  async #run(): Promise<void> {
    const { clock, random } = this.#parts;
    const backoff = new Backoff(RECONNECT, random);
    let lostMs = clock.monotonic();
    while (this.#pipeline.messages > 0 && !this.#stop.signal.aborted) {
      this.#state = { at: 'connecting' };
      const error = await this.#stream();
      if (this.#lost()) {
        backoff.reset();
        lostMs = clock.monotonic();
      } else if (isFull(error)) lostMs = clock.monotonic();
      else if (!isFinal(error)) noticeAway(error);
      if (this.#isRefused(error)) this.#fail(error);
      else if (clock.monotonic() - lostMs >= this.#options.giveUpAfterMs) this.#fail(this.#unreachable(error));
      if (this.#pipeline.messages > 0) await sleep(clock, backoff.next(), this.#stop.signal).catch(() => undefined);
    }
    this.#state = { at: 'idle' };
  }

  /** Whether the queue has said no for good, or what is held is not to wait until it may be taken. */
  #isRefused(error: unknown): error is MusterError {
    return isFinal(error) || (isFull(error) && this.#options.onFull === 'fail');
  }

  /** One stream. Resolves with why it ended. */
  async #stream(): Promise<unknown> {
    try {
      const listener = {
        opened: (link: PublishLink, lastStored: number) => {
          this.#opened(link, lastStored);
        },
        answered: (acks: readonly PublishAck[]) => {
          this.#answered(acks);
        },
      };
      const open = { topic: this.topic, producer: this.#producer };
      await runPublishStream(await this.#parts.channel(), open, { listener, signal: this.#stop.signal });
      return new MusterError('unavailable', 'the queue ended the stream');
    } catch (error) {
      return error;
    }
  }

  #opened(link: PublishLink, lastStored: number): void {
    this.#state = { at: 'open', link };
    for (const frame of this.#pipeline.opened(lastStored)) link.send(frame);
    this.#pump();
  }

  #answered(acks: readonly PublishAck[]): void {
    for (const ack of acks) this.#pipeline.answer(ack);
    const pauseMs = this.#pipeline.recover();
    if (pauseMs !== undefined && pauseMs > 0) this.#pause(pauseMs);
    this.#progress();
  }

  #pause(pauseMs: number): void {
    if (this.#state.at !== 'open') return;
    const { link } = this.#state;
    const timer = this.#parts.clock.after(pauseMs, () => {
      this.#state = { at: 'open', link };
      this.#pump();
    });
    this.#state = { at: 'pausing', link, timer };
  }

  /** Answers have made room. */
  #progress(): void {
    for (let turn = this.#turns.peek(); turn && this.#pipeline.hasRoom(turn.encoded); turn = this.#turns.peek()) {
      this.#turns.shift();
      this.#pipeline.add(turn.message, turn.encoded, turn.waiter);
      turn.taken();
    }
    if (this.#flushes.length > 0) this.#settleFlushes(this.#pipeline.answered);
    this.#pump();
  }

  #settleFlushes(answered: number): void {
    const over = this.#flushes.filter(({ until }) => until <= answered);
    this.#flushes = this.#flushes.filter(({ until }) => until > answered);
    for (const { done } of over) done();
    // What is being waited for is not held back to be joined by more.
    if (this.#flushes.length > 0) this.#pipeline.seal();
  }

  /** The stream has ended. Whether it had been open. */
  #lost(): boolean {
    const wasOpen = this.#state.at !== 'connecting';
    if (this.#state.at === 'pausing') this.#state.timer.cancel();
    this.#linger?.cancel();
    if (this.#linger) this.#scheduled = false;
    this.#linger = undefined;
    this.#waiting?.cancel();
    this.#waiting = undefined;
    this.#state = { at: 'connecting' };
    return wasOpen;
  }

  /** Everything held, and everybody who waits to be taken, fails. */
  #fail(error: MusterError): void {
    this.#pipeline.fail(error);
    for (let turn = this.#turns.shift(); turn; turn = this.#turns.shift()) turn.refused(error);
    this.#settleFlushes(Infinity);
  }

  #unreachable(error: unknown): MusterError {
    const forMs = this.#options.giveUpAfterMs;
    return new MusterError(
      'unavailable',
      `the queue was out of reach for ${Math.round(forMs / 1000)} s; what was already sent may be stored or not: ${messageOf(error)}`,
      { reason: 'QUEUE_UNREACHABLE', cause: error },
    );
  }
}

function checked(options: Required<PublisherOptions>): Required<PublisherOptions> {
  const bounds: readonly (readonly [keyof PublisherOptions, number, number])[] = [
    ['lingerMs', 0, 60_000],
    ['batchBytesMax', 1, BATCH_BYTES_MAX],
    ['batchMessagesMax', 1, BATCH_MESSAGES_MAX],
    ['inFlightMessagesMax', 1, 1_000_000],
    ['inFlightBytesMax', 1, 1024 * 1024 * 1024],
    ['giveUpAfterMs', 0, Infinity],
  ];
  for (const [name, low, high] of bounds) {
    const value = Number(options[name]);
    if (value >= low && value <= high) continue;
    throw new MusterError('invalid', `${name} of a publisher is ${value}: give ${low} to ${high}`, {
      fields: [{ field: name, description: `must be from ${low} to ${high}` }],
    });
  }
  if (!ON_FULL.has(options.onFull)) {
    throw new MusterError('invalid', `onFull of a publisher is ${options.onFull as string}: give fail or wait`, {
      fields: [{ field: 'onFull', description: 'must be fail or wait' }],
    });
  }
  return options;
}
