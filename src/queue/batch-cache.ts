import type { BatchView } from './batch.js';

/** Messages of the newest batches kept in memory for live subscribers, over all topics, bytes. The oldest go first. */
export const CACHE_BYTES_MAX = 16 * 1024 * 1024;
/** What a batch takes beside its messages, about. */
const ENTRY_BYTES = 256;
/** Left-over places at the front of a list before it is moved up. */
const SLACK = 1024;

/** The newest batches of one topic, in order and without gaps. */
export interface CachedTail {
  /** The batch that holds `sequence`, while it is kept. */
  find(sequence: number): BatchView | undefined;
}

class Tail implements CachedTail {
  /** Undefined: forgotten. */
  #views: (BatchView | undefined)[] = [];
  #first = 0;

  push(view: BatchView): void {
    this.#views.push(view);
  }

  shift(): void {
    this.#views[this.#first] = undefined;
    this.#first += 1;
    if (this.#first < SLACK) return;
    this.#views = this.#views.slice(this.#first);
    this.#first = 0;
  }

  find(sequence: number): BatchView | undefined {
    let low = this.#first;
    let high = this.#views.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const view = this.#views[middle];
      if (!view || sequence < view.firstSequence) high = middle - 1;
      else if (sequence >= view.until) low = middle + 1;
      else return view;
    }
    return undefined;
  }
}

/** A bounded memory of what was published last: whoever keeps up reads nothing from the disk. */
export class BatchCache {
  readonly #bytesMax: number;
  #bytes = 0;
  #order: { tail: Tail; bytes: number }[] = [];
  #first = 0;

  constructor(bytesMax = CACHE_BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  /** A place for one more topic. */
  newTail(): CachedTail & { push(view: BatchView): void } {
    const tail = new Tail();
    return {
      find: (sequence) => tail.find(sequence),
      push: (view) => {
        tail.push(view);
        const bytes = view.stored.messages.length + ENTRY_BYTES;
        this.#order.push({ tail, bytes });
        this.#bytes += bytes;
        this.#shrink();
      },
    };
  }

  #shrink(): void {
    while (this.#bytes > this.#bytesMax) {
      const oldest = this.#order[this.#first];
      if (!oldest) return;
      oldest.tail.shift();
      this.#bytes -= oldest.bytes;
      this.#first += 1;
    }
    if (this.#first < SLACK) return;
    this.#order = this.#order.slice(this.#first);
    this.#first = 0;
  }
}
