import { MusterError } from '../kit/errors.js';
import { BoundedQueue } from '../kit/queue.js';
import { WATCH_BACKLOG_BYTES_MAX, WATCH_BACKLOG_CHANGES_MAX, type Change } from './port.js';

function bytesOf(change: Change): number {
  return change.key.length + (change.value?.length ?? 0);
}

/** One watcher: a bounded queue of changes below a prefix. */
class Watch {
  readonly #prefix: string;
  readonly #queue = new BoundedQueue<Change>(WATCH_BACKLOG_CHANGES_MAX, 'refuse');
  #bytes = 0;
  #aborted = false;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** False when the watcher is too far behind: it has been cut off. */
  offer(change: Change): boolean {
    if (!change.key.startsWith(this.#prefix)) return true;
    const bytes = bytesOf(change);
    // A single change above the bound is still taken, or it could never be delivered.
    const fits = this.#bytes === 0 || this.#bytes + bytes <= WATCH_BACKLOG_BYTES_MAX;
    if (fits && this.#queue.push(change)) {
      this.#bytes += bytes;
      return true;
    }
    this.#queue.close(
      new MusterError('exhausted', `the watch of "${this.#prefix}" fell too far behind: watch again, then list again`, {
        reason: 'WATCH_TOO_SLOW',
      }),
    );
    return false;
  }

  /** Ends at once, without what is queued: the consumer asked for it. */
  abort(): void {
    this.#aborted = true;
    this.#queue.close();
  }

  /** Ends after what is queued. */
  end(error: MusterError | undefined): void {
    this.#queue.close(error);
  }

  async *changes(): AsyncGenerator<Change> {
    for await (const change of this.#queue) {
      if (this.#aborted) return;
      this.#bytes -= bytesOf(change);
      // Watchers share the queued value: each gets its own copy to keep.
      yield change.value ? { ...change, value: new Uint8Array(change.value) } : change;
    }
  }
}

/** All watchers of one store. */
export class Watches {
  readonly #open = new Set<Watch>();

  /** Watchers registered now. */
  get size(): number {
    return this.#open.size;
  }

  /** Registers at once, not at the first step of the iteration. */
  open(prefix: string, signal: AbortSignal): AsyncIterable<Change> {
    const watch = new Watch(prefix);
    const onAbort = (): void => {
      watch.abort();
      this.#open.delete(watch);
    };
    if (signal.aborted) watch.abort();
    else {
      this.#open.add(watch);
      signal.addEventListener('abort', onAbort, { once: true });
    }
    const open = this.#open;
    return (async function* () {
      try {
        yield* watch.changes();
      } finally {
        signal.removeEventListener('abort', onAbort);
        open.delete(watch);
      }
    })();
  }

  publish(changes: readonly Change[]): void {
    for (const watch of this.#open) {
      if (!changes.every((change) => watch.offer(change))) this.#open.delete(watch);
    }
  }

  /** Ends every watch after what it has queued; with an error, by throwing it. */
  end(error?: MusterError): void {
    for (const watch of this.#open) watch.end(error);
    this.#open.clear();
  }
}
