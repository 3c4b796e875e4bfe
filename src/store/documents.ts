import { MusterError, isCode, messageOf } from '../kit/errors.js';
import type { Change, KeyRange, Mutation, Store } from './port.js';

/** Turns what JSON holds into a T and back. */
export interface Codec<T> {
  /** Checks a parsed value, for example with a zod schema's `parse`. Throws when it does not fit. */
  decode(parsed: unknown): T;
  /** What to store; default: the value itself. */
  encode?(value: T): unknown;
}

/** A document as it is stored. */
export interface Document<T> {
  readonly id: string;
  readonly value: T;
  /** Of the write that made it. */
  readonly revision: number;
}

/** What one batch did to a document. */
export interface DocumentChange<T> {
  readonly id: string;
  /** Undefined: it was deleted. */
  readonly value: T | undefined;
  readonly revision: number;
}

export interface ListOptions {
  /** Continue behind this id, in the direction of the list: the last id of the page before. */
  readonly after?: string;
  readonly limit?: number;
  readonly reverse?: boolean;
  /** Only ids that start so. */
  readonly prefix?: string;
}

/** Compare-and-set: the document must be at exactly this revision, 0 meaning "not there". */
export interface WriteOptions {
  readonly expect?: number;
}

/** Tries of update() before it gives up against other writers. */
const UPDATE_TRIES_MAX = 32;
const FORBIDDEN = '__proto__';

