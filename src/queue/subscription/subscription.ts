import { MusterError } from '../../kit/errors.js';
import type { SubscriptionSettings } from '../log/port.js';
import { Backlog } from './backlog.js';
import { Consumer } from './consumers.js';
import { Frame } from './frame.js';
import { FAILURES_MAX, Holdings } from './holdings.js';
import type { Lease } from './leases.js';
import { backoffMs, DELAY_MAX_MS, LEASE_MAX_MS, LEASE_MIN_MS } from './settings.js';
import type {
  Batch,
  Bounds,
  Credit,
  Death,
  ExtendOrder,
  Failure,
  Grant,
  Instant,
  NackOrder,
  RestoredSubscription,
  SeekOutcome,
  SettleOrder,
  SettleOutcome,
  SubscriptionChanges,
  SubscriptionStats,
  Wanted,
} from './types.js';

/** Messages that were looked at (leased, waiting or parked) and are not settled, per subscription. At it nothing new is looked at. */
export const OUTSTANDING_MAX = 65_536;

/**
 * One subscription, without any input or output: what is settled, who has what, what comes next. Whoever calls it brings the time and the stored
 * batches, sends what it grants, and stores what takeChanges() gives. The same calls give the same answers.
 *
 * A message of the topic is in one state:
 *
 *   new      not looked at yet; from `next` on, all are (after a restart also some that are settled or failed before)
 *   leased   with one consumer, until it settles the delivery, the lease is over, or it goes
 *   waiting  to be delivered again: until it is due, and then until somebody takes it
 *   parked   (ordered only) looked at, while an earlier message holds its key
 *   settled  acknowledged, dead, dropped with its topic's head, or skipped by a seek
 *
 *   new -> leased | parked | waiting (after a restart);  parked -> waiting -> leased;  leased -> waiting (failed or given back) | settled;
 *   all -> settled by a drop;  all -> new or settled by a seek, and nothing else leaves `settled`.
 *
 * A dead letter on its way again (replayed) is leased, waiting or parked in the same way, on its own: its message stays settled. A sequence is
 * never both unsettled and a replayed letter: replay() drops a letter whose message is unsettled again, seek() those it makes unsettled.
 *
 * Invariants, held by histories against a model:
 *
 * - floor <= every unsettled message, and it is unsettled itself, or not published yet. It falls only by a seek.
 * - A message has at most one live lease, and a delivery is settled at most once. Settled messages are not granted again, except after a seek.
 * - What a consumer has is within its credit in messages and bytes, except one message larger than that, which it has alone.
 * - Messages go out lowest sequence first of all that may go: what waits and is due before what is new, so one consumer that loses nothing sees
 *   publish order. What is too large for everyone's credit is waited for, not overtaken. Due letters and new messages take turns.
 * - Ordered: of one key at most one message is leased or waits after a failure, and it is the first unsettled one. A letter takes its place in
 *   its key's line when it is looked at. A key is passed on when its holder is settled, so a dead letter does not block it.
 * - Leased, waiting and parked messages are at most OUTSTANDING_MAX together, replayed letters at most REPLAYED_MAX: memory has a bound however
 *   far the subscription is behind.
 * - Attempts count what is known to have failed: nacks, leases that ran out, consumers that went without a goodbye. They end with the message,
 *   and with a seek. A message dies by its last allowed attempt or by order; it is handed out as a Death exactly once and counts as settled,
 *   so its letter has to be stored with the changes of that moment, or none of both.
 * - A subscription restored from stored changes grants everything that they do not say is settled, with the failures they tell of, and nothing
 *   else. What was settled but not stored comes again: delivery is at least once.
 */
export class Subscription {
  #settings: SubscriptionSettings;
  readonly #backlog: Backlog;
  readonly #holdings = new Holdings();
  /** A replayed dead letter comes before the next new message. */
  #letterTurn = false;
  /** A sequence that is larger than anyone with credit takes now; forgotten by whatever may change that. */
  #stuck: number | undefined;

