import type { BatchView } from './batch.js';
import { SHARED_BYTES_MAX, SharedReads } from './shared-reads.js';

/** Messages of the newest batches kept in memory for live subscribers, over all topics, bytes. The oldest go first. */
export const CACHE_BYTES_MAX = 16 * 1024 * 1024;
/** What a batch takes beside its messages, about. */
const ENTRY_BYTES = 256;
/** Left-over places of a list before it is moved up. */
const SLACK = 1024;

/** The newest batches of one topic, in order and without gaps. */
export interface CachedTail {
  /** The batch that holds `sequence`, while it is kept. */
  find(sequence: number): BatchView | undefined;
  /** Nobody asks for messages below any more. */
  dropBelow(sequence: number): void;
  push(view: BatchView): void;
}

/** A batch's place in the lists, which it may leave before they let go of the place. */
interface Place {
  view: BatchView | undefined;
}

class Tail {
  #places: Place[] = [];
  /** Those before it are empty. */
  #first = 0;

  push(place: Place): void {
    this.#places.push(place);
  }

  /** The oldest batch that is kept. */
  get oldest(): Place | undefined {
    for (let place = this.#places[this.#first]; place; place = this.#places[this.#first]) {
      if (place.view) return place;
      this.#first += 1;
      if (this.#first < SLACK) continue;
      this.#places = this.#places.slice(this.#first);
      this.#first = 0;
    }
    return undefined;
  }

  find(sequence: number): BatchView | undefined {
    let low = this.#first;
    let high = this.#places.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const view = this.#places[middle]?.view;
      // Batches leave from the front.
      if (!view || sequence >= view.until) low = middle + 1;
      else if (sequence < view.firstSequence) high = middle - 1;
      else return view;
    }
    return undefined;
  }
}

/** A bounded memory of what was published last: whoever keeps up reads nothing from the disk. */
export class BatchCache {
  /** What was read from the disk because it is not kept here any more. */
  readonly reads: SharedReads;
  readonly #bytesMax: number;
  #bytes = 0;
  /** Of all topics, the oldest first. */
  #order: Place[] = [];
  #empty = 0;

  constructor(bytesMax = CACHE_BYTES_MAX) {
    this.#bytesMax = bytesMax;
    this.reads = new SharedReads(Math.min(bytesMax, SHARED_BYTES_MAX));
  }

  /** A place for one more topic. */
  newTail(): CachedTail {
    const tail = new Tail();
    return {
      find: (sequence) => tail.find(sequence),
      dropBelow: (sequence) => {
        for (let place = tail.oldest; place?.view && place.view.until <= sequence; place = tail.oldest)
          this.#drop(place);
        this.#tidy();
      },
      push: (view) => {
        const place = { view };
        tail.push(place);
        this.#order.push(place);
        this.#bytes += bytesOf(view);
        this.#shrink();
      },
    };
  }

  #shrink(): void {
    for (let at = 0; this.#bytes > this.#bytesMax && at < this.#order.length; at += 1) {
      const place = this.#order[at];
      if (place) this.#drop(place);
    }
    this.#tidy();
  }

  #drop(place: Place): void {
    if (!place.view) return;
    this.#bytes -= bytesOf(place.view);
    place.view = undefined;
    this.#empty += 1;
  }

  #tidy(): void {
    if (this.#empty < SLACK || this.#empty * 2 < this.#order.length) return;
    this.#order = this.#order.filter(({ view }) => view !== undefined);
    this.#empty = 0;
  }
}

function bytesOf(view: BatchView): number {
  return view.stored.messages.length + ENTRY_BYTES;
}
