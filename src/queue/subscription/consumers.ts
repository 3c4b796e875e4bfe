import { leaseList } from './leases.js';
import { RangeSet } from './ranges.js';
import type { Credit } from './types.js';

/** Ranges of deliveries remembered as over, per consumer. Of those forgotten, the lowest, it is said that their lease is over. */
const OVER_RANGES_MAX = 1024;

/** One consumer: its credit, and what it has. */
export class Consumer {
  readonly id: number;
  readonly leases = leaseList();
  credit: Credit;
  /** Messages and bytes delivered and not settled. */
  leased = 0;
  leasedBytes = 0;
  nextDelivery = 1;
  /** Neighbours in the ring of those with credit; undefined outside. */
  ringNext: Consumer | undefined;
  ringPrevious: Consumer | undefined;
  /** Deliveries whose lease ended before they were settled, as far as nobody was told. */
  readonly #over = new RangeSet();
  /** Deliveries below that are not in `#over` may have been. */
  #forgottenBelow = 1;

  constructor(id: number, credit: Credit) {
    this.id = id;
    this.credit = credit;
  }

  get hasCredit(): boolean {
    return this.leased < this.credit.maxMessages && (this.leased === 0 || this.leasedBytes < this.credit.maxBytes);
  }

  /** Whether a message of this size may be delivered now. */
  takes(bytes: number): boolean {
    return this.leased === 0 || this.leasedBytes + bytes <= this.credit.maxBytes;
  }

  /** Remembers that these deliveries can no longer be settled. */
  ended(first: number, count: number): void {
    this.#over.add(first, first + count);
    if (this.#over.ranges <= OVER_RANGES_MAX) return;
    const lowest = this.#over.first ?? 0;
    this.#forgottenBelow = this.#over.endOf(lowest) ?? lowest;
    this.#over.remove(lowest, this.#forgottenBelow);
  }

  /** Why a delivery that has no lease cannot be settled. That its lease is over is said once: then it counts as settled. */
  whyNot(delivery: number): 'LEASE_OVER' | 'ALREADY_SETTLED' {
    if (this.#over.has(delivery)) {
      this.#over.remove(delivery, delivery + 1);
      return 'LEASE_OVER';
    }
    return delivery < this.#forgottenBelow ? 'LEASE_OVER' : 'ALREADY_SETTLED';
  }

  /** The first delivery at or behind `delivery` whose lease ended; undefined when there is none. */
  firstOver(delivery: number): number | undefined {
    return this.#over.firstFrom(delivery);
  }
}

/** All consumers of a subscription, and the ring of those with credit: whoever was served goes to its end. */
export class Consumers {
  readonly #all = new Map<number, Consumer>();
  /** Whose turn it is. */
  #turn: Consumer | undefined;

  [Symbol.iterator](): IterableIterator<Consumer> {
    return this.#all.values();
  }

  get count(): number {
    return this.#all.size;
  }

  get(id: number): Consumer | undefined {
    return this.#all.get(id);
  }

  add(consumer: Consumer): void {
    this.#all.set(consumer.id, consumer);
    this.review(consumer);
  }

  remove(consumer: Consumer): void {
    this.#all.delete(consumer.id);
    this.#leave(consumer);
  }

  /** Whether anyone has credit. */
  get isReady(): boolean {
    return this.#turn !== undefined;
  }

  /** The next in turn that takes a message of this size. */
  choose(bytes: number): Consumer | undefined {
    let consumer = this.#turn;
    while (consumer) {
      if (consumer.takes(bytes)) return consumer;
      consumer = consumer.ringNext;
      if (consumer === this.#turn) return undefined;
    }
    return undefined;
  }

  /** Call when a consumer was served. */
  served(consumer: Consumer): void {
    this.#leave(consumer);
    this.review(consumer);
  }

  /** Call when what decides over a consumer's credit has changed. */
  review(consumer: Consumer): void {
    const inside = consumer.ringNext !== undefined;
    if (inside === consumer.hasCredit) return;
    if (inside) this.#leave(consumer);
    else this.#join(consumer);
  }

  #join(consumer: Consumer): void {
    const turn = (this.#turn ??= consumer);
    const last = turn.ringPrevious ?? turn;
    consumer.ringNext = turn;
    consumer.ringPrevious = last;
    last.ringNext = consumer;
    turn.ringPrevious = consumer;
  }

  #leave(consumer: Consumer): void {
    const { ringNext, ringPrevious } = consumer;
    if (!ringNext || !ringPrevious) return;
    if (this.#turn === consumer) this.#turn = ringNext === consumer ? undefined : ringNext;
    ringPrevious.ringNext = ringNext;
    ringNext.ringPrevious = ringPrevious;
    consumer.ringNext = undefined;
    consumer.ringPrevious = undefined;
  }
}