/** Where an own `__proto__` is in a value made of JSON, or undefined. Merging such a value would change every object's prototype. */
function forbiddenPath(value: unknown, path = '$'): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  for (const [name, child] of Object.entries(value)) {
    if (name === FORBIDDEN) return `${path}.${name}`;
    const found = forbiddenPath(child, `${path}.${name}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function assertNoForbiddenKey(key: string, text: string, parsed: () => unknown): void {
  // Most documents do not hold the word at all: they pay one search.
  if (!text.includes(FORBIDDEN) && !text.includes('\\u')) return;
  const path = forbiddenPath(parsed());
  if (path !== undefined) {
    throw new MusterError('invalid', `document "${key}" has the name ${FORBIDDEN} at ${path}: choose another name`, {
      reason: 'FORBIDDEN_NAME',
    });
  }
}

function escapeId(id: string): string {
  return id.replaceAll('%', '%25').replaceAll('/', '%2F');
}

function unescapeId(escaped: string): string {
  return escaped.replaceAll('%2F', '/').replaceAll('%25', '%');
}

/**
 * A typed view of the JSON documents below one key prefix, for example `machines/`. An id is one escaped path segment: `/` is stored
 * as `%2F` and `%` as `%25`, so no id reaches outside the prefix, and keys of deeper prefixes (`machines/labels/...`) are not documents of
 * this one. Documents are ordered by the bytes of their escaped ids.
 */
export class Documents<T> {
  readonly #store: Store;
  readonly #prefix: string;
  readonly #codec: Codec<T>;

  /**
   * Without a codec a document is taken as it was stored.
   * @throws invalid when the prefix does not end in `/`
   */
  constructor(store: Store, prefix: string, codec: Codec<T> = { decode: (parsed) => parsed as T }) {
    if (!prefix.endsWith('/') || prefix === '/')
      throw new MusterError('invalid', `prefix "${prefix}" must be a name that ends in "/"`);
    this.#store = store;
    this.#prefix = prefix;
    this.#codec = codec;
  }

  /** @throws as Store.get; data_loss when it is not JSON; internal when the codec refuses it */
  async get(id: string): Promise<Document<T> | undefined> {
    const key = this.#key(id);
    const entry = await this.#store.get(key);
    return entry && { id, value: this.#decode(key, entry.value), revision: entry.revision };
  }

  /** A consistent snapshot. @throws as get */
  async *list(options: ListOptions = {}): AsyncGenerator<Document<T>> {
    const { limit = Infinity } = options;
    let count = 0;
    if (limit <= 0) return;
    for await (const { key, value, revision } of this.#store.range(this.#range(options))) {
      const id = this.#id(key);
      if (id === undefined) continue;
      yield { id, value: this.#decode(key, value), revision };
      count += 1;
      if (count >= limit) return;
    }
  }

  /** As list, gathered; for collections known to be small, or with a limit. */
  async all(options: ListOptions = {}): Promise<Document<T>[]> {
    const documents: Document<T>[] = [];
    for await (const document of this.list(options)) documents.push(document);
    return documents;
  }

  /** Resolves with the new revision once durable. @throws as Store.write; invalid when the value cannot be stored as JSON */
  async put(id: string, value: T, { expect }: WriteOptions = {}): Promise<number> {
    return this.#store.write([this.putting(id, value, expect)]);
  }

  /** Deleting what is not there is no error, unless `expect` says so. @throws as Store.write */
  async delete(id: string, { expect }: WriteOptions = {}): Promise<number> {
    return this.#store.write([this.deleting(id, expect)]);
  }

  /**
   * Reads, changes and writes with compare-and-set, again when another writer was faster; `change` may thus run several times and must
   * have no effects. It returns the new value, or undefined to delete the document; returning the value it was given writes nothing.
   * Resolves with the document as it is then, undefined when it is not there.
   * @throws what `change` throws; conflict after UPDATE_TRIES_MAX lost races; as get and put
   */
  async update(id: string, change: (current: T | undefined) => T | undefined): Promise<Document<T> | undefined> {
    for (let tries = 1; ; tries += 1) {
      const current = await this.get(id);
      const value = change(current?.value);
      if (value === current?.value) return current;
      try {
        return await this.#replace(id, value, current?.revision ?? 0);
      } catch (error) {
        if (tries >= UPDATE_TRIES_MAX || !isCode(error, 'conflict')) throw error;
      }
    }
  }

  /** The change that put() makes, for a batch over several documents. @throws invalid */
  putting(id: string, value: T, expect?: number): Mutation {
    const key = this.#key(id);
    return { kind: 'put', key, value: this.#encode(key, value), ...(expect === undefined ? {} : { expect }) };
  }

  /** The change that delete() makes, for a batch over several documents. @throws invalid */
  deleting(id: string, expect?: number): Mutation {
    return { kind: 'delete', key: this.#key(id), ...(expect === undefined ? {} : { expect }) };
  }

  /** Changes committed after the call. Bounds and ends as Store.watch. @throws as Store.watch and get */
  watch(signal: AbortSignal): AsyncIterable<DocumentChange<T>> {
    return this.#changes(this.#store.watch(this.#prefix, signal));
  }

  async *#changes(changes: AsyncIterable<Change>): AsyncGenerator<DocumentChange<T>> {
    for await (const { key, value, revision } of changes) {
      const id = this.#id(key);
      if (id !== undefined) yield { id, value: value && this.#decode(key, value), revision };
    }
  }

  async #replace(id: string, value: T | undefined, expect: number): Promise<Document<T> | undefined> {
    if (value !== undefined) return { id, value, revision: await this.put(id, value, { expect }) };
    await this.delete(id, { expect });
    return undefined;
  }

  /** Without the limit: keys of deeper prefixes are skipped after reading. */
  #range({ prefix, after, reverse }: ListOptions): KeyRange {
    const cursor = after === undefined ? {} : { [reverse ? 'before' : 'after']: this.#key(after) };
    return { prefix: this.#prefix + escapeId(prefix ?? ''), ...cursor, reverse: reverse ?? false };
  }

  #key(id: string): string {
    if (id === '') throw new MusterError('invalid', `an id below "${this.#prefix}" must not be empty`);
    return this.#prefix + escapeId(id);
  }

  /** Undefined for a key of a deeper prefix. */
  #id(key: string): string | undefined {
    const escaped = key.slice(this.#prefix.length);
    return escaped === '' || escaped.includes('/') ? undefined : unescapeId(escaped);
  }

  #encode(key: string, value: T): Uint8Array {
    const plain = this.#codec.encode ? this.#codec.encode(value) : value;
    let text: unknown;
    try {
      text = JSON.stringify(plain);
    } catch (error) {
      throw new MusterError('invalid', `document "${key}" cannot be stored as JSON: ${messageOf(error)}`, {
        cause: error,
      });
    }
    if (typeof text !== 'string')
      throw new MusterError('invalid', `document "${key}" cannot be stored as JSON: it is ${typeof plain}`);
    assertNoForbiddenKey(key, text, () => plain);
    return Buffer.from(text);
  }

  #decode(key: string, bytes: Uint8Array): T {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch (error) {
      throw new MusterError('data_loss', `document "${key}" is not JSON: restore the data directory from a backup`, {
        cause: error,
      });
    }
    assertNoForbiddenKey(key, text, () => parsed);
    try {
      return this.#codec.decode(parsed);
    } catch (error) {
      throw new MusterError(
        'internal',
        `document "${key}" does not have the shape this version expects: ${messageOf(error)}`,
        {
          reason: 'DOCUMENT_SHAPE',
          cause: error,
        },
      );
    }
  }
}
