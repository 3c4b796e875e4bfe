import { Changes, failedOf, type Failed } from './changes.js';
import { Cursor } from './cursor.js';
import { Keys } from './keys.js';
import type { Lease } from './leases.js';
import type { Bounds, Death, Instant, RestoredSubscription, SeekOutcome } from './types.js';
import { Waiting } from './waiting.js';

/** Replayed dead letters not settled yet, per subscription. Beyond it none are taken. */
export const REPLAYED_MAX = 65_536;

/** A part of a topic, or a dead letter, that was leased or waited. */
type Part = Pick<Lease, 'firstSequence' | 'count' | 'sizes'>;

/** A sequence is a dead letter on its way again, or a message of the topic: never both (see replay and seek). */
export class Backlog {
  readonly cursor: Cursor;
  readonly changes = new Changes();
  /** Messages of the topic; the holders of their keys. */
  readonly waiting = new Waiting();
  /** Replayed dead letters. */
  readonly letters = new Waiting();
  readonly keys = new Keys();
  /** The first message not looked at: never granted, parked nor made to wait. Below it only what is settled, leased, waiting or parked. */
  next: number;
  dead: number;
  /** Acknowledged or died. */
  settledCount = 0;
  /** All replayed dead letters not settled. */
  readonly #replayed = new Set<number>();
  /** Those that failed before and are either still to be looked at (after a restart) or parked. */
  readonly #failed = new Map<number, Failed>();
  /** Up to here some messages to be looked at may be settled or have failed already. */
  #restoredUntil: number;