  constructor(settings: SubscriptionSettings, restored: RestoredSubscription, now: Instant) {
    this.#settings = settings;
    this.#backlog = new Backlog(restored, now);
  }

  get settings(): SubscriptionSettings {
    return this.#settings;
  }

  /** All below are settled; this one is not. */
  get floor(): number {
    return this.#backlog.cursor.floor;
  }

  /** Messages acknowledged or given up since this object was made; those dropped or skipped do not count. */
  get settledCount(): number {
    return this.#backlog.settledCount;
  }

  /** How many are attached. */
  get consumers(): number {
    return this.#holdings.consumers.count;
  }

  /** Changes the settings. Leases and waits that have begun stay as they are. `start` and `ordered` must not change. */
  update(settings: SubscriptionSettings): void {
    this.#settings = settings;
    this.#stuck = undefined;
  }

  /**
   * A consumer comes; its deliveries count from 1.
   * @throws exists
   */
  attach(consumer: number, credit: Credit): void {
    if (this.#holdings.consumers.get(consumer)) {
      throw new MusterError('exists', `consumer ${consumer} is attached already: give each one a number of its own`);
    }
    this.#holdings.consumers.add(new Consumer(consumer, credit));
    this.#stuck = undefined;
  }

  setCredit(consumer: number, credit: Credit): void {
    const found = this.#holdings.consumers.get(consumer);
    if (!found) return;
    found.credit = credit;
    this.#holdings.consumers.review(found);
    this.#stuck = undefined;
  }

  /** A consumer goes, and what it has is due at once. `counts`: that is a failed attempt. */
  detach(consumer: number, how: { readonly counts: boolean }, now: Instant): readonly Death[] {
    const died: Death[] = [];
    const found = this.#holdings.consumers.get(consumer);
    if (!found) return died;
    for (const lease of this.#holdings.endAll([found])) {
      if (how.counts) this.#fail(lease, { waitMs: 0, reason: 'its consumer went away' }, { now, died });
      else this.#backlog.giveBack(lease, { attempts: lease.attempt - 1, dueMs: undefined });
    }
    this.#holdings.consumers.remove(found);
    this.#stuck = undefined;
    return died;
  }

  /** Messages the consumer has and has not settled. */
  leasedBy(consumer: number): number {
    return this.#holdings.consumers.get(consumer)?.leased ?? 0;
  }

