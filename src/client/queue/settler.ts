import type { Extend, Nack, Settled, SettleFailure, SettleFrame } from '../../../generated/muster/v1/queue.js';
import type { Clock, Timer } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { toDuration } from '../../wire/time.js';
import { DeliveryRanges } from './delivery-ranges.js';

/** How a message is given back. */
export interface NackOptions {
  /** Before the next attempt, milliseconds. Default: the subscription's backoff. */
  readonly delayMs?: number;
  /** Give it up now: it becomes a dead letter. */
  readonly deadLetter?: boolean;
  /** Kept with a dead letter. What is over 1,024 bytes is cut. */
  readonly reason?: string;
}

/** Deliveries `first` to `last`, both included. */
export interface Deliveries {
  readonly first: number;
  readonly last: number;
}

export interface SettlerOptions {
  readonly clock: Clock;
  /** Acknowledgements of so many messages, or of so many encoded bytes, wait for nothing. */
  readonly promptly: { readonly messages: number; readonly bytes: number };
  readonly send: (frame: SettleFrame) => void;
  /** A delivery that was settled in vain, and nobody waited for. */
  readonly onFailure: (error: MusterError) => void;
}

interface Confirmation {
  readonly deliveries: Deliveries;
  readonly resolve: () => void;
  readonly reject: (error: MusterError) => void;
}

interface Sent {
  readonly id: number;
  readonly confirmations: Confirmation[];
}

/** Settle frames on their way. Until one is answered, what is settled meanwhile gathers for the next. */
const IN_FLIGHT_MAX = 4;
const REASON_BYTES_MAX = 1024;
/** A few acknowledgements, for which nobody waits, go so long after the frame before at the earliest, milliseconds: a frame of its own for each message costs both ends more than the message did. */
const SPACING_MS = 5;

/**
 * Tells the queue what became of deliveries of one stream: gathered while the program runs on, sent as few ranges at the end of its turn,
 * or, where it is little and often, a few milliseconds later. What is gathered is bounded by the deliveries that are out, and so by the credit.
 */
export class Settler {
  readonly #options: SettlerOptions;
  readonly #acks = new DeliveryRanges();
  #nacks: Nack[] = [];
  #extends: Extend[] = [];
  #confirmations: Confirmation[] = [];
  #sent: Sent[] = [];
  #id = 0;
  /** Acknowledged and not sent. */
  #acked = { messages: 0, bytes: 0 };
  #scheduled = false;
  /** Runs while a few acknowledgements wait for more. */
  #spacing: Timer | undefined;
  #spacingMs = SPACING_MS;
  #sentMs = -Infinity;
  #over: MusterError | undefined;
  #idle: (() => void)[] = [];

  constructor(options: SettlerOptions) {
    this.#options = options;
  }

  /** From now on nothing waits for more to go with it: every acknowledgement lets something else be delivered. */
  hurry(): void {
    this.#spacingMs = 0;
  }

  /** `bytes`: of the messages, encoded, about. */
  ack({ first, last }: Deliveries, bytes = 0): void {
    this.#acks.add(first, last);
    this.#acked.messages += last - first + 1;
    this.#acked.bytes += bytes;
    this.#schedule();
  }

  nack({ first, last }: Deliveries, { delayMs, deadLetter = false, reason = '' }: NackOptions): void {
    const delay = delayMs === undefined ? undefined : toDuration(delayMs);
    this.#nacks.push({ deliveries: { first, last }, delay, deadLetter, reason: cut(reason) });
    this.#schedule();
  }

  extend({ first, last }: Deliveries, leaseMs: number | undefined): void {
    const lease = leaseMs === undefined ? undefined : toDuration(leaseMs);
    this.#extends.push({ deliveries: { first, last }, lease });
    this.#schedule();
  }

