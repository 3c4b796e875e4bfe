import type { RetryRecord } from '../log/port.js';
import type { Cursor } from './cursor.js';
import { DELAY_MAX_MS } from './settings.js';
import type { Instant, SubscriptionChanges } from './types.js';

/** A message that failed before: how often, and when it is due (monotonic milliseconds; undefined: it is). */
export interface Failed {
  readonly attempts: number;
  readonly dueMs: number | undefined;
}

const NO_RETRIES: SubscriptionChanges['retries'] = new Map();
const NO_LETTERS: SubscriptionChanges['lettersDone'] = [];

/** What has changed and is not handed out for storing yet. An idle subscription, of which there may be many, keeps nothing here. */
export class Changes {
  #cursor = false;
  #retries: Map<number, RetryRecord | undefined> | undefined;
  #lettersDone: Set<number> | undefined;

  /** The cursor has moved. */
  moved(): void {
    this.#cursor = true;
  }

  failed(sequence: number, retry: RetryRecord): void {
    this.#retries ??= new Map();
    this.#retries.set(sequence, retry);
  }

  /** These messages are settled or begin anew, after so many failed attempts. */
  forget(firstSequence: number, count: number, attempts: number): void {
    if (attempts === 0) return;
    this.#retries ??= new Map();
    for (let index = 0; index < count; index += 1) this.#retries.set(firstSequence + index, undefined);
  }

  letterDone(sequence: number): void {
    this.#lettersDone ??= new Set();
    this.#lettersDone.add(sequence);
  }

  /** A letter of this sequence is stored (anew): whatever was there before is no longer to be deleted. */
  letterStored(sequence: number): void {
    this.#lettersDone?.delete(sequence);
  }

  take(cursor: Cursor): SubscriptionChanges {
    const taken = {
      cursor: this.#cursor ? cursor.record() : undefined,
      retries: this.#retries ?? NO_RETRIES,
      lettersDone: this.#lettersDone ? [...this.#lettersDone] : NO_LETTERS,
    };
    this.#cursor = false;
    this.#retries = undefined;
    this.#lettersDone = undefined;
    return taken;
  }
}

/** What is known of a restored message. */
export function failedOf({ attempts, notBeforeMs }: RetryRecord, now: Instant): Failed {
  // A wall clock that was put back meanwhile must not make a message wait for years.
  const waitMs = Math.min(notBeforeMs - now.wallMs, DELAY_MAX_MS);
  return { attempts, dueMs: waitMs > 0 ? now.monotonicMs + waitMs : undefined };
}
