import type { Consumer } from './consumers.js';
import type { Lease } from './leases.js';
import type { MessageSizes } from './sizes.js';

type Messages = Pick<Lease, 'firstSequence' | 'count' | 'attempt' | 'bytes' | 'sizes'>;

/** One frame in the making: runs of one batch for one consumer, within its credit. */
export class Frame {
  readonly consumer: Consumer;
  readonly leases: Lease[] = [];
  readonly #sizes: MessageSizes | undefined;
  readonly #leaseEndMs: number;
  #messages: number;
  #bytes: number;
  #nextDelivery: number;

  /** `sizes`: of the batch; undefined when it is to hold a dead letter. */
  constructor(consumer: Consumer, leaseEndMs: number, sizes?: MessageSizes) {
    this.consumer = consumer;
    this.#sizes = sizes;
    this.#leaseEndMs = leaseEndMs;
    this.#messages = consumer.leased;
    this.#bytes = consumer.leasedBytes;
    this.#nextDelivery = consumer.nextDelivery;
  }

  /** How many of `count` messages from `first` may still go into it. */
  fit(first: number, count: number): number {
    const { maxMessages, maxBytes } = this.consumer.credit;
    const room = Math.min(count, maxMessages - this.#messages);
    if (room <= 0) return 0;
    const fitting = this.#sizes?.fitting(first, room, maxBytes - this.#bytes) ?? 0;
    return fitting === 0 && this.#messages === 0 ? 1 : fitting;
  }

  /** Adds messages that fit. */
  add(firstSequence: number, count: number, attempt: number): void {
    const bytes = this.#sizes?.bytesOf(firstSequence, firstSequence + count - 1) ?? 0;
    this.#messages += count;
    this.#bytes += bytes;
    const last = this.leases[this.leases.length - 1];
    if (last?.attempt === attempt && last.firstSequence + last.count === firstSequence) {
      last.count += count;
      last.bytes += bytes;
      this.#nextDelivery += count;
    } else {
      this.#push({ firstSequence, count, attempt, bytes, sizes: this.#sizes });
    }
  }

  addLetter(firstSequence: number, attempt: number, bytes: number): void {
    this.#push({ firstSequence, count: 1, attempt, bytes, sizes: undefined });
  }

  #push({ firstSequence, count, attempt, bytes, sizes }: Messages): void {
    const firstDelivery = this.#nextDelivery;
    this.#nextDelivery += count;
    const consumer = this.consumer.id;
    const rank = this.#leaseEndMs;
    this.leases.push({ consumer, firstDelivery, firstSequence, count, attempt, bytes, sizes, rank, slot: -1 });
  }
}
