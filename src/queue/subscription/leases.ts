import type { Ranked } from './heap.js';
import type { MessageSizes } from './sizes.js';
import { Spans, type Extent } from './spans.js';

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

const DELIVERIES: Extent<Lease> = {
  from: ({ firstDelivery }) => firstDelivery,
  until: ({ firstDelivery, count }) => firstDelivery + count,
};

/** The leases of one consumer by delivery. A lease of which a part is settled is cut: what remains are one or two shorter ones. */
export function leaseList(): Spans<Lease> {
  return new Spans(DELIVERIES);
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