  /** Resolves when what was said of these deliveries is on the queue's disk. @throws precondition, unavailable */
  confirm(deliveries: Deliveries): Promise<void> {
    return new Promise((resolve, reject) => {
      const confirmation = { deliveries, resolve, reject };
      // Where nothing waits to be said, it was said before: in the newest frame at the latest.
      const newest = this.#waiting ? undefined : this.#sent.at(-1);
      if (this.#over) reject(this.#over);
      else if (newest) newest.confirmations.push(confirmation);
      else if (this.#waiting) {
        this.#confirmations.push(confirmation);
        this.#schedule();
      } else resolve();
    });
  }

  /** The queue has stored all frames up to `id`. */
  settled({ id, failures }: Settled): void {
    const done = this.#sent.filter((sent) => sent.id <= id);
    this.#sent = this.#sent.filter((sent) => sent.id > id);
    const confirmations = done.flatMap((sent) => sent.confirmations);
    const told = new Set<SettleFailure>();
    for (const { deliveries, resolve, reject } of confirmations) {
      const failure = failures.find(({ delivery }) => delivery >= deliveries.first && delivery <= deliveries.last);
      if (!failure) resolve();
      else {
        told.add(failure);
        reject(settleError(failure));
      }
    }
    for (const failure of failures) if (!told.has(failure)) this.#options.onFailure(settleError(failure));
    if (this.#waiting) this.#schedule();
    this.#checkIdle();
  }

  /** Sends what has gathered without waiting for the end of the turn, and resolves when all is answered, or the stream is over. */
  async flush(): Promise<void> {
    this.#send();
    while (!this.#over && (this.#sent.length > 0 || this.#waiting)) {
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
  }

  /** The stream has ended: nothing more can be settled, and what was not confirmed is delivered again or not, nobody knows. */
  end(error: MusterError): void {
    if (this.#over) return;
    this.#over = error;
    this.#spacing?.cancel();
    const waiting = [...this.#sent.flatMap((sent) => sent.confirmations), ...this.#confirmations];
    this.#sent = [];
    this.#confirmations = [];
    for (const { reject } of waiting) reject(error);
    this.#checkIdle();
  }

  get #waiting(): boolean {
    return !this.#acks.empty || this.#nacks.length > 0 || this.#extends.length > 0;
  }

  /** Whether what waits is only a few acknowledgements that nobody waits for. */
  get #patient(): boolean {
    if (this.#nacks.length > 0 || this.#extends.length > 0 || this.#confirmations.length > 0) return false;
    const { messages, bytes } = this.#options.promptly;
    return this.#acked.messages < messages && this.#acked.bytes < bytes;
  }

  #schedule(): void {
    if (this.#scheduled || this.#over) return;
    const restMs = this.#patient ? this.#sentMs + this.#spacingMs - this.#options.clock.monotonic() : 0;
    if (restMs > 0) {
      this.#spacing ??= this.#options.clock.after(restMs, () => {
        this.#spacing = undefined;
        this.#send();
      });
      return;
    }
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  #send(): void {
    if (this.#over || !this.#waiting || this.#sent.length >= IN_FLIGHT_MAX) return;
    const extended = this.#extends;
    this.#extends = [];
    // First and by themselves: in one frame with the settling that followed it, an extension would come too late.
    if (extended.length > 0) this.#sendFrame({ acks: [], nacks: [], extends: extended }, []);
    if (this.#acks.empty && this.#nacks.length === 0) return;
    const nacks = this.#nacks;
    const confirmations = this.#confirmations;
    this.#nacks = [];
    this.#confirmations = [];
    this.#acked = { messages: 0, bytes: 0 };
    this.#sendFrame({ acks: this.#acks.take(), nacks, extends: [] }, confirmations);
  }

  #sendFrame(frame: Omit<SettleFrame, 'id'>, confirmations: Confirmation[]): void {
    this.#spacing?.cancel();
    this.#spacing = undefined;
    this.#sentMs = this.#options.clock.monotonic();
    this.#id += 1;
    this.#sent.push({ id: this.#id, confirmations });
    this.#options.send({ id: this.#id, ...frame });
  }

  #checkIdle(): void {
    if (!this.#over && (this.#sent.length > 0 || this.#waiting)) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }
}

function cut(reason: string): string {
  const bytes = Buffer.from(reason);
  if (bytes.length <= REASON_BYTES_MAX) return reason;
  // A character cut in the middle becomes U+FFFD, three bytes long.
  return bytes.subarray(0, REASON_BYTES_MAX - 3).toString('utf8');
}

function settleError({ delivery, reason }: SettleFailure): MusterError {
  const why: Readonly<Record<string, string>> = {
    LEASE_OVER:
      'its lease was over: it is delivered again. Finish sooner, extend the lease, or give the subscription a longer one',
    ALREADY_SETTLED: 'it was settled before',
  };
  return new MusterError('precondition', `the message could not be settled: ${why[reason] ?? reason}`, {
    reason,
    metadata: { delivery: String(delivery) },
  });
}
