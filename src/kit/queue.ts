import { MusterError } from './errors.js';
import { Gate } from './gate.js';

/** What a full queue does with one more item. */
export type FullPolicy = 'refuse' | 'drop_oldest';

/**
 * A bounded first-in first-out queue between a producer that must not wait and one consumer that iterates.
 * At the bound it refuses (push returns false) or drops the oldest and counts it; it never grows past the bound.
 */
export class BoundedQueue<T> implements AsyncIterable<T> {
  readonly #capacity: number;
  readonly #policy: FullPolicy;
  #items: T[] = [];
  readonly #gate = new Gate();
  #dropped = 0;

  constructor(capacity: number, policy: FullPolicy) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new MusterError('internal', `queue capacity must be a positive whole number, not ${capacity}`);
    }
    this.#capacity = capacity;
    this.#policy = policy;
  }

  get size(): number {
    return this.#items.length;
  }

  /** Items dropped so far under `drop_oldest`. */
  get dropped(): number {
    return this.#dropped;
  }

  /** False when the item was not taken: the queue is full under `refuse`, or closed. */
  push(item: T): boolean {
    if (this.#gate.closed) return false;
    if (this.#items.length >= this.#capacity) {
      if (this.#policy === 'refuse') return false;
      this.#items.shift();
      this.#dropped += 1;
    }
    this.#items.push(item);
    this.#gate.ring();
    return true;
  }

  /** Ends iteration after what is queued; with an error, iteration then throws it. */
  close(error?: unknown): void {
    this.#gate.close(error);
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    do {
      while (this.#items.length > 0) yield this.#items.shift() as T;
    } while (await this.#gate.more());
  }
}
