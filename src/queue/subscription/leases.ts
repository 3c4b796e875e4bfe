import type { Ranked } from './heap.js';
import type { MessageSizes } from './sizes.js';

/** Messages with consecutive sequences and deliveries that a consumer has until `rank`, the monotonic millisecond at which the lease is over. */
export interface Lease extends Ranked {
  readonly consumer: number;
  firstDelivery: number;
  firstSequence: number;
  count: number;
  readonly attempt: number;
  bytes: number;
  /** Undefined for a dead letter delivered again, which is always alone. */
  sizes: MessageSizes | undefined;
}

/** Left-over places at the front of a list before it is moved up. */
const SLACK = 256;

/** The leases of one consumer by delivery. A lease of which a part is settled is cut: what remains are one or two shorter ones. */
export class LeaseList {
  #leases: Lease[] = [];
  /** Places before it are left over. */
  #first = 0;

  *[Symbol.iterator](): IterableIterator<Lease> {
    for (let index = this.#first; index < this.#leases.length; index += 1) {
      const lease = this.#leases[index];
      if (lease) yield lease;
    }
  }

  /** Adds a lease; one that was just granted comes last. */
  add(lease: Lease): void {
    const last = this.#leases[this.#leases.length - 1];
    if (this.#leases.length === this.#first || !last || last.firstDelivery < lease.firstDelivery) {
      this.#leases.push(lease);
      return;
    }
    this.#leases.splice(this.#endingAt(lease.firstDelivery), 0, lease);
  }

  /** The leases that have deliveries from `first` to `last`, rising. */
  overlapping(first: number, last: number): Lease[] {
    const found: Lease[] = [];
    for (let index = this.#endingAt(first); ; index += 1) {
      const lease = this.#leases[index];
      if (!lease || lease.firstDelivery > last) return found;
      found.push(lease);
    }
  }

  remove(lease: Lease): void {
    const index = this.#endingAt(lease.firstDelivery);
    if (index !== this.#first) {
      this.#leases.splice(index, 1);
      return;
    }
    this.#first += 1;
    if (this.#first < SLACK && this.#first < this.#leases.length) return;
    this.#leases = this.#leases.slice(this.#first);
    this.#first = 0;
  }

  /** Index of the first lease that ends at or behind `delivery`. */
  #endingAt(delivery: number): number {
    let low = this.#first;
    let high = this.#leases.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const lease = this.#leases[middle];
      if (!lease || lease.firstDelivery + lease.count > delivery) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** The part of a lease with deliveries from `first` to `last`, both inside; a lease of its own, in no heap. */
export function partOf(lease: Lease, first: number, last: number): Lease {
  const firstSequence = lease.firstSequence + first - lease.firstDelivery;
  const count = last - first + 1;
  const sizes = lease.sizes?.part(firstSequence, count);
  const bytes = sizes ? sizes.bytesOf(firstSequence, firstSequence + count - 1) : lease.bytes;
  const { consumer, attempt, rank } = lease;
  return { consumer, firstDelivery: first, firstSequence, count, attempt, bytes, sizes, rank, slot: -1 };
}

/** Cuts a lease to its deliveries from `first` to `last`, both inside. */
export function cutTo(lease: Lease, first: number, last: number): void {
  const rest = partOf(lease, first, last);
  lease.firstDelivery = rest.firstDelivery;
  lease.firstSequence = rest.firstSequence;
  lease.count = rest.count;
  lease.bytes = rest.bytes;
  lease.sizes = rest.sizes;
}