  /**
   * What to read for the next grant. Undefined when nothing can go out before something changes: an order to settle, credit, consumers,
   * settings, the tail, or the time (see nextTimeMs).
   */
  next(bounds: Bounds, now: Instant): Wanted | undefined {
    if (this.#settings.paused || !this.#holdings.consumers.isReady) return undefined;
    this.dropBelow(bounds.head);
    this.#backlog.wake(now.monotonicMs);
    const wanted = this.#choose(bounds.tail);
    return wanted?.sequence === this.#stuck ? undefined : wanted;
  }

  /**
   * Grants messages of this batch to one consumer, whose turn it is. Undefined when the batch does not hold what next() wants now, or nothing
   * of it can go out: next() then wants something else, or nothing.
   */
  grant(batch: Batch, bounds: Bounds, now: Instant): Grant | undefined {
    const wanted = this.next(bounds, now);
    const until = batch.firstSequence + batch.count;
    if (wanted?.source !== 'log' || wanted.sequence < batch.firstSequence || wanted.sequence >= until) return undefined;
    const cut = { batch, until: Math.min(until, bounds.tail), nowMs: now.monotonicMs };
    if (this.#backlog.waiting.front) return this.#send(this.#cutWaiting(cut));
    const plain = this.#backlog.isFresh && !this.#settings.ordered;
    const frame = plain ? this.#cutRun(cut) : this.#cutOneByOne(cut);
    if (frame) this.#letterTurn = true;
    return this.#send(frame);
  }

  /** Grants a replayed dead letter, as grant() does. `letter`: a batch of this one message. */
  grantDeadLetter(letter: Batch, now: Instant): Grant | undefined {
    const sequence = letter.firstSequence;
    const { letters, keys } = this.#backlog;
    this.#backlog.wake(now.monotonicMs);
    const front = letters.front;
    if (this.#settings.paused || front?.firstSequence !== sequence) return undefined;
    const { attempts } = front;
    const key = this.#settings.ordered ? letter.keyOf(sequence) : '';
    if (keys.isBusy(sequence, key)) {
      this.#backlog.parkLetter(sequence, key, attempts);
      return undefined;
    }
    const bytes = letter.sizes.bytesOf(sequence, sequence);
    const consumer = this.#consumerFor(sequence, bytes);
    if (!consumer) return undefined;
    keys.hold(sequence, key);
    letters.take(1);
    this.#letterTurn = false;
    const frame = new Frame(consumer, now.monotonicMs + this.#settings.leaseMs);
    frame.addLetter(sequence, attempts + 1, bytes);
    return this.#send(frame);
  }

  /** Settles deliveries of a consumer. A lease that has run out can be settled until expire() has ended it. */
  settle(consumer: number, order: SettleOrder, now: Instant): SettleOutcome {
    const failures: Failure[] = [];
    const died: Death[] = [];
    const found = this.#holdings.consumers.get(consumer);
    if (!found) return { failures: unattached(order), died };
    for (const range of order.acks) {
      const several = range.last > range.first;
      for (const lease of this.#holdings.take(found, range, several, failures)) {
        this.#backlog.settle(lease, lease.attempt - 1);
      }
    }
    for (const nack of order.nacks) this.#nack(found, nack, { now, failures, died });
    for (const extend of order.extends) this.#extend(found, extend, { now, failures });
    this.#holdings.consumers.review(found);
    this.#stuck = undefined;
    return { failures, died };
  }

  /** Ends the leases that are over; their messages wait for the next attempt, or die. Finds what is due. */
  expire(now: Instant): readonly Death[] {
    const { monotonicMs: nowMs } = now;
    const died: Death[] = [];
    for (let lease = this.#holdings.takeOver(nowMs); lease; lease = this.#holdings.takeOver(nowMs)) {
      this.#fail(lease, { reason: 'its lease ran out' }, { now, died });
      this.#stuck = undefined;
    }
    this.#backlog.wake(nowMs);
    return died;
  }

  /** When to call expire(), and then next(), for a reason of time alone; undefined: never. Later than `now` once expire(now) was called. */
  nextTimeMs(): number | undefined {
    const { waiting, letters } = this.#backlog;
    let firstMs = this.#holdings.nextEndMs;
    for (const atMs of [waiting.nextDueMs, letters.nextDueMs]) {
      if (atMs !== undefined && (firstMs === undefined || atMs < firstMs)) firstMs = atMs;
    }
    return firstMs;
  }

  /** The messages below `head` are no longer stored: those not settled are given up and count as dropped; their leases are over. */
  dropBelow(head: number): void {
    if (head <= this.floor) return;
    this.#backlog.dropBelow(head, this.#holdings.endBelow(head));
    this.#stuck = undefined;
  }

  /** What a seek to `sequence` would do now. */
  previewSeek(sequence: number, bounds: Bounds): SeekOutcome {
    return this.#backlog.seekOutcome(sequence, bounds);
  }

  /**
   * Goes on at `sequence`, or at the head where that is behind it: all before it counts as settled, all behind it as never delivered. All leases
   * end; attempts are counted anew. Replayed dead letters from there on are dropped, since their messages are delivered again; the others stay.
   */
  seek(sequence: number, bounds: Bounds): SeekOutcome {
    this.dropBelow(bounds.head);
    const outcome = this.#backlog.seekOutcome(sequence, bounds);
    this.#backlog.seek(outcome.sequence, this.#holdings.endAll());
    this.#stuck = undefined;
    return outcome;
  }

  /**
   * Delivers dead letters again, attempts counted anew. Returns those now on their way: their letters are to be stored as replayed with the
   * next group. Left out: what is on its way already, what comes from the topic again after a seek (the letter is dropped), and what is beyond
   * REPLAYED_MAX.
   */
  replay(sequences: readonly number[]): readonly number[] {
    this.#stuck = undefined;
    return this.#backlog.replay(sequences);
  }

  /** A replayed dead letter that next() wanted is not stored: it counts as settled. */
  forgetLetter(sequence: number): void {
    this.#backlog.forgetLetter(sequence);
    this.#stuck = undefined;
  }

  /** So many dead letters, none of them replayed, were purged. */
  purged(count: number): void {
    this.#backlog.dead = Math.max(0, this.#backlog.dead - count);
  }

  /** What changed since the last call: to be stored with one group, together with the letters of what died since. */
  takeChanges(): SubscriptionChanges {
    const { changes, cursor } = this.#backlog;
    return changes.take(cursor);
  }

  stats({ tail }: Bounds): SubscriptionStats {
    const { cursor, waiting, letters, keys, replayed, dead } = this.#backlog;
    const unsettled = cursor.unsettledIn(cursor.floor, tail);
    return {
      backlog: unsettled + replayed,
      oldest: unsettled > 0 ? cursor.floor : undefined,
      leased: this.#holdings.leased,
      waiting: waiting.messages + letters.messages,
      parked: keys.parked,
      replayed,
      dead,
      dropped: cursor.dropped,
      consumers: [...this.#holdings.consumers].map(({ id, leased, leasedBytes, credit }) => ({
        consumer: id,
        leased,
        leasedBytes,
        credit,
      })),
    };
  }

  #choose(tail: number): Wanted | undefined {
    const { waiting, letters } = this.#backlog;
    if (waiting.front) return { source: 'log', sequence: waiting.front.firstSequence };
    this.#backlog.skipSettled();
    const isFresh = this.#backlog.next < tail && this.#room() > 0;
    if (letters.front && (this.#letterTurn || !isFresh)) {
      return { source: 'dead letter', sequence: letters.front.firstSequence };
    }
    return isFresh ? { source: 'log', sequence: this.#backlog.next } : undefined;
  }

  /** How many messages more may be looked at. */
  #room(): number {
    const { waiting, keys } = this.#backlog;
    return OUTSTANDING_MAX - this.#holdings.leased - waiting.messages - keys.parked;
  }

  #consumerFor(sequence: number, bytes: number): Consumer | undefined {
    const consumer = this.#holdings.consumers.choose(bytes);
    if (!consumer) this.#stuck = sequence;
    return consumer;
  }

  /** A frame that begins with this message of the batch. */
  #frame({ batch, nowMs }: Cut, sequence: number): Frame | undefined {
    const consumer = this.#consumerFor(sequence, batch.sizes.bytesOf(sequence, sequence));
    return consumer && new Frame(consumer, nowMs + this.#settings.leaseMs, batch.sizes);
  }

  /** The common case: one run of new messages, whatever its length. */
  #cutRun(cut: Cut): Frame | undefined {
    const first = this.#backlog.next;
    const frame = this.#frame(cut, first);
    if (!frame) return undefined;
    const count = frame.fit(first, Math.min(cut.until - first, this.#room()));
    frame.add(first, count, 1);
    this.#backlog.next += count;
    return frame;
  }

  /** What is due again, the lowest sequence first. */
  #cutWaiting(cut: Cut): Frame | undefined {
    const { waiting } = this.#backlog;
    let frame: Frame | undefined;
    for (let run = waiting.front; run && run.firstSequence < cut.until; run = waiting.front) {
      frame ??= this.#frame(cut, run.firstSequence);
      const { firstSequence, attempts } = run;
      const count = frame?.fit(firstSequence, Math.min(run.count, cut.until - firstSequence)) ?? 0;
      if (!frame || count === 0) break;
      frame.add(firstSequence, count, attempts + 1);
      waiting.take(count);
    }
    return frame;
  }

  /** New messages of an ordered subscription, or of one just restored: each is looked at. */
  #cutOneByOne(cut: Cut): Frame | undefined {
    const backlog = this.#backlog;
    let frame: Frame | undefined;
    backlog.skipSettled();
    for (let room = this.#room(); room > 0 && backlog.next < cut.until; room -= 1) {
      const sequence = backlog.next;
      const key = this.#settings.ordered ? cut.batch.keyOf(sequence) : '';
      if (backlog.setAside(sequence, key, cut.nowMs)) continue;
      frame ??= this.#frame(cut, sequence);
      if (!frame || frame.fit(sequence, 1) === 0) break;
      frame.add(sequence, 1, backlog.take(sequence, key));
    }
    return frame;
  }

