/**
 * The store port: an ordered key-value store with a revision per key, compare-and-set, atomic batches and watches.
 * Features see the store only through this file. Keys are UTF-8 strings ordered by their bytes; one aggregate is one value,
 * so that a distributed engine can stand behind the port later.
 */

/** A stored value with the revision of the write that made it. */
export interface Entry {
  readonly key: string;
  readonly value: Uint8Array;
  /** Revision of the batch that wrote this value; rises over the whole store, never repeats. */
  readonly revision: number;
}

/**
 * One change in a batch. `expect` is compare-and-set: the key must be at exactly that revision, 0 meaning "not there".
 * Without `expect` the change is unconditional.
 */
export type Mutation =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array; readonly expect?: number }
  | { readonly kind: 'delete'; readonly key: string; readonly expect?: number };

/** Which keys, in byte order. Every bound given must hold; none means all. */
export interface KeyRange {
  readonly prefix?: string;
  /** Keys strictly after this one: the cursor of a paged read. */
  readonly after?: string;
  /** Keys strictly before this one. */
  readonly before?: string;
  readonly reverse?: boolean;
  readonly limit?: number;
}

/** What one committed batch changed below the watched prefix. */
export interface Change {
  readonly revision: number;
  readonly key: string;
  /** Undefined: the key was deleted. */
  readonly value: Uint8Array | undefined;
}

/**
 * Lifecycle: an instance is open from the moment its factory resolves until close() is called. Every call on a closed store rejects
 * with `unavailable`. After a failed write the store is failed: every later call rejects with `unavailable`, and the caller is
 * expected to exit or reopen; the failed write's outcome is unknown until then.
 */
export interface Store {
  /** Revision of the newest committed batch; 0 for a new store. */
  readonly revision: number;

  /** @throws data_loss when the stored bytes fail their checksum; unavailable when closed or failed */
  get(key: string): Promise<Entry | undefined>;

  /** A consistent snapshot in byte order. @throws as get */
  range(range?: KeyRange): AsyncIterable<Entry>;

  /**
   * Applies all mutations or none, and resolves with the new revision once they are durable (fsynced, for a driver on disk).
   * Batches become visible in the order they were asked for. An empty batch resolves with the current revision.
   * The values are copied before the call returns. A delete of a key that is not there changes nothing.
   * @throws conflict when an `expect` does not hold (nothing is written); invalid when two mutations name one key or a bound is exceeded;
   *   exhausted when the disk's free space is below the driver's floor or WRITE_BACKLOG_BYTES_MAX are waiting (nothing is written);
   *   data_loss when a key it names is damaged (nothing is written); unavailable when closed or failed
   */
  write(mutations: readonly Mutation[]): Promise<number>;

  /**
   * Changes below `prefix` committed after the call, in order, until the signal aborts or the store closes (then iteration ends).
   * A watcher that falls behind by more than WATCH_BACKLOG_CHANGES_MAX or WATCH_BACKLOG_BYTES_MAX gets what is queued and then ends with
   * `exhausted`: watch again, then list again. A store that fails ends its watches with `unavailable`.
   * To miss nothing, start watching before listing and skip changes at or below the revision of the entry already read.
   */
  watch(prefix: string, signal: AbortSignal): AsyncIterable<Change>;

  /** Why writes are refused now, and what to do; empty where they are not. Left out by what stores without refusing. Never rejects. */
  problem?(): Promise<string>;

  /** Resolves when a driver's write failed and it stopped itself; never rejects. The process should then exit or reopen. */
  readonly failed: Promise<Error>;

  /** Finishes writes under way, ends watches, releases the lock. Safe to call twice. */
  close(): Promise<void>;
}

/** Changes a watcher may be behind before it is cut off. */
export const WATCH_BACKLOG_CHANGES_MAX = 10_000;
/** Bytes of keys and values a watcher may be behind before it is cut off. */
export const WATCH_BACKLOG_BYTES_MAX = 64 * 1024 * 1024;
/** Longest key in UTF-8 bytes; the shortest is one byte. A key is well-formed Unicode: no lone surrogates. */
export const KEY_BYTES_MAX = 1024;
/** Largest value. */
export const VALUE_BYTES_MAX = 16 * 1024 * 1024;
/** Mutations in one batch. */
export const BATCH_MUTATIONS_MAX = 10_000;
/** Bytes of keys and values in one batch. */
export const BATCH_BYTES_MAX = 64 * 1024 * 1024;
/** Bytes of batches waiting to be committed; beyond it write() refuses. */
export const WRITE_BACKLOG_BYTES_MAX = 128 * 1024 * 1024;
