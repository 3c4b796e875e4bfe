import type { Clock, Timer } from '../kit/clock.js';
import { onAbort } from '../kit/tasks.js';

/** A watcher hears at least this often, so that both ends know the stream is alive. */
export const BOOKMARK_INTERVAL_MS = 15_000;

/**
 * Tells which ids of a collection changed. A watcher that falls behind gets each changed id once, so what waits for it is bounded by
 * the number of ids; the reader looks up the newest value itself.
 */
export class Changes {
  readonly #clock: Clock;
  readonly #listeners = new Set<(id: string) => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Those listening now; for tests that nothing is left behind. */
  get listeners(): number {
    return this.#listeners.size;
  }

  emit(id: string): void {
    for (const listener of [...this.#listeners]) listener(id);
  }

  /** Calls `listener` at each change. Returns how to stop. */
  listen(listener: (id: string) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /**
   * Ids changed since the last step, in the order of their first change; empty when nothing changed for `idleMs` (a bookmark).
   * Listens from the call on, not from the first step. Ends when the signal aborts, or with return(), also before the first step.
   */
  watch(signal: AbortSignal, idleMs = BOOKMARK_INTERVAL_MS): AsyncIterableIterator<readonly string[]> {
    const waiting = new Set<string>();
    let wake: () => void = () => undefined;
    const stop = this.listen((id) => {
      waiting.add(id);
      wake();
    });
    const steps = this.#steps({ waiting, signal, idleMs, stop, setWake: (next) => (wake = next) });
    const unlink = onAbort(signal, stop);
    const end = (): void => {
      unlink();
      stop();
    };
    // A generator that was never begun runs nothing when it is returned, not even its finally.
    const watch: AsyncIterableIterator<readonly string[]> = {
      next: () => steps.next(),
      return: () => {
        end();
        return steps.return(undefined);
      },
      [Symbol.asyncIterator]: () => watch,
    };
    return watch;
  }

  async *#steps(watcher: Watcher): AsyncGenerator<readonly string[]> {
    const { waiting, signal } = watcher;
    try {
      while (!signal.aborted) {
        if (waiting.size === 0) await this.#somethingOrIdle(watcher);
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- it may have aborted while this waited
        if (signal.aborted) return;
        const ids = [...waiting];
        waiting.clear();
        yield ids;
      }
    } finally {
      watcher.stop();
    }
  }

  #somethingOrIdle({ signal, idleMs, setWake }: Watcher): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | undefined = undefined;
      const done = (): void => {
        timer?.cancel();
        signal.removeEventListener('abort', done);
        setWake(() => undefined);
        resolve();
      };
      setWake(done);
      signal.addEventListener('abort', done, { once: true });
      timer = this.#clock.after(idleMs, done);
    });
  }
}

interface Watcher {
  readonly waiting: Set<string>;
  readonly signal: AbortSignal;
  readonly idleMs: number;
  readonly stop: () => void;
  readonly setWake: (wake: () => void) => void;
}

/** One step of a watch over values: `snapshot` begins the list anew; nothing in it is a bookmark. */
export interface Watched<T> {
  readonly snapshot: boolean;
  readonly values: readonly T[];
  /** Ids that are gone. */
  readonly removed: readonly string[];
}

export interface WatchSource<T> {
  readonly changes: Changes;
  /** Every id there is now. */
  ids(): Iterable<string>;
  /** Undefined: it is not there, or this watcher does not want it. */
  get(id: string): T | undefined;
}

export interface WatchOptions {
  readonly signal: AbortSignal;
  /** Values of one step; a longer snapshot goes on in the following steps and ends with a bookmark. */
  readonly batch: number;
  readonly idleMs?: number;
}

/**
 * First everything as it is, then what changes, with bookmarks. A value may be told twice, none is missed.
 * An id is told as removed only after it was told as there.
 */
export async function* watchValues<T>(source: WatchSource<T>, options: WatchOptions): AsyncGenerator<Watched<T>> {
  const changed = source.changes.watch(options.signal, options.idleMs);
  const told = new Set<string>();
  try {
    yield* snapshotOf(source, options.batch, told);
    for await (const ids of changed) {
      yield* stepsOf(source, ids, { batch: options.batch, told });
    }
  } finally {
    await changed.return?.();
  }
}

function* snapshotOf<T>(source: WatchSource<T>, batch: number, told: Set<string>): Generator<Watched<T>> {
  let snapshot = true;
  let count = 0;
  for (const piece of pieces([...source.ids()], batch)) {
    const step = changesOf(source, piece, told);
    if (!snapshot && step.values.length === 0) continue;
    yield { snapshot, values: step.values, removed: [] };
    snapshot = false;
    count += 1;
  }
  if (snapshot) yield { snapshot, values: [], removed: [] };
  if (count > 1) yield { snapshot: false, values: [], removed: [] };
}

function* stepsOf<T>(
  source: WatchSource<T>,
  ids: readonly string[],
  { batch, told }: { batch: number; told: Set<string> },
): Generator<Watched<T>> {
  if (ids.length === 0) yield { snapshot: false, values: [], removed: [] };
  for (const piece of pieces(ids, batch)) {
    const step = changesOf(source, piece, told);
    if (step.values.length > 0 || step.removed.length > 0) yield step;
  }
}

function changesOf<T>(source: WatchSource<T>, ids: readonly string[], told: Set<string>): Watched<T> {
  const values: T[] = [];
  const removed: string[] = [];
  for (const id of ids) {
    const value = source.get(id);
    if (value !== undefined) {
      told.add(id);
      values.push(value);
    } else if (told.delete(id)) {
      removed.push(id);
    }
  }
  return { snapshot: false, values, removed };
}

function* pieces(ids: readonly string[], size: number): Generator<readonly string[]> {
  for (let start = 0; start < ids.length; start += size) yield ids.slice(start, start + size);
}
