/** What a heap holds. An item is in at most one heap at a time. */
export interface Ranked {
  /** The lowest comes first. Changed only by the heap while the item is in one, unless its place stays the same. */
  rank: number;
  /** Where the heap keeps it; -1 outside. */
  slot: number;
}

/** A binary heap that can take out any item: all in O(log n), and O(1) for an item that ranks last. */
export class Heap<T extends Ranked> {
  #items: T[] = [];

  /** The item that ranks lowest. */
  peek(): T | undefined {
    return this.#items[0];
  }

  push(item: T): void {
    this.#items.push(item);
    this.#rise(item, this.#items.length - 1);
  }

  remove(item: T): void {
    const { slot } = item;
    const last = this.#items.pop();
    item.slot = -1;
    if (!last || last === item) return;
    this.#rise(last, slot);
    this.#sink(last, last.slot);
  }

  /** Takes out and returns everything that `keep` refuses. */
  sift(keep: (item: T) => boolean): T[] {
    const refused: T[] = [];
    const kept: T[] = [];
    for (const item of this.#items) (keep(item) ? kept : refused).push(item);
    this.#items = [];
    for (const item of refused) item.slot = -1;
    for (const item of kept) this.push(item);
    return refused;
  }

  #rise(item: T, from: number): void {
    let slot = from;
    while (slot > 0) {
      const above = this.#items[(slot - 1) >> 1];
      if (!above || above.rank <= item.rank) break;
      this.#place(above, slot);
      slot = (slot - 1) >> 1;
    }
    this.#place(item, slot);
  }

  #sink(item: T, from: number): void {
    let slot = from;
    for (;;) {
      const below = this.#lowerChild(slot);
      if (!below || below.rank >= item.rank) break;
      const next = below.slot;
      this.#place(below, slot);
      slot = next;
    }
    this.#place(item, slot);
  }

  #lowerChild(slot: number): T | undefined {
    const left = this.#items[2 * slot + 1];
    const right = this.#items[2 * slot + 2];
    return left && right && right.rank < left.rank ? right : left;
  }

  #place(item: T, slot: number): void {
    this.#items[slot] = item;
    item.slot = slot;
  }
}
