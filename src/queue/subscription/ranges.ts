import type { SequenceRange } from '../log/port.js';

/** A set of integers kept as rising ranges that do not touch: [from, until). */
export class RangeSet {
  #from: number[] = [];
  #until: number[] = [];
  #size = 0;

  constructor(ranges: readonly SequenceRange[] = []) {
    for (const { from, until } of ranges) this.add(from, until);
  }

  /** How many integers. */
  get size(): number {
    return this.#size;
  }

  /** How many ranges. */
  get ranges(): number {
    return this.#from.length;
  }

  /** The first integer; undefined when empty. */
  get first(): number | undefined {
    return this.#from[0];
  }

  /** Behind the last integer; undefined when empty. */
  get end(): number | undefined {
    return this.#until.at(-1);
  }

  /** Adds all of [from, until). */
  add(from: number, until: number): void {
    if (until <= from) return;
    const count = this.#from.length;
    const last = this.#until[count - 1];
    if (last === undefined || from > last) {
      this.#from.push(from);
      this.#until.push(until);
      this.#size += until - from;
      return;
    }
    this.#merge(from, until);
  }

  /** Takes out all of [from, until). */
  remove(from: number, until: number): void {
    if (until <= from) return;
    let index = this.#endingBehind(from);
    for (let start = this.#from[index]; start !== undefined && start < until; start = this.#from[index]) {
      const end = this.#until[index] ?? start;
      const pieces: [number, number][] = [];
      if (start < from) pieces.push([start, from]);
      if (end > until) pieces.push([until, end]);
      this.#from.splice(index, 1, ...pieces.map(([at]) => at));
      this.#until.splice(index, 1, ...pieces.map(([, at]) => at));
      this.#size -= Math.min(end, until) - Math.max(start, from);
      index += pieces.length;
    }
  }

  has(value: number): boolean {
    return this.endOf(value) !== undefined;
  }

  /** Where the range that holds `value` ends; undefined when `value` is not in the set. */
  endOf(value: number): number | undefined {
    const index = this.#endingBehind(value);
    const start = this.#from[index];
    return start !== undefined && start <= value ? this.#until[index] : undefined;
  }

  /** The first integer at or behind `value`; undefined when there is none. */
  firstFrom(value: number): number | undefined {
    const start = this.#from[this.#endingBehind(value)];
    return start === undefined ? undefined : Math.max(start, value);
  }

  /** How many integers of [from, until) are in the set. */
  countIn(from: number, until: number): number {
    let count = 0;
    for (let index = this.#endingBehind(from); ; index += 1) {
      const start = this.#from[index];
      if (start === undefined || start >= until) return count;
      count += Math.min(this.#until[index] ?? start, until) - Math.max(start, from);
    }
  }

  clear(): void {
    this.#from = [];
    this.#until = [];
    this.#size = 0;
  }

  list(): SequenceRange[] {
    return this.#from.map((from, index) => ({ from, until: this.#until[index] ?? from }));
  }

  /** Adds a range that may touch or overlap others. */
  #merge(from: number, until: number): void {
    const index = this.#endingBehind(from - 1);
    let behind = index;
    let low = from;
    let high = until;
    for (let start = this.#from[behind]; start !== undefined && start <= until; start = this.#from[behind]) {
      const end = this.#until[behind] ?? start;
      low = Math.min(low, start);
      high = Math.max(high, end);
      this.#size -= end - start;
      behind += 1;
    }
    this.#size += high - low;
    if (behind === index + 1) {
      this.#from[index] = low;
      this.#until[index] = high;
      return;
    }
    this.#from.splice(index, behind - index, low);
    this.#until.splice(index, behind - index, high);
  }

  /** Index of the first range that ends behind `value`. */
  #endingBehind(value: number): number {
    let low = 0;
    let high = this.#until.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#until[middle] ?? Infinity) > value) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
