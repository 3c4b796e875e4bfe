import { sleep, type Clock } from '../kit/clock.js';
import { aborted } from '../kit/tasks.js';

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
  let changed = new AbortController();
  const unsubscribe = watching.onChange(() => {
    changed.abort();
  });
  try {
    let last = read();
    const same = watching.hash !== '' && watching.hash === last.hash;
    yield { change: same ? { $case: 'unchanged', value: true } : { $case: 'snapshot', value: last } };
    for (;;) {
      const spoken = await changeOrPause(clock, AbortSignal.any([changed.signal, signal]));
      signal.throwIfAborted();
      if (spoken) changed = new AbortController();
      const now = read();
      if (now.hash !== last.hash) yield { change: { $case: 'snapshot', value: now } };
      else if (!spoken) yield { change: { $case: 'bookmark', value: true } };
      last = now;
    }
  } finally {
    unsubscribe();
  }
}

/** True at a change (or the end), false when nothing happened for a while. */
async function changeOrPause(clock: Clock, signal: AbortSignal): Promise<boolean> {
  const over = new AbortController();
  const pause = sleep(clock, BOOKMARK_INTERVAL_MS, AbortSignal.any([signal, over.signal])).then(
    () => false,
    () => true,
  );
  const result = await Promise.race([aborted(signal).then(() => true), pause]);
  over.abort();
  return result;
}
