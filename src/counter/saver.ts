/**
 * Group commit for one aggregate: each save() resolves after a write that began after the call, and calls made while a write runs
 * share the next one. A failed write fails those who waited for it; `write` must leave what it could not store to the next.
 */
export class Saver {
  readonly #write: () => Promise<void>;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(write: () => Promise<void>) {
    this.#write = write;
  }

  save(): Promise<void> {
    this.#next ??= this.#after(this.#running);
    return this.#next;
  }

  async #after(before: Promise<void>): Promise<void> {
    await before;
    const written = this.#write();
    this.#running = written.catch(() => undefined);
    this.#next = undefined;
    await written;
  }
}
