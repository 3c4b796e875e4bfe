import { MusterError } from './errors.js';

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
  #wake: (() => void) | undefined;
  #end: { error?: unknown } | undefined;
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
    if (this.#end) return false;
    if (this.#items.length >= this.#capacity) {
      if (this.#policy === 'refuse') return false;
      this.#items.shift();
      this.#dropped += 1;
    }
    this.#items.push(item);
    this.#wake?.();
    return true;
  }

  /** Ends iteration after what is queued; with an error, iteration then throws it. */
  close(error?: unknown): void {
    if (this.#end) return;
    this.#end = error === undefined ? {} : { error };
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (;;) {
      if (this.#items.length > 0) {
        yield this.#items.shift() as T;
      } else if (this.#end) {
        if ('error' in this.#end) throw this.#end.error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    }
  }
}
