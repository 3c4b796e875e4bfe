import { sleep, type Clock, type Timer } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import { newId } from '../kit/ids.js';
import type { Delivery, Frame, Sink } from './delivery.js';
import type { FramedRun } from './delivery-frame.js';
import type { Failure, SettleOrder } from './subscription/types.js';

/** Pulls with messages that are not settled and whose lease runs, over all subscriptions. */
const PULLS_MAX = 10_000;
/** Of one subscription: it must not use up those of all. */
const PULLS_OF_ONE_MAX = 2000;
const PULL_BYTES_MAX = 1024 * 1024;
/** Of one call: bounds how long it holds up others, and its answer, which may name each of them. */
const SETTLE_LEASES_MAX = 10_000;
/** What a lease looks like, of this run of the queue or another. */
const LEASE_PATTERN = /^[0-9a-z]{8}-[0-9a-z]+-[0-9a-z]+$/;
/** For more messages that are ready, when some have come: a busy subscription is never quiet. */
const FILL_MS = 100;
/** After the end of a lease, before the pull that had it is forgotten. */
const FORGET_AFTER_MS = 1000;

export interface PulledRun {
  readonly run: FramedRun;
  /** One per message. */
  readonly leases: readonly string[];
}

export interface PullOrder {
  readonly name: string;
  readonly maxMessages: number;
  /** For the first message. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

/** What to do with one lease. */
export type LeaseOrder =
  | { readonly lease: string; readonly kind: 'ack' }
  | {
      readonly lease: string;
      readonly kind: 'nack';
      readonly delayMs: number | undefined;
      readonly deadLetter: boolean;
      readonly reason: string;
    }
  | { readonly lease: string; readonly kind: 'extend'; readonly leaseMs: number | undefined };

export interface LeaseFailure {
  readonly lease: string;
  readonly reason: string;
}

/** Takes frames until it has what was asked for. */
class PullSink implements Sink {
  readonly name: string;
  readonly frames: Frame[] = [];
  /** Resolves with the first messages, or the end. */
  readonly arrived: Promise<void>;
  /** Resolves with the last of the messages asked for, or the end. */
  readonly filled: Promise<void>;
  readonly #onEnd: () => void;
  #missing: number;
  #arrive: () => void = () => undefined;
  #fill: () => void = () => undefined;
  ended: MusterError | undefined;

  constructor(name: string, maxMessages: number, onEnd: () => void) {
    this.name = name;
    this.#missing = maxMessages;
    this.#onEnd = onEnd;
    this.arrived = new Promise<void>((resolve) => {
      this.#arrive = resolve;
    });
    this.filled = new Promise<void>((resolve) => {
      this.#fill = resolve;
    });
  }

