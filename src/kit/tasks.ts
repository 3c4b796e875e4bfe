import { setMaxListeners } from 'node:events';
import { MusterError } from './errors.js';

/** Work that runs until it is finished or its signal aborts. */
export type Task = (signal: AbortSignal) => Promise<void>;

/** The reason of an abort that is a wanted end, not a failure. */
export function stopped(what: string): MusterError {
  return new MusterError('cancelled', `${what} is stopping`);
}

/**
 * Runs tasks together: the first failure, or the parent's abort, aborts the rest, and the call ends only when all have ended.
 * A task that returns normally ends alone.
 * @throws the first failure. Ending because `parent` aborted is not a failure.
 */
export async function runTasks(parent: AbortSignal, tasks: readonly Task[]): Promise<void> {
  const controller = new AbortController();
  const signal = AbortSignal.any([parent, controller.signal]);
  // A process has more tasks than the ten listeners from which on Node warns of a leak.
  setMaxListeners(0, signal);
  let failure: { error: unknown } | undefined;
  await Promise.all(
    tasks.map(async (task) => {
      try {
        await task(signal);
      } catch (error) {
        if (!signal.aborted) {
          failure = { error };
          controller.abort(error);
        }
      }
    }),
  );
  if (failure) throw failure.error;
}

/** Resolves when the signal aborts; at once if it has. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else
      signal.addEventListener(
        'abort',
        () => {
          resolve();
        },
        { once: true },
      );
  });
}

/** Calls `then` when the signal aborts, or now if it has, until the function it answers with is called: for signals that outlive what listens. */
export function onAbort(signal: AbortSignal | undefined, then: () => void): () => void {
  if (signal?.aborted === true) then();
  else signal?.addEventListener('abort', then, { once: true });
  return () => {
    signal?.removeEventListener('abort', then);
  };
}

/**
 * Runs `work` for one key at a time, in the order asked; different keys run together.
 * Holds no memory for idle keys.
 */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();
  /** Work running or waiting, by key. */
  readonly #asked = new Map<string, number>();

  /** Whether work for `key` waits behind what is running. */
  contended(key: string): boolean {
    return (this.#asked.get(key) ?? 0) > 1;
  }

  /** Whether work for `key` is running or waiting. */
  busy(key: string): boolean {
    return this.#tails.has(key);
  }

  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const result = before.then(work);
    const tail = result.then(
      () => undefined,
      () => undefined,
    );
    this.#tails.set(key, tail);
    this.#asked.set(key, (this.#asked.get(key) ?? 0) + 1);
    try {
      return await result;
    } finally {
      const left = (this.#asked.get(key) ?? 1) - 1;
      if (left > 0) this.#asked.set(key, left);
      else this.#asked.delete(key);
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}

/**
 * Runs `work` for every item, at most `limit` at once, begun in order; resolves with the results in the items' order.
 * @throws the first failure, after what had begun has ended
 */
export async function mapBounded<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let failure: { error: unknown } | undefined;
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length && !failure) {
      const index = next;
      next += 1;
      try {
        results[index] = await work(items[index] as T);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  if (failure) throw failure.error;
  return results;
}
