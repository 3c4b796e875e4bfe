import type { Clock } from '../kit/clock.js';

/** An idle watch says that it lives this often. */
export const BOOKMARK_INTERVAL_MS = 20_000;

type Frame<S> =
  | { readonly $case: 'snapshot'; readonly value: S }
  | { readonly $case: 'unchanged'; readonly value: boolean }
  | { readonly $case: 'bookmark'; readonly value: boolean };

export interface Watching<S> {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** What the watcher holds. */
  readonly hash: string;
  /** The present snapshot. */
  readonly read: () => S;
  readonly onChange: (listener: () => void) => () => void;
}

/**
 * The frames of a watch: the snapshot or `unchanged`, then a whole snapshot for each change of its hash, then bookmarks. Holds nothing
 * for a slow reader: it gets the newest snapshot when it reads again.
 * @throws the signal's reason
 */
export async function* watchSnapshots<S extends { readonly hash: string; readonly revision: number }>(
  watching: Watching<S>,
): AsyncGenerator<{ change: Frame<S> }> {
  const { clock, signal, read } = watching;
  const change = new Change(clock);
  const unsubscribe = watching.onChange(() => {
    change.happened();
  });
  try {
    let last = read();
    const same = watching.hash !== '' && watching.hash === last.hash;
    yield { change: same ? { $case: 'unchanged', value: true } : { $case: 'snapshot', value: last } };
    for (;;) {
      const spoken = await change.orPause(signal);
      signal.throwIfAborted();
      const now = read();
      if (now.hash !== last.hash) yield { change: { $case: 'snapshot', value: now } };
      else if (!spoken) yield { change: { $case: 'bookmark', value: true } };
      last = now;
    }
  } finally {
    unsubscribe();
  }
}

/** Whether something changed since it was asked last. A wait leaves nothing behind: a watch may idle for months. */
class Change {
  readonly #clock: Clock;
  #pending = false;
  #wake: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  happened(): void {
    this.#pending = true;
    this.#wake();
  }

  /** True at a change, or one since the last call; false when nothing happened for a while, or the signal aborted. */
  orPause(signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const done = (): void => {
        pause.cancel();
        signal.removeEventListener('abort', done);
        this.#wake = () => undefined;
        const spoken = this.#pending;
        this.#pending = false;
        resolve(spoken);
      };
      const pause = this.#clock.after(BOOKMARK_INTERVAL_MS, done);
      this.#wake = done;
      signal.addEventListener('abort', done, { once: true });
      if (this.#pending || signal.aborted) done();
    });
  }
}