  deliver(frame: Frame): boolean {
    this.frames.push(frame);
    for (const { count } of frame.runs) this.#missing -= count;
    this.#arrive();
    if (this.#missing <= 0) this.#fill();
    return true;
  }

  end(reason: MusterError): void {
    this.ended = reason;
    this.#arrive();
    this.#fill();
    this.#onEnd();
  }
}

/** A pull whose messages are not all settled. */
interface Pull {
  readonly delivery: Delivery;
  /** The consumer that it is to the delivery. */
  readonly consumer: number;
  timer: Timer | undefined;
}

/**
 * Consumers of single calls, for people and scripts: each pull is a consumer of its own that stays while its messages are leased. A lease is
 * named by this run of the queue, the pull and the delivery, so that one of before a restart is known to be over.
 */
export class Pulls {
  readonly #clock: Clock;
  readonly #run = newId('r').slice(2, 10);
  readonly #pulls = new Map<number, Pull>();
  /** How many of them each subscription has. */
  readonly #counts = new Map<Delivery, number>();
  #number = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws exhausted; not_found when the subscription is deleted meanwhile */
  async pull(delivery: Delivery, order: PullOrder): Promise<{ runs: readonly PulledRun[]; expiresMs: number }> {
    if (this.#pulls.size >= PULLS_MAX) {
      throw new MusterError('exhausted', `${PULLS_MAX} pulls have unsettled messages: settle some, or subscribe`);
    }
    if ((this.#counts.get(delivery) ?? 0) >= PULLS_OF_ONE_MAX) {
      throw new MusterError(
        'exhausted',
        `${PULLS_OF_ONE_MAX} pulls of this subscription have unsettled messages: settle some, or subscribe`,
      );
    }
    this.#number += 1;
    const number = this.#number;
    const sink = new PullSink(order.name, order.maxMessages, () => {
      this.#forget(number);
    });
    const consumer = delivery.attach(sink, { maxMessages: order.maxMessages, maxBytes: PULL_BYTES_MAX });
    this.#pulls.set(number, { delivery, consumer, timer: undefined });
    this.#counts.set(delivery, (this.#counts.get(delivery) ?? 0) + 1);
    try {
      await this.#wait(delivery, sink, order);
      delivery.setCredit(consumer, { maxMessages: 0, maxBytes: 0 });
      if (sink.ended) throw sink.ended;
    } catch (error) {
      this.#release(number);
      throw error;
    }
    const { leaseMs } = delivery.record.settings;
    this.#releaseWhenDone(number, leaseMs);
    return {
      runs: sink.frames.flatMap((frame) => this.#leased(frame, number)),
      expiresMs: this.#clock.now() + leaseMs,
    };
  }

  /** Answers with what could not be settled once the rest is durable. @throws invalid for more than SETTLE_LEASES_MAX at once */
  async settle(delivery: Delivery, orders: readonly LeaseOrder[]): Promise<readonly LeaseFailure[]> {
    if (orders.length > SETTLE_LEASES_MAX) {
      throw new MusterError('invalid', `one call settles at most ${SETTLE_LEASES_MAX} leases: make several calls`);
    }
    const failures: LeaseFailure[] = [];
    const byPull = new Map<number, { order: LeaseOrder; number: number }[]>();
    for (const order of orders) {
      const place = this.#placeOf(order.lease, delivery);
      if (typeof place === 'string') {
        failures.push({ lease: order.lease, reason: place });
        continue;
      }
      const places = byPull.get(place.pull);
      if (places) places.push({ order, number: place.delivery });
      else byPull.set(place.pull, [{ order, number: place.delivery }]);
    }
    const stored: Promise<void>[] = [];
    for (const [number, places] of byPull) {
      const settled = delivery.settle(this.#pulls.get(number)?.consumer ?? 0, settleOrder(places));
      stored.push(settled.stored);
      failures.push(...settled.failures.map((failure) => this.#failure(number, failure)));
      this.#releaseWhenDone(number, delivery.record.settings.leaseMs);
    }
    await Promise.all(stored);
    return failures;
  }

  /** Until all has arrived that was asked for or is there, or there is nothing and the time is over. */
  async #wait(delivery: Delivery, sink: PullSink, { waitMs, signal }: PullOrder): Promise<void> {
    await Promise.race([sink.arrived, delivery.quiet()]);
    if (sink.frames.length === 0) await this.#within(waitMs, sink.arrived, signal);
    if (sink.frames.length > 0) await this.#within(FILL_MS, Promise.race([sink.filled, delivery.quiet()]), signal);
  }

  /** Resolves with `work`, or when the time is over, or the caller has gone. */
  async #within(limitMs: number, work: Promise<void>, signal: AbortSignal): Promise<void> {
    if (limitMs <= 0) return;
    const over = new AbortController();
    const waited = sleep(this.#clock, limitMs, AbortSignal.any([signal, over.signal])).catch(() => undefined);
    await Promise.race([work, waited]);
    over.abort();
  }

  #leased({ firstDelivery, runs }: Frame, pull: number): PulledRun[] {
    let next = firstDelivery;
    return runs.map((run) => {
      const leases = Array.from({ length: run.count }, (_, index) => this.#leaseOf(pull, next + index));
      next += run.count;
      return { run, leases };
    });
  }

  #leaseOf(pull: number, delivery: number): string {
    return `${this.#run}-${pull.toString(36)}-${delivery.toString(36)}`;
  }

  /** What a lease names, or why it names nothing now. */
  #placeOf(lease: string, of: Delivery): { pull: number; delivery: number } | 'UNKNOWN_LEASE' | 'LEASE_OVER' {
    const [run, pullText = '', deliveryText = ''] = lease.split('-');
    const pull = parseInt(pullText, 36);
    const delivery = parseInt(deliveryText, 36);
    if (run !== this.#run && LEASE_PATTERN.test(lease)) return 'LEASE_OVER';
    if (this.#leaseOf(pull, delivery) !== lease) return 'UNKNOWN_LEASE';
    const found = this.#pulls.get(pull);
    if (!found) return pull <= this.#number ? 'LEASE_OVER' : 'UNKNOWN_LEASE';
    return found.delivery === of ? { pull, delivery } : 'UNKNOWN_LEASE';
  }

  #failure(pull: number, { delivery, reason }: Failure): LeaseFailure {
    return {
      lease: this.#leaseOf(pull, delivery),
      reason: reason === 'UNKNOWN_DELIVERY' ? 'UNKNOWN_LEASE' : reason,
    };
  }

  /** The subscription was closed with all its consumers: nothing may wait for the pull any more. */
  #forget(number: number): void {
    const pull = this.#pulls.get(number);
    if (!pull) return;
    pull.timer?.cancel();
    this.#pulls.delete(number);
    const left = (this.#counts.get(pull.delivery) ?? 1) - 1;
    if (left > 0) this.#counts.set(pull.delivery, left);
    else this.#counts.delete(pull.delivery);
  }

  #release(number: number): void {
    const pull = this.#pulls.get(number);
    this.#forget(number);
    pull?.delivery.detach(pull.consumer, { counts: false });
  }

  /** Lets go of a pull that has nothing left; looks again when its lease is over. */
  #releaseWhenDone(number: number, leaseMs: number): void {
    const pull = this.#pulls.get(number);
    if (!pull) return;
    if (pull.delivery.leasedBy(pull.consumer) === 0) {
      this.#release(number);
      return;
    }
    pull.timer?.cancel();
    pull.timer = this.#clock.after(leaseMs + FORGET_AFTER_MS, () => {
      this.#releaseWhenDone(number, leaseMs);
    });
  }
}

function settleOrder(places: readonly { order: LeaseOrder; number: number }[]): SettleOrder {
  const acks: SettleOrder['acks'][number][] = [];
  const nacks: SettleOrder['nacks'][number][] = [];
  const extended: SettleOrder['extends'][number][] = [];
  for (const { order, number } of places) {
    const range = { first: number, last: number };
    if (order.kind === 'ack') acks.push(range);
    else if (order.kind === 'extend') extended.push({ range, leaseMs: order.leaseMs });
    else nacks.push({ range, delayMs: order.delayMs, deadLetter: order.deadLetter, reason: order.reason });
  }
  return { acks, nacks, extends: extended };
}
