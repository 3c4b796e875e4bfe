import type { SequenceRange } from '../log/port.js';
import { Spans, type Extent } from './spans.js';

interface Range {
  from: number;
  until: number;
}

const ITSELF: Extent<Range> = { from: ({ from }) => from, until: ({ until }) => until };

/** A set of integers kept as rising ranges that do not touch. */
export class RangeSet {
  readonly #ranges = new Spans<Range>(ITSELF);

  constructor(ranges: readonly SequenceRange[] = []) {
    for (const { from, until } of ranges) this.add(from, until);
  }

  /** How many ranges. */
  get ranges(): number {
    return this.#ranges.size;
  }

  /** The first integer; undefined when empty. */
  get first(): number | undefined {
    return this.#ranges.first?.from;
  }

  /** Behind the last integer; undefined when empty. */
  get end(): number | undefined {
    return this.#ranges.last?.until;
  }

  /** Adds all of [from, until). */
  add(from: number, until: number): void {
    if (until <= from) return;
    // Those that only touch become one with it, too.
    const [first, ...others] = this.#ranges.overlapping(from - 1, until + 1);
    if (!first) {
      this.#ranges.add({ from, until });
      return;
    }
    for (const other of others) this.#ranges.remove(other);
    first.from = Math.min(first.from, from);
    first.until = Math.max(first.until, until, others.at(-1)?.until ?? 0);
  }

  /** Takes out all of [from, until). */
  remove(from: number, until: number): void {
    if (until <= from) return;
    for (const range of this.#ranges.overlapping(from, until)) {
      const { from: start, until: end } = range;
      if (start >= from) this.#ranges.remove(range);
      else range.until = from;
      if (end > until) this.#ranges.add({ from: until, until: end });
    }
  }

  has(value: number): boolean {
    return this.endOf(value) !== undefined;
  }

  /** Where the range that holds `value` ends; undefined when `value` is not in the set. */
  endOf(value: number): number | undefined {
    const range = this.#ranges.firstBehind(value);
    return range && range.from <= value ? range.until : undefined;
  }

  /** The first integer at or behind `value`; undefined when there is none. */
  firstFrom(value: number): number | undefined {
    const range = this.#ranges.firstBehind(value);
    return range && Math.max(range.from, value);
  }

  /** How many integers of [from, until) are in the set. */
  countIn(from: number, until: number): number {
    let count = 0;
    for (const range of this.#ranges.overlapping(from, until)) {
      count += Math.min(range.until, until) - Math.max(range.from, from);
    }
    return count;
  }

  clear(): void {
    this.#ranges.clear();
  }

  list(): SequenceRange[] {
    return Array.from(this.#ranges, ({ from, until }) => ({ from, until }));
  }
}
