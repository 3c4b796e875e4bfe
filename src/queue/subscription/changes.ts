import type { CursorRecord, RetryRecord } from '../log/port.js';
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
  #retries = new Map<number, Failed | undefined>();
  #lettersDone = new Set<number>();

  /** The cursor has moved. */
  moved(): void {
    this.#cursor = true;
  }

  failed(sequence: number, failed: Failed): void {
    this.#retries.set(sequence, failed);
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

  /** Undefined when there is nothing to store. */
  take(cursor: () => CursorRecord, now: Instant): SubscriptionChanges | undefined {
    if (!this.#cursor && this.#retries.size === 0 && this.#lettersDone.size === 0) return undefined;
    const retries = new Map<number, RetryRecord | undefined>();
    for (const [sequence, failed] of this.#retries) retries.set(sequence, failed && record(failed, now));
    const taken = { cursor: this.#cursor ? cursor() : undefined, retries, lettersDone: [...this.#lettersDone] };
    this.#cursor = false;
    this.#retries = new Map();
    this.#lettersDone = new Set();
    return taken;
  }

  /** Changes that were taken were not stored: they are handed out again, where nothing newer has replaced them. */
  putBack(changes: SubscriptionChanges, now: Instant): void {
    this.#cursor ||= changes.cursor !== undefined;
    for (const [sequence, retry] of changes.retries) {
      if (!this.#retries.has(sequence)) this.#retries.set(sequence, retry && failedOf(retry, now));
    }
    for (const sequence of changes.lettersDone) this.#lettersDone.add(sequence);
  }
}

function record({ attempts, dueMs }: Failed, now: Instant): RetryRecord {
  const waitMs = dueMs === undefined ? 0 : Math.max(0, dueMs - now.monotonicMs);
  return { attempts, notBeforeMs: Math.round(now.wallMs + waitMs) };
}

export function failedOf({ attempts, notBeforeMs }: RetryRecord, now: Instant): Failed {
  // A wall clock that was put back meanwhile must not make a message wait for years.
  const waitMs = Math.min(notBeforeMs - now.wallMs, DELAY_MAX_MS);
  return { attempts, dueMs: waitMs > 0 ? now.monotonicMs + waitMs : undefined };
}
