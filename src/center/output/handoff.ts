/**
 * Passes items from one producer to one consumer hand to hand: put() resolves when its item was taken, so at most one item is in
 * between. After close() nothing is taken any more and put() resolves at once.
 */
export class Handoff<T> implements AsyncIterable<T> {
  #item: Given<T> | undefined;
  #end: { readonly error?: Error } | undefined;
  #wake: () => void = () => undefined;

  /** Resolves when the item was taken, or nobody will take it any more. */
  async put(value: T): Promise<void> {
    if (this.#end) return;
    await new Promise<void>((taken) => {
      this.#item = { value, taken };
      this.#wake();
    });
  }

  /** No more items; an item not taken yet is given before the end. With an error, iteration then throws it. */
  close(error?: Error): void {
    if (this.#end) return;
    this.#end = error ? { error } : {};
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    try {
      for (let item = await this.#next(); item; item = await this.#next()) {
        item.taken();
        yield item.value;
      }
      if (this.#end?.error) throw this.#end.error;
    } finally {
      this.close();
      this.#item?.taken();
      this.#item = undefined;
    }
  }

  /** Undefined: there are no more. */
  async #next(): Promise<Given<T> | undefined> {
    while (!this.#item && !this.#end) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const item = this.#item;
    this.#item = undefined;
    return item;
  }
}

interface Given<T> {
  readonly value: T;
  readonly taken: () => void;
}
