import type { Clock } from '../kit/clock.js';
import type { Logger } from '../kit/logger.js';
import { KeyedMutex } from '../kit/tasks.js';
import { Documents, type Codec } from '../store/documents.js';
import type { Mutation, Store } from '../store/port.js';
import { Changes } from './changes.js';

export interface TableOptions<T> {
  readonly store: Store;
  /** Key prefix, ending in `/`. */
  readonly prefix: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly codec?: Codec<T>;
}

/** A document and the revision of the write that made it; 0 while its first write is under way. */
export interface Row<T> {
  readonly value: T;
  readonly revision: number;
}

/**
 * A collection of documents held whole in memory, of which this process is the only writer: reading costs nothing.
 * What save() and remove() changed is seen only once it is durable. What set() changed is seen at once and becomes durable soon after:
 * for facts that their source tells again after a crash.
 */
export class Table<T> {
  readonly changes: Changes;
  readonly #store: Store;
  readonly #logger: Logger;
  readonly #documents: Documents<T>;
  readonly #rows = new Map<string, Row<T>>();
  readonly #mutex = new KeyedMutex();
  readonly #dirty = new Set<string>();
  #flushing: Promise<void> | undefined;

  private constructor(options: TableOptions<T>) {
    this.changes = new Changes(options.clock);
    this.#store = options.store;
    this.#logger = options.logger;
    this.#documents = new Documents<T>(options.store, options.prefix, options.codec);
  }

  /** Reads all documents. @throws as Documents.list */
  static async open<T>(options: TableOptions<T>): Promise<Table<T>> {
    const table = new Table<T>(options);
    for await (const { id, value, revision } of table.#documents.list()) table.#rows.set(id, { value, revision });
    return table;
  }

  get size(): number {
    return this.#rows.size;
  }

  get(id: string): T | undefined {
    return this.#rows.get(id)?.value;
  }

  row(id: string): Row<T> | undefined {
    return this.#rows.get(id);
  }

  has(id: string): boolean {
    return this.#rows.has(id);
  }

  ids(): string[] {
    return [...this.#rows.keys()];
  }

  values(): T[] {
    return [...this.#rows.values()].map(({ value }) => value);
  }

  /**
   * Changes one document, one change at a time per id. `change` gets the document as it is and returns what it shall be; undefined
   * removes it, and returning what it was given writes nothing. Resolves with the document as it is then, once that is durable.
   * `also` goes into the same batch.
   * @throws what `change` throws; as Store.write
   */
  async save(
    id: string,
    change: (current: T | undefined) => T | undefined,
    also: readonly Mutation[] = [],
  ): Promise<T | undefined> {
    return this.#mutex.run(id, async () => {
      const current = this.get(id);
      const value = change(current);
      if (value === current && also.length === 0) return current;
      const mutation = value === undefined ? this.#documents.deleting(id) : this.#documents.putting(id, value);
      const revision = await this.#store.write([mutation, ...also]);
      this.#apply(id, value, revision);
      return value;
    });
  }

  /** Stores a document whatever was there. Resolves once durable. */
  async put(id: string, value: T): Promise<void> {
    await this.save(id, () => value);
  }

  /** Removes documents together. Resolves once durable. */
  async remove(ids: readonly string[], also: readonly Mutation[] = []): Promise<void> {
    const revision = await this.#store.write([...ids.map((id) => this.#documents.deleting(id)), ...also]);
    for (const id of ids) this.#apply(id, undefined, revision);
  }

  /** Stores documents together; the caller sees to it that nobody saves one of them meanwhile. Resolves once durable. */
  async putAll(entries: readonly (readonly [id: string, value: T])[], also: readonly Mutation[] = []): Promise<number> {
    const revision = await this.#store.write([
      ...entries.map(([id, value]) => this.#documents.putting(id, value)),
      ...also,
    ]);
    for (const [id, value] of entries) this.#apply(id, value, revision);
    return revision;
  }

  /** The change that a put makes, for a batch of someone else; call applied() once it is durable. */
  putting(id: string, value: T): Mutation {
    return this.#documents.putting(id, value);
  }

  /** Takes over a put that was made durable in a batch of someone else. */
  applied(id: string, value: T, revision: number): void {
    this.#apply(id, value, revision);
  }

  /** Changes a document in memory at once and on disk soon after. Undefined removes it. */
  set(id: string, value: T | undefined): void {
    this.#apply(id, value, this.#rows.get(id)?.revision ?? 0);
    this.#dirty.add(id);
    this.#flushing ??= this.#flush();
  }

  /** Resolves once everything set so far is durable, or the store has failed. */
  async flushed(): Promise<void> {
    while (this.#flushing) await this.#flushing;
  }

  #apply(id: string, value: T | undefined, revision: number): void {
    if (value === undefined) this.#rows.delete(id);
    else this.#rows.set(id, { value, revision });
    this.changes.emit(id);
  }

  async #flush(): Promise<void> {
    // Lets the other changes of this turn of the event loop join the batch.
    await Promise.resolve();
    try {
      while (this.#dirty.size > 0) await this.#writeDirty();
    } catch (error) {
      // A store that failed ends the process; one without room is written to again with the next change.
      this.#logger.error('could not store what was reported; it is kept in memory', { error });
    } finally {
      this.#flushing = undefined;
    }
  }

  async #writeDirty(): Promise<void> {
    const ids = [...this.#dirty].slice(0, FLUSH_DOCUMENTS_MAX);
    for (const id of ids) this.#dirty.delete(id);
    const mutations = ids.map((id) => {
      const row = this.#rows.get(id);
      return row ? this.#documents.putting(id, row.value) : this.#documents.deleting(id);
    });
    try {
      await this.#store.write(mutations);
    } catch (error) {
      for (const id of ids) this.#dirty.add(id);
      throw error;
    }
  }
}

/** Documents of one batch of a flush. */
const FLUSH_DOCUMENTS_MAX = 500;
