import {
  QueueService,
  SubscribeResponse,
  type Credit,
  type SubscribeRequest,
  type Subscription,
} from '../../../generated/muster/v1/queue.js';
import type { Clock, Timer } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { createClient, type Channel } from '../../rpc/client.js';
import { rawResponses } from '../../rpc/raw.js';
import type { ClientDuplex } from '../../rpc/types.js';
import { fromDuration } from '../../wire/time.js';
import { HeldFrame, lostError, type FrameStream } from './held-frame.js';
import { deliveriesOf } from './received-frame.js';
import { Settler } from './settler.js';

export interface ConsumptionOptions {
  readonly topic: string;
  readonly subscription: string;
  readonly consumer: string;
  readonly credit: Credit;
  /** Leases are extended by the library until so long after their messages came, milliseconds; 0: never. */
  readonly holdMs: number;
  readonly clock: Clock;
  readonly onFrame: (held: HeldFrame) => void;
  readonly onOpen: () => void;
  /** The queue asks for the stream to end: no more comes on it. */
  readonly onDraining: () => void;
  readonly onFailure: (error: MusterError) => void;
}

const DEFINITION = { subscribe: rawResponses(QueueService.subscribe) };
/** How long the queue may take to store what was settled last, and to end the stream. */
const END_GRACE_MS = 5_000;
const DEFAULT_LEASE_MS = 30_000;
/** Acknowledgements of so many messages, or of this share of the credit, are told to the queue at once: it is not to run out of credit over them. */
const PROMPT_MESSAGES = 64;
const PROMPT_SHARE = 1 / 8;
/** Leases are extended when this share of them is over. */
const EXTEND_AFTER = 1 / 3;

/**
 * One stream of a consumer, from its opening to its end: what came on it, what of that the program has, and what of that is settled.
 * Frames are read as they come; the credit bounds what can come.
 */
export class Consumption implements FrameStream {
  readonly settler: Settler;
  readonly #options: ConsumptionOptions;
  readonly #stream: ClientDuplex<SubscribeRequest, Buffer>;
  readonly #held = new Set<HeldFrame>();
  /** Messages the program was given and has not settled. */
  #out = 0;
  #alive = true;
  #leaseMs = DEFAULT_LEASE_MS;
  #extending: Timer | undefined;
  #ending: Timer | undefined;
  #quiet: (() => void)[] = [];

  /** Use run() at once. @throws cancelled when the channel is closed */
  constructor(channel: Channel, options: ConsumptionOptions) {
    this.#options = options;
    this.#stream = createClient(DEFINITION, channel).subscribe();
    const { maxMessages, maxBytes } = options.credit;
    this.settler = new Settler({
      clock: options.clock,
      promptly: { messages: Math.min(PROMPT_MESSAGES, maxMessages * PROMPT_SHARE), bytes: maxBytes * PROMPT_SHARE },
      send: (value) => {
        this.#send({ $case: 'settle', value });
      },
      onFailure: options.onFailure,
    });
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** From the opening to the end, which finish() and cancel() bring about. @throws what the stream fails with */
  async run(): Promise<void> {
    const { topic, subscription, consumer, credit } = this.#options;
    try {
      this.#send({ $case: 'open', value: { topic, subscription, consumer, credit } });
      for await (const bytes of this.#stream) this.#received(bytes);
    } finally {
      this.#over();
    }
  }

  /** The program is given these many messages. */
  give(messages: number): void {
    this.#out += messages;
  }

  settled(held: HeldFrame, messages: number): void {
    if (held.open === 0) this.#held.delete(held);
    this.#out -= messages;
    this.#checkQuiet();
  }

  /** No more messages, please. */
  pause(): void {
    this.#send({ $case: 'credit', value: { maxMessages: 0, maxBytes: this.#options.credit.maxBytes } });
  }

  /** Resolves when the program has settled all it was given, or the stream is over. */
  async quiet(): Promise<void> {
    while (this.#alive && this.#out > 0) await new Promise<void>((resolve) => this.#quiet.push(resolve));
  }

  /** Hands over what was settled, waits until it is on disk, and ends the stream: what is left is delivered again at once. */
  async finish(): Promise<void> {
    this.#ending ??= this.#options.clock.after(END_GRACE_MS, () => {
      this.cancel();
    });
    await this.settler.flush();
    if (this.#alive) this.#stream.end();
  }

  /** Ends the stream at once. */
  cancel(): void {
    this.#stream.cancel();
  }

  #send(frame: NonNullable<SubscribeRequest['frame']>): void {
    // A failure to send is the stream's own failure, which run() throws.
    this.#stream.send({ frame }).catch(() => undefined);
  }

  #received(bytes: Buffer): void {
    const deliveries = deliveriesOf(bytes);
    if (deliveries) {
      const held = new HeldFrame(deliveries, this, this.#options.clock.monotonic());
      this.#held.add(held);
      this.#options.onFrame(held);
      return;
    }
    const { frame } = SubscribeResponse.decode(bytes);
    switch (frame?.$case) {
      case 'opened':
        this.#opened(frame.value.subscription);
        break;
      case 'settled':
        this.settler.settled(frame.value);
        break;
      case 'draining':
        this.#options.onDraining();
        break;
      case 'deliveries':
      case undefined:
        throw new MusterError('unimplemented', 'the queue sends frames this version does not know: update it');
    }
  }

  #opened(subscription: Subscription | undefined): void {
    this.#leaseMs = fromDuration(subscription?.lease) ?? DEFAULT_LEASE_MS;
    // The next message of a key comes only when the one before is settled.
    if (subscription?.ordered === true) this.settler.hurry();
    this.#scheduleExtending();
    this.#options.onOpen();
  }

  #scheduleExtending(): void {
    if (this.#options.holdMs === 0) return;
    this.#extending = this.#options.clock.after(this.#leaseMs * EXTEND_AFTER, () => {
      this.#extend();
      if (this.#alive) this.#scheduleExtending();
    });
  }

  /** Begins the leases anew of all that is held and not settled, unless it was held too long. */
  #extend(): void {
    const now = this.#options.clock.monotonic();
    for (const held of this.#held) {
      if (now - held.receivedMs < this.#options.holdMs) held.settleRest({ kind: 'extend', leaseMs: undefined });
    }
  }

  #over(): void {
    this.#alive = false;
    this.#extending?.cancel();
    this.#ending?.cancel();
    this.#held.clear();
    this.settler.end(lostError());
    this.#checkQuiet();
  }

  #checkQuiet(): void {
    if (this.#alive && this.#out > 0) return;
    const quiet = this.#quiet;
    this.#quiet = [];
    for (const resolve of quiet) resolve();
  }
}
