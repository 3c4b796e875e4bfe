import type { RetryRecord } from '../log/port.js';
import type { Cursor } from './cursor.js';
import { DELAY_MAX_MS } from './settings.js';
import type { Instant, SubscriptionChanges } from './types.js';

/** A message that failed before: how often, and when it is due (monotonic milliseconds; undefined: it is). */
export interface Failed {
  readonly attempts: number;
  readonly dueMs: number | undefined;
}

/** What has changed and is not handed out for storing yet. */
export class Changes {
  #cursor = false;
  #retries = new Map<number, RetryRecord | undefined>();
  #lettersDone = new Set<number>();

  /** The cursor has moved. */
  moved(): void {
    this.#cursor = true;
  }

  failed(sequence: number, retry: RetryRecord): void {
    this.#retries.set(sequence, retry);
  }

  /** These messages are settled or begin anew, after so many failed attempts. */
  forget(firstSequence: number, count: number, attempts: number): void {
    if (attempts === 0) return;
    for (let index = 0; index < count; index += 1) this.#retries.set(firstSequence + index, undefined);
  }

  letterDone(sequence: number): void {
    this.#lettersDone.add(sequence);
  }

  /** A letter of this sequence is stored (anew): whatever was there before is no longer to be deleted. */
  letterStored(sequence: number): void {
    this.#lettersDone.delete(sequence);
  }

  take(cursor: Cursor): SubscriptionChanges {
    const taken = {
      cursor: this.#cursor ? cursor.record() : undefined,
      retries: this.#retries,
      lettersDone: [...this.#lettersDone],
    };
    this.#cursor = false;
    this.#retries = new Map();
    this.#lettersDone = new Set();
    return taken;
  }
}

/** What is known of a restored message. */
export function failedOf({ attempts, notBeforeMs }: RetryRecord, now: Instant): Failed {
  // A wall clock that was put back meanwhile must not make a message wait for years.
  const waitMs = Math.min(notBeforeMs - now.wallMs, DELAY_MAX_MS);
  return { attempts, dueMs: waitMs > 0 ? now.monotonicMs + waitMs : undefined };
}
