/** A table is copied when it is more than this many times as large as the part that is needed of it. */
const SLACK_FACTOR = 8;

/** Encoded sizes of consecutive messages: what is left when their batch has gone from memory. 4 bytes a message. */
export class MessageSizes {
  readonly #firstSequence: number;
  readonly #starts: Uint32Array;
  readonly #end: number;

  /** `starts`: where each message begins, rising; `end`: where the last one ends. */
  constructor(firstSequence: number, starts: Uint32Array, end: number) {
    this.#firstSequence = firstSequence;
    this.#starts = starts;
    this.#end = end;
  }

  /** Encoded bytes of messages `first` to `last`, both included. */
  bytesOf(first: number, last: number): number {
    return this.#startOf(last + 1) - this.#startOf(first);
  }

  /** How many of `count` messages from `first` fit into `bytes` together. */
  fitting(first: number, count: number, bytes: number): number {
    if (this.bytesOf(first, first + count - 1) <= bytes) return count;
    let low = 0;
    let high = count - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.bytesOf(first, first + middle - 1) <= bytes) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The same for a part, without keeping a much larger table in memory. */
  part(first: number, count: number): MessageSizes {
    if (this.#starts.length <= count * SLACK_FACTOR) return this;
    const index = first - this.#firstSequence;
    return new MessageSizes(first, this.#starts.slice(index, index + count), this.#startOf(first + count));
  }

  #startOf(sequence: number): number {
    return this.#starts[sequence - this.#firstSequence] ?? this.#end;
  }
}
