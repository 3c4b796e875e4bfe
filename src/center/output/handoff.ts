/**
 * Passes items from producers to one consumer hand to hand: put() resolves when its item was taken, so at most one item of each producer is
 * in between. Items are taken in the order they were put: no producer is passed over. After close() nothing is taken any more and put()
 * resolves at once.
 */
export class Handoff<T> implements AsyncIterable<T> {
  #items: Given<T>[] = [];
  #end: { readonly error?: Error } | undefined;
  #wake: () => void = () => undefined;

  /** Resolves when the item was taken, or nobody will take it any more. */
  async put(value: T): Promise<void> {
    if (this.#end) return;
    await new Promise<void>((taken) => {
      this.#items.push({ value, taken });
      this.#wake();
    });
  }

  /** No more items; those not taken yet are given before the end. With an error, iteration then throws it. */
  close(error?: Error): void {
    if (this.#end) return;
    this.#end = error ? { error } : {};
    this.#wake();
  }

  /** The consumer takes no more: items not taken are dropped, and their producers go on. */
  abandon(): void {
    this.close();
    for (const item of this.#items.splice(0)) item.taken();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    try {
      for (let item = await this.#next(); item; item = await this.#next()) {
        item.taken();
        yield item.value;
      }
      if (this.#end?.error) throw this.#end.error;
    } finally {
      this.abandon();
    }
  }

  /** Undefined: there are no more. */
  async #next(): Promise<Given<T> | undefined> {
    while (this.#items.length === 0 && !this.#end) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#items.shift();
  }
}

interface Given<T> {
  readonly value: T;
  readonly taken: () => void;
}