  #send(frame: Frame | undefined): Grant | undefined {
    if (!frame || frame.leases.length === 0) return undefined;
    const { consumer, leases } = frame;
    const firstDelivery = consumer.nextDelivery;
    this.#holdings.grant(consumer, leases);
    // A key that is held now may let others pass: what was stuck may be parked.
    this.#stuck = undefined;
    const runs = leases.map(({ firstSequence, count, attempt }) => ({ firstSequence, count, attempt }));
    return { consumer: consumer.id, firstDelivery, runs };
  }

  #nack(consumer: Consumer, nack: NackOrder, settling: Settling & Failing): void {
    const { delayMs, reason } = nack;
    for (const lease of this.#holdings.take(consumer, nack.range, false, settling.failures)) {
      if (nack.deadLetter) this.#backlog.die(lease, reason, settling.died);
      else this.#fail(lease, { waitMs: delayMs, reason }, settling);
    }
  }

  #extend(consumer: Consumer, extend: ExtendOrder, { now, failures }: Settling): void {
    const leaseMs = extend.leaseMs ?? this.#settings.leaseMs;
    for (const lease of this.#holdings.take(consumer, extend.range, false, failures)) {
      lease.rank = now.monotonicMs + Math.min(Math.max(leaseMs, LEASE_MIN_MS), LEASE_MAX_MS);
      this.#holdings.add(consumer, lease);
    }
  }

  /** An attempt failed; without `waitMs` the next one is due after the backoff. */
  #fail(lease: Lease, how: { readonly waitMs?: number | undefined; readonly reason: string }, failing: Failing): void {
    const { maxAttempts, backoff } = this.#settings;
    if (maxAttempts > 0 && lease.attempt >= maxAttempts) {
      this.#backlog.die(lease, how.reason, failing.died);
    } else {
      const waitMs = Math.min(Math.max(how.waitMs ?? backoffMs(backoff, lease.attempt), 0), DELAY_MAX_MS);
      this.#backlog.retry(lease, waitMs, failing.now);
    }
  }
}

/** What a frame is cut from: a batch, up to (not including) a sequence. */
interface Cut {
  readonly batch: Batch;
  readonly until: number;
  readonly nowMs: number;
}

interface Settling {
  readonly now: Instant;
  readonly failures: Failure[];
}

interface Failing {
  readonly now: Instant;
  readonly died: Death[];
}

/** The leases of a consumer that is gone are over. */
function unattached(order: SettleOrder): Failure[] {
  const ranges = [...order.acks, ...[...order.nacks, ...order.extends].map(({ range }) => range)];
  const failures: Failure[] = [];
  for (const { first, last } of ranges) {
    for (let delivery = first; delivery <= Math.max(first, last) && failures.length < FAILURES_MAX; delivery += 1) {
      failures.push({ delivery, reason: 'LEASE_OVER' });
    }
  }
  return failures;
}
