import { MusterError } from './errors.js';
import { Gate } from './gate.js';

/**
 * A bounded first-in first-out queue that holds one item per key: putting a key that is waiting replaces its item and keeps its place,
 * so a consumer that falls behind gets the newest of each key and memory is bounded by the number of keys. One consumer iterates.
 */
export class CoalescingQueue<T> implements AsyncIterable<T> {
  readonly #capacity: number;
  readonly #waiting = new Map<string, T>();
  readonly #gate = new Gate();

  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new MusterError('internal', `queue capacity must be a positive whole number, not ${capacity}`);
    }
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** False when the item was not taken: as many other keys are waiting as the queue holds, or it is closed. */
  put(key: string, item: T): boolean {
    if (this.#gate.closed) return false;
    if (!this.#waiting.has(key) && this.#waiting.size >= this.#capacity) return false;
    this.#waiting.set(key, item);
    this.#gate.ring();
    return true;
  }

  /** As put, but the key goes behind everything that waits now. */
  putLast(key: string, item: T): boolean {
    if (this.#gate.closed) return false;
    this.#waiting.delete(key);
    return this.put(key, item);
  }

  /** Ends iteration after what is waiting; with an error, iteration then throws it. */
  close(error?: unknown): void {
    this.#gate.close(error);
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    do {
      for (const [key, item] of this.#waiting) {
        this.#waiting.delete(key);
        yield item;
      }
    } while (await this.#gate.more());
  }
}