  constructor(restored: RestoredSubscription, now: Instant) {
    this.cursor = new Cursor(restored.cursor);
    this.next = this.cursor.floor;
    this.dead = restored.dead;
    this.#restoredUntil = this.cursor.end;
    for (const sequence of restored.replayed) this.#restoreLetter(sequence, restored, now);
    for (const [sequence, retry] of restored.retries) {
      if (this.#replayed.has(sequence)) continue;
      if (this.cursor.isSettled(sequence)) this.changes.forget(sequence, 1, retry.attempts);
      else this.#failed.set(sequence, failedOf(retry, now));
      this.#restoredUntil = Math.max(this.#restoredUntil, sequence + 1);
    }
  }

  get replayed(): number {
    return this.#replayed.size;
  }

  /** Whether all from `next` on are neither settled nor failed yet. */
  get isFresh(): boolean {
    return this.next >= this.#restoredUntil;
  }

  /** Moves `next` past what is settled. */
  skipSettled(): void {
    if (this.next < this.#restoredUntil) this.next = this.cursor.unsettledFrom(this.next);
  }

  /** Whether the message at `next` cannot go out now: its key is busy, or it failed and is not due. It is parked, or waits. */
  setAside(sequence: number, key: string, nowMs: number): boolean {
    if (this.keys.isBusy(sequence, key)) {
      this.keys.park(sequence, key);
      this.#pass(sequence);
      return true;
    }
    const failed = this.#failed.get(sequence);
    if (failed?.dueMs === undefined || failed.dueMs <= nowMs) return false;
    this.keys.hold(sequence, key);
    this.#failed.delete(sequence);
    this.waiting.add({ firstSequence: sequence, count: 1, attempts: failed.attempts }, failed.dueMs);
    this.#pass(sequence);
    return true;
  }

  /** The message at `next` goes out; its attempt. */
  take(sequence: number, key: string): number {
    this.keys.hold(sequence, key);
    this.#pass(sequence);
    return (this.#takeFailed(sequence)?.attempts ?? 0) + 1;
  }

  parkLetter(sequence: number, key: string, attempts: number): void {
    this.letters.take(1);
    if (attempts > 0) this.#failed.set(sequence, { attempts, dueMs: undefined });
    this.keys.park(sequence, key);
  }

  /** Finds what is due. */
  wake(nowMs: number): void {
    this.waiting.wake(nowMs);
    this.letters.wake(nowMs);
  }

  /** Done. */
  settle(part: Part, failedAttempts: number): void {
    if (!part.sizes) {
      this.#replayed.delete(part.firstSequence);
      this.changes.letterDone(part.firstSequence);
    }
    this.#leave(part, failedAttempts);
  }

  /** Failed for good. */
  die(lease: Lease, reason: string, died: Death[]): void {
    const replayed = !lease.sizes;
    if (replayed) this.#replayed.delete(lease.firstSequence);
    for (let index = 0; index < lease.count; index += 1) {
      const sequence = lease.firstSequence + index;
      died.push({ sequence, attempts: lease.attempt, reason, replayed });
      this.changes.letterStored(sequence);
    }
    this.dead += lease.count;
    this.#leave(lease, lease.attempt - 1);
  }

  /** Failed, and to be tried again after `waitMs`. */
  retry(lease: Lease, waitMs: number, now: Instant): void {
    const { attempt: attempts, firstSequence, count } = lease;
    const retry = { attempts, notBeforeMs: Math.round(now.wallMs + waitMs) };
    for (let index = 0; index < count; index += 1) this.changes.failed(firstSequence + index, retry);
    this.giveBack(lease, { attempts, dueMs: waitMs > 0 ? now.monotonicMs + waitMs : undefined });
  }

  /** To be delivered again, after so many failed attempts. */
  giveBack(part: Part, { attempts, dueMs }: Failed): void {
    const { firstSequence, count } = part;
    (part.sizes ? this.waiting : this.letters).add({ firstSequence, count, attempts }, dueMs);
  }

  /** Drops the messages below `head`; `leased`: those of them that were leased, which has ended. */
  dropBelow(head: number, leased: readonly Lease[]): void {
    for (const lease of leased) this.changes.forget(lease.firstSequence, lease.count, lease.attempt - 1);
    for (const run of this.waiting.takeOut(0, head)) this.changes.forget(run.firstSequence, run.count, run.attempts);
    for (const [sequence, { attempts }] of this.#failed) {
      if (sequence >= head || this.#replayed.has(sequence)) continue;
      this.#failed.delete(sequence);
      this.changes.forget(sequence, 1, attempts);
    }
    const isGone = (sequence: number): boolean => sequence < head && !this.#replayed.has(sequence);
    this.keys.siftParked((sequence) => !isGone(sequence));
    for (const sequence of this.keys.holders().filter(isGone)) this.#passKey(sequence);
    this.cursor.dropBelow(head);
    this.next = Math.max(this.next, this.cursor.floor);
    this.changes.moved();
  }

  /** What a seek to `to` would do. */
  seekOutcome(to: number, { head, tail }: Bounds): SeekOutcome {
    const sequence = Math.max(to, head);
    const redelivered = Math.max(0, tail - sequence) - this.cursor.unsettledIn(sequence, tail);
    return { sequence, redelivered, skipped: this.cursor.unsettledIn(head, Math.min(sequence, tail)) };
  }

  /** Goes on at `sequence`, all attempts counted anew; `leased`: everything that was leased, which has ended. */
  seek(sequence: number, leased: readonly Lease[]): void {
    for (const lease of leased) {
      if (!lease.sizes) this.giveBack(lease, { attempts: lease.attempt - 1, dueMs: undefined });
      else this.changes.forget(lease.firstSequence, lease.count, lease.attempt - 1);
    }
    for (const parked of this.keys.siftParked((each) => !this.#replayed.has(each))) this.#admit(parked);
    this.keys.clear();
    for (const run of this.waiting.takeOut(0, Infinity)) {
      this.changes.forget(run.firstSequence, run.count, run.attempts);
    }
    for (const [failed, { attempts }] of this.#failed) this.changes.forget(failed, 1, attempts);
    this.#failed.clear();
    for (const run of this.letters.takeOut(sequence, Infinity)) {
      for (let index = 0; index < run.count; index += 1) this.#supersede(run.firstSequence + index, run.attempts);
    }
    this.cursor.moveTo(sequence);
    this.next = sequence;
    this.#restoredUntil = sequence;
    this.changes.moved();
  }

  /** Delivers dead letters again. Returns those to be marked as replayed; it ends early when REPLAYED_MAX is reached. */
  replay(sequences: readonly number[]): number[] {
    const accepted: number[] = [];
    for (const sequence of sequences) {
      if (this.#replayed.size >= REPLAYED_MAX) break;
      if (this.#replayed.has(sequence)) continue;
      this.dead = Math.max(0, this.dead - 1);
      if (!this.cursor.isSettled(sequence)) {
        this.changes.letterDone(sequence);
        continue;
      }
      this.#replayed.add(sequence);
      this.letters.add({ firstSequence: sequence, count: 1, attempts: 0 });
      accepted.push(sequence);
    }
    return accepted;
  }

  /** A replayed dead letter that waits is not stored any more. */
  forgetLetter(sequence: number): void {
    const waiting = this.letters.takeOut(sequence, sequence + 1);
    const parked = this.keys.siftParked((each) => each !== sequence || !this.#replayed.has(each));
    if (waiting.length + parked.length === 0) return;
    const attempts = waiting[0]?.attempts ?? this.#takeFailed(sequence)?.attempts ?? 0;
    this.settle({ firstSequence: sequence, count: 1, sizes: undefined }, attempts);
  }

  /** The message is delivered from the topic again: its letter is not needed any more. */
  #supersede(sequence: number, attempts: number): void {
    this.#replayed.delete(sequence);
    this.changes.letterDone(sequence);
    this.changes.forget(sequence, 1, attempts);
  }

  #restoreLetter(sequence: number, restored: RestoredSubscription, now: Instant): void {
    const retry = restored.retries.get(sequence);
    if (!this.cursor.isSettled(sequence)) {
      this.changes.letterDone(sequence);
      return;
    }
    const failed: Failed = retry ? failedOf(retry, now) : { attempts: 0, dueMs: undefined };
    this.#replayed.add(sequence);
    this.letters.add({ firstSequence: sequence, count: 1, attempts: failed.attempts }, failed.dueMs);
  }

  /** What was leased or waited is settled. */
  #leave(part: Part, failedAttempts: number): void {
    const until = part.firstSequence + part.count;
    this.settledCount += part.count;
    this.changes.forget(part.firstSequence, part.count, failedAttempts);
    if (part.sizes) {
      this.cursor.settle(part.firstSequence, until);
      this.changes.moved();
    }
    if (this.keys.isEmpty) return;
    for (let sequence = part.firstSequence; sequence < until; sequence += 1) this.#passKey(sequence);
  }

  #pass(sequence: number): void {
    this.next = sequence + 1;
    this.skipSettled();
  }

  #takeFailed(sequence: number): Failed | undefined {
    const failed = this.#failed.get(sequence);
    if (failed) this.#failed.delete(sequence);
    return failed;
  }

  #passKey(sequence: number): void {
    const next = this.keys.release(sequence);
    if (next !== undefined) this.#admit(next);
  }

  /** A parked message may be delivered. */
  #admit(sequence: number): void {
    const failed = this.#takeFailed(sequence);
    const waiting = this.#replayed.has(sequence) ? this.letters : this.waiting;
    waiting.add({ firstSequence: sequence, count: 1, attempts: failed?.attempts ?? 0 }, failed?.dueMs);
  }
}
