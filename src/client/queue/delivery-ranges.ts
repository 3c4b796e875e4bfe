import type { DeliveryRange } from '../../../generated/muster/v1/queue.js';

/** Delivery ids gathered into ranges. Cheap for ids that come in order. */
export class DeliveryRanges {
  #ranges: { first: number; last: number }[] = [];
  #rising = true;

  get empty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Adds `first` to `last`, both included; none of them was added before. */
  add(first: number, last: number): void {
    const newest = this.#ranges.at(-1);
    if (newest?.last === first - 1) {
      newest.last = last;
      return;
    }
    if (newest && first < newest.first) this.#rising = false;
    this.#ranges.push({ first, last });
  }

  /** The ranges, rising, not touching each other; there are none afterwards. */
  take(): DeliveryRange[] {
    const ranges = this.#rising ? this.#ranges : merged(this.#ranges);
    this.#ranges = [];
    this.#rising = true;
    return ranges;
  }
}

function merged(ranges: readonly DeliveryRange[]): { first: number; last: number }[] {
  const result: { first: number; last: number }[] = [];
  for (const { first, last } of [...ranges].sort((a, b) => a.first - b.first)) {
    const newest = result.at(-1);
    if (newest?.last === first - 1) newest.last = last;
    else result.push({ first, last });
  }
  return result;
}
