import type { Change, Entry, KeyRange, Mutation, Store } from '../../src/store/port.js';

/** A store whose writes wait, or fail, as the test says. */
export class HeldStore implements Store {
  readonly #store: Store;
  #held: Promise<void> = Promise.resolve();
  #failure: Error | undefined;
  /** Writes asked for so far. */
  writes = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  get revision(): number {
    return this.#store.revision;
  }

  get failed(): Promise<Error> {
    return this.#store.failed;
  }

  /** Writes wait until the function returned is called. */
  hold(): () => void {
    let release: () => void = () => undefined;
    this.#held = new Promise((resolve) => {
      release = resolve;
    });
    return release;
  }

  /** Writes fail, until called without an error. */
  fail(error?: Error): void {
    this.#failure = error;
  }

  get(key: string): Promise<Entry | undefined> {
    return this.#store.get(key);
  }

  range(range?: KeyRange): AsyncIterable<Entry> {
    return this.#store.range(range);
  }

  async write(mutations: readonly Mutation[]): Promise<number> {
    this.writes += 1;
    await this.#held;
    if (this.#failure) throw this.#failure;
    return this.#store.write(mutations);
  }

  watch(prefix: string, signal: AbortSignal): AsyncIterable<Change> {
    return this.#store.watch(prefix, signal);
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
