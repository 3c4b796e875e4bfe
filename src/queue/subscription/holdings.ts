import { Consumers, type Consumer } from './consumers.js';
import { Heap } from './heap.js';
import { cutTo, partOf, type Lease } from './leases.js';
import type { DeliveryRange, Failure } from './types.js';

/** Failures told per settle order; of what fails beyond, nothing is told. */
export const FAILURES_MAX = 4096;

/** Who has what: every lease is with one consumer and counts against its credit until it is taken out here. */
export class Holdings {
  readonly consumers = new Consumers();
  /** Ranked by when they are over. */
  readonly #ends = new Heap<Lease>();
  #leased = 0;

  /** Messages, of all consumers. */
  get leased(): number {
    return this.#leased;
  }

  /** When the first lease is over. */
  get nextEndMs(): number | undefined {
    return this.#ends.peek()?.rank;
  }

  /** A lease; also one that was taken out, again. */
  add(consumer: Consumer, lease: Lease): void {
    consumer.leases.add(lease);
    this.#ends.push(lease);
    this.#count(consumer, lease, 1);
  }

  /** Leases that were just cut from a batch. */
  grant(consumer: Consumer, leases: readonly Lease[]): void {
    for (const lease of leases) {
      if (lease.sizes) lease.sizes = lease.sizes.part(lease.firstSequence, lease.count);
      consumer.nextDelivery += lease.count;
      this.add(consumer, lease);
    }
    this.consumers.served(consumer);
  }

  /** Ends the first lease that is over, and takes it out. */
  takeOver(nowMs: number): Lease | undefined {
    const lease = this.#ends.peek();
    if (!lease || lease.rank > nowMs) return undefined;
    this.end(lease);
    return lease;
  }

  /** Takes a lease out before it is settled. */
  end(lease: Lease): void {
    const consumer = this.consumers.get(lease.consumer);
    if (!consumer) return;
    this.#takeWhole(consumer, lease);
    consumer.ended(lease.firstDelivery, lease.count);
    this.consumers.review(consumer);
  }

  /** Takes out all leases, of one consumer or of all, by delivery; they have ended. */
  endAll(consumers: Iterable<Consumer> = this.consumers): Lease[] {
    const leases = [...consumers].flatMap((consumer) => [...consumer.leases]);
    for (const lease of leases) this.end(lease);
    return leases;
  }

  /** Ends what is leased of the topic's messages below `head`, and takes it out. */
  endBelow(head: number): Lease[] {
    const ended: Lease[] = [];
    if (this.#leased === 0) return ended;
    for (const consumer of this.consumers) {
      for (const lease of [...consumer.leases]) {
        if (!lease.sizes || lease.firstSequence >= head) continue;
        const count = Math.min(lease.count, head - lease.firstSequence);
        const part = this.#takePart(consumer, lease, lease.firstDelivery, lease.firstDelivery + count - 1);
        consumer.ended(part.firstDelivery, part.count);
        ended.push(part);
      }
      this.consumers.review(consumer);
    }
    return ended;
  }

  /**
   * Takes out the leased ones of these deliveries, cutting leases where the range cuts them. What cannot be settled goes to `failures`;
   * with `quiet`, what was settled before is passed over, since a cumulative range names it again each time.
   */
  take(consumer: Consumer, range: DeliveryRange, quiet: boolean, failures: Failure[]): Lease[] {
    const last = range.last === 0 ? range.first : range.last;
    const known = Math.min(last, consumer.nextDelivery - 1);
    if (range.first < 1 || last < range.first) {
      tell(failures, { delivery: range.first, reason: 'UNKNOWN_DELIVERY' });
      return [];
    }
    const taken: Lease[] = [];
    let at = range.first;
    for (const lease of consumer.leases.overlapping(range.first, known + 1)) {
      const first = Math.max(range.first, lease.firstDelivery);
      const end = Math.min(known, lease.firstDelivery + lease.count - 1);
      if (first > at) explain(consumer, { first: at, last: first - 1 }, quiet, failures);
      taken.push(this.#takePart(consumer, lease, first, end));
      at = end + 1;
    }
    if (at <= known) explain(consumer, { first: at, last: known }, quiet, failures);
    if (known < last) tell(failures, { delivery: Math.max(range.first, known + 1), reason: 'UNKNOWN_DELIVERY' });
    return taken;
  }

  #takePart(consumer: Consumer, lease: Lease, first: number, last: number): Lease {
    const leaseLast = lease.firstDelivery + lease.count - 1;
    if (first === lease.firstDelivery && last === leaseLast) {
      this.#takeWhole(consumer, lease);
      return lease;
    }
    const part = partOf(lease, first, last);
    this.#count(consumer, part, -1);
    if (first === lease.firstDelivery) {
      cutTo(lease, last + 1, leaseLast);
    } else {
      const behind = last < leaseLast ? partOf(lease, last + 1, leaseLast) : undefined;
      cutTo(lease, lease.firstDelivery, first - 1);
      if (behind) {
        consumer.leases.add(behind);
        this.#ends.push(behind);
      }
    }
    return part;
  }

  #takeWhole(consumer: Consumer, lease: Lease): void {
    consumer.leases.remove(lease);
    this.#ends.remove(lease);
    this.#count(consumer, lease, -1);
  }

  #count(consumer: Consumer, lease: Lease, sign: 1 | -1): void {
    this.#leased += sign * lease.count;
    consumer.leased += sign * lease.count;
    consumer.leasedBytes += sign * lease.bytes;
  }
}

function explain(
  consumer: Consumer,
  range: { first: number; last: number },
  quiet: boolean,
  failures: Failure[],
): void {
  for (let delivery = range.first; delivery <= range.last && failures.length < FAILURES_MAX; delivery += 1) {
    if (quiet) {
      const over = consumer.firstOver(delivery);
      if (over === undefined || over > range.last) return;
      delivery = over;
    }
    tell(failures, { delivery, reason: consumer.whyNot(delivery) });
  }
}

function tell(failures: Failure[], failure: Failure): void {
  if (failures.length < FAILURES_MAX) failures.push(failure);
}
