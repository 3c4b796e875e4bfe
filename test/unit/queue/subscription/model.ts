import assert from 'node:assert/strict';
import type { CursorRecord, RetryRecord, SubscriptionSettings } from '../../../../src/queue/log/port.js';
import { backoffMs, DELAY_MAX_MS } from '../../../../src/queue/subscription/settings.js';
import type {
  Credit,
  Death,
  DeliveryRange,
  Failure,
  Grant,
  Instant,
  SeekOutcome,
  SettleOrder,
  SettleOutcome,
} from '../../../../src/queue/subscription/types.js';

/** One message of the topic, or a replayed dead letter: everything about it, spelled out. */
export interface Item {
  readonly sequence: number;
  readonly letter: boolean;
  readonly size: number;
  readonly key: string;
  settled: boolean;
  /** Attempts that failed, and when the next is due by either clock. */
  attempts: number;
  dueMs: number;
  notBeforeMs: number;
  lease: { readonly consumer: number; readonly delivery: number; endMs: number } | undefined;
}

interface Delivery {
  readonly item: Item;
  state: 'live' | 'over' | 'settled';
}

interface ModelConsumer {
  credit: Credit;
  /** By delivery, from 1. */
  readonly deliveries: Delivery[];
}

/** What a message is like for ever. */
export interface Published {
  readonly size: number;
  readonly key: string;
}

/** What is stored of a model: what a restart begins with. */
export interface Stored {
  readonly cursor: CursorRecord;
  readonly retries: Map<number, RetryRecord>;
  readonly letters: Map<number, { readonly replayed: boolean }>;
}

/**
 * A subscription as its contract reads: a list of messages, each with its own state, looked through from the start for every question. It
 * judges what was granted and foretells everything else.
 */
export class Model {
  settings: SubscriptionSettings;
  /** By sequence, from 1. */
  readonly items: Item[] = [];
  readonly letters = new Map<number, Item>();
  /** Dead letters not replayed. */
  readonly dead = new Set<number>();
  readonly consumers = new Map<number, ModelConsumer>();
  /** Ordered: which item had its key last and has not settled it. */
  readonly held = new Map<string, Item>();
  dropped = 0;
  /** Messages below are settled as soon as they are published. */
  skipBelow = 1;

  constructor(settings: SubscriptionSettings) {
    this.settings = settings;
  }

  get tail(): number {
    return this.items.length + 1;
  }

  publish({ size, key }: Published): void {
    const sequence = this.tail;
    this.items.push(newItem({ sequence, letter: false, size, key, settled: sequence < this.skipBelow }));
  }

  /** Takes over what a restart finds. */
  restore(stored: Stored, messages: readonly Published[], now: Instant): void {
    this.skipBelow = stored.cursor.floor;
    this.dropped = stored.cursor.dropped;
    for (const message of messages) this.publish(message);
    for (const { from, until } of stored.cursor.settled) {
      for (const item of this.items.slice(from - 1, until - 1)) item.settled = true;
    }
    for (const [sequence, { replayed }] of stored.letters) {
      if (!replayed) this.dead.add(sequence);
      else if (this.items[sequence - 1]?.settled) this.letters.set(sequence, this.#letter(sequence));
    }
    for (const [sequence, { attempts, notBeforeMs }] of stored.retries) {
      const item = this.letters.get(sequence) ?? this.items[sequence - 1];
      assert.ok(item, 'a retry is of a message that is there');
      item.attempts = attempts;
      item.notBeforeMs = notBeforeMs;
      item.dueMs = now.monotonicMs + Math.min(Math.max(notBeforeMs - now.wallMs, 0), DELAY_MAX_MS);
    }
  }

  /** What may go out now and does not wait for another message, lowest sequence first: of the topic, and of the letters. */
  candidates(nowMs: number): { readonly messages: Item[]; readonly letters: Item[] } {
    const open = (item: Item): boolean => !item.settled && !item.lease && item.dueMs <= nowMs;
    const isFirst = (item: Item): boolean => {
      if (!this.settings.ordered || item.key === '') return true;
      const holder = this.held.get(item.key);
      if (holder) return holder === item;
      return item.letter || this.items.find((other) => other.key === item.key && !other.settled) === item;
    };
    const messages = this.items.filter((item) => open(item) && isFirst(item));
    const letters = [...this.letters.values()].filter((item) => open(item) && isFirst(item));
    return { messages, letters: letters.sort((a, b) => a.sequence - b.sequence) };
  }

  /** Whether some consumer has credit for it. */
  fitsAnyone(item: Item): boolean {
    return [...this.consumers.keys()].some((id) => this.#fits(id, item));
  }

  get someoneHasCredit(): boolean {
    return [...this.consumers].some(([id, { credit }]) => {
      const { messages, bytes } = this.outstanding(id);
      return messages < credit.maxMessages && (messages === 0 || bytes < credit.maxBytes);
    });
  }

  outstanding(consumer: number): { readonly messages: number; readonly bytes: number } {
    const leased = [...this.items, ...this.letters.values()].filter(({ lease }) => lease?.consumer === consumer);
    return { messages: leased.length, bytes: leased.reduce((sum, { size }) => sum + size, 0) };
  }

  /** Judges a grant, and notes it. `until`: where the batch ends, and `from` where it begins. */
  granted(grant: Grant, source: { readonly letter: boolean; from: number; until: number }, now: Instant): void {
    const consumer = this.#consumer(grant.consumer);
    assert.equal(grant.firstDelivery, consumer.deliveries.length + 1, 'deliveries follow by one');
    const lowest = this.#mustComeFirst(source.letter, now.monotonicMs);
    let before = 0;
    for (const { firstSequence, count, attempt } of grant.runs) {
      assert.ok(count > 0 && firstSequence > before, 'runs rise');
      before = firstSequence + count - 1;
      assert.ok(firstSequence >= source.from && before < source.until, 'runs are within the batch');
      for (let sequence = firstSequence; sequence <= before; sequence += 1) {
        this.#grantOne(sequence, { attempt, letter: source.letter, consumer: grant.consumer }, now);
      }
    }
    const granted = grant.runs.flatMap(({ firstSequence, count }) =>
      Array.from({ length: count }, (_, index) => firstSequence + index),
    );
    const skipped = lowest.filter((sequence) => sequence <= before && !granted.includes(sequence));
    assert.deepEqual(skipped, [], 'nothing that may go out is passed over');
  }

  settle(id: number, order: SettleOrder, now: Instant): SettleOutcome {
    const failures: Failure[] = [];
    const died: Death[] = [];
    const consumer = this.#consumer(id);
    for (const range of order.acks) {
      const quiet = range.last > range.first;
      for (const { item } of this.#take(consumer, range, quiet, failures)) this.#leave(item);
    }
    for (const { range, delayMs, deadLetter, reason } of order.nacks) {
      for (const { item } of this.#take(consumer, range, false, failures)) {
        if (deadLetter) this.#die(item, reason, died);
        else this.#fail(item, { waitMs: delayMs, reason }, { now, died });
      }
    }
    for (const { range, leaseMs } of order.extends) {
      for (const delivery of this.#take(consumer, range, false, failures)) {
        delivery.state = 'live';
        const endMs = now.monotonicMs + (leaseMs ?? this.settings.leaseMs);
        delivery.item.lease = { consumer: id, delivery: consumer.deliveries.indexOf(delivery) + 1, endMs };
      }
    }
    return { failures, died };
  }

  expire(now: Instant): Death[] {
    const died: Death[] = [];
    for (const item of this.#leased()) {
      if (!item.lease || item.lease.endMs > now.monotonicMs) continue;
      this.#endLease(item);
      this.#fail(item, { reason: 'its lease ran out' }, { now, died });
    }
    return died;
  }

  detach(id: number, counts: boolean, now: Instant): Death[] {
    const died: Death[] = [];
    for (const item of this.#leased()) {
      if (item.lease?.consumer !== id) continue;
      this.#endLease(item);
      if (counts) this.#fail(item, { waitMs: 0, reason: 'its consumer went away' }, { now, died });
      else item.dueMs = now.monotonicMs;
    }
    this.consumers.delete(id);
    return died;
  }

  dropBelow(head: number): void {
    for (const item of this.items.slice(0, head - 1)) {
      if (item.settled) continue;
      this.dropped += 1;
      this.#endLease(item);
      this.#leave(item);
    }
    this.skipBelow = Math.max(this.skipBelow, head);
  }

  seek(to: number, head: number, now: Instant): SeekOutcome {
    this.dropBelow(head);
    const sequence = Math.max(to, head);
    const redelivered = this.items.filter((item) => item.sequence >= sequence && item.settled).length;
    const skipped = this.items.filter((item) => item.sequence < sequence && !item.settled).length;
    for (const item of this.#leased()) {
      this.#endLease(item);
      item.dueMs = now.monotonicMs;
    }
    for (const item of this.items) {
      item.settled = item.sequence < sequence;
      item.attempts = 0;
      item.dueMs = now.monotonicMs;
    }
    for (const letter of [...this.letters.keys()]) if (letter >= sequence) this.letters.delete(letter);
    this.held.clear();
    this.skipBelow = sequence;
    return { sequence, redelivered, skipped };
  }

  /** The sequences that are on their way again. */
  replay(sequences: readonly number[]): number[] {
    const accepted: number[] = [];
    for (const sequence of sequences) {
      if (!this.dead.delete(sequence)) continue;
      if (!this.items[sequence - 1]?.settled) continue;
      this.letters.set(sequence, this.#letter(sequence));
      accepted.push(sequence);
    }
    return accepted;
  }

  get floor(): number {
    const open = this.items.find((item) => !item.settled);
    return open?.sequence ?? Math.max(this.tail, this.skipBelow);
  }

  /** What a restart has to find, if everything is stored. */
  stored(): Stored {
    const { floor, dropped } = this;
    const settled: { from: number; until: number }[] = [];
    for (const { sequence } of this.items.filter((item) => item.sequence > floor && item.settled)) {
      const last = settled.at(-1);
      if (last?.until === sequence) last.until += 1;
      else settled.push({ from: sequence, until: sequence + 1 });
    }
    const retries = new Map<number, RetryRecord>();
    for (const { sequence, settled: done, attempts, notBeforeMs } of [...this.items, ...this.letters.values()]) {
      if (!done && attempts > 0) retries.set(sequence, { attempts, notBeforeMs });
    }
    const letters = new Map<number, { replayed: boolean }>();
    for (const sequence of this.dead) letters.set(sequence, { replayed: false });
    for (const sequence of this.letters.keys()) letters.set(sequence, { replayed: true });
    return { cursor: { floor, settled, dropped }, retries, letters };
  }

  /** Sequences in the order in which they have to go out; those that share a key with a letter may have to wait for it. */
  #mustComeFirst(letter: boolean, nowMs: number): number[] {
    const candidates = this.candidates(nowMs);
    const others = letter ? this.letters : new Map<number, Item>();
    const shared = new Set([...this.letters.values()].map(({ key }) => key));
    const isFree = ({ key }: Item): boolean => !this.settings.ordered || key === '' || !shared.has(key);
    if (!letter) return candidates.messages.filter(isFree).map(({ sequence }) => sequence);
    const alone = (item: Item): boolean =>
      !this.settings.ordered || item.key === '' || this.#ofKey(item.key, others).length === 1;
    return candidates.letters.filter(alone).map(({ sequence }) => sequence);
  }

  #ofKey(key: string, letters: ReadonlyMap<number, Item>): Item[] {
    return [...this.items, ...letters.values()].filter((item) => item.key === key && !item.settled);
  }

  #grantOne(sequence: number, grant: { attempt: number; letter: boolean; consumer: number }, now: Instant): void {
    const { messages, letters } = this.candidates(now.monotonicMs);
    const item = (grant.letter ? letters : messages).find((each) => each.sequence === sequence);
    assert.ok(item, `${grant.letter ? 'letter' : 'message'} ${sequence} must not go out now`);
    assert.ok(this.#fits(grant.consumer, item), `message ${sequence} is beyond the credit of ${grant.consumer}`);
    assert.equal(grant.attempt, item.attempts + 1, 'the attempt counts those that failed');
    const { deliveries } = this.#consumer(grant.consumer);
    deliveries.push({ item, state: 'live' });
    const endMs = now.monotonicMs + this.settings.leaseMs;
    item.lease = { consumer: grant.consumer, delivery: deliveries.length, endMs };
    if (this.settings.ordered && item.key !== '') this.held.set(item.key, item);
  }

  #fits(id: number, item: Item): boolean {
    const { maxMessages, maxBytes } = this.#consumer(id).credit;
    const { messages, bytes } = this.outstanding(id);
    if (messages === 0) return maxMessages > 0;
    return messages < maxMessages && bytes + item.size <= maxBytes;
  }

  /** Takes the live ones of a range off their consumer, and says why the others are not. */
  #take(consumer: ModelConsumer, range: DeliveryRange, quiet: boolean, failures: Failure[]): Delivery[] {
    const last = range.last === 0 ? range.first : range.last;
    if (range.first < 1 || last < range.first) {
      failures.push({ delivery: range.first, reason: 'UNKNOWN_DELIVERY' });
      return [];
    }
    const taken: Delivery[] = [];
    for (let delivery = range.first; delivery <= last; delivery += 1) {
      const found = consumer.deliveries[delivery - 1];
      if (!found) {
        failures.push({ delivery, reason: 'UNKNOWN_DELIVERY' });
        break;
      }
      if (found.state === 'live') taken.push(found);
      else if (found.state === 'over') failures.push({ delivery, reason: 'LEASE_OVER' });
      else if (!quiet) failures.push({ delivery, reason: 'ALREADY_SETTLED' });
      found.state = 'settled';
    }
    for (const { item } of taken) item.lease = undefined;
    return taken;
  }

  #fail(
    item: Item,
    how: { readonly waitMs?: number | undefined; readonly reason: string },
    context: { readonly now: Instant; readonly died: Death[] },
  ): void {
    const { maxAttempts, backoff } = this.settings;
    if (maxAttempts > 0 && item.attempts + 1 >= maxAttempts) {
      this.#die(item, how.reason, context.died);
      return;
    }
    item.attempts += 1;
    const waitMs = how.waitMs ?? backoffMs(backoff, item.attempts);
    item.dueMs = context.now.monotonicMs + waitMs;
    item.notBeforeMs = context.now.wallMs + waitMs;
  }

  #die(item: Item, reason: string, died: Death[]): void {
    died.push({ sequence: item.sequence, attempts: item.attempts + 1, reason, replayed: item.letter });
    this.dead.add(item.sequence);
    this.#leave(item);
  }

  #leave(item: Item): void {
    item.settled = true;
    item.attempts = 0;
    if (item.letter) this.letters.delete(item.sequence);
    if (this.held.get(item.key) === item) this.held.delete(item.key);
  }

  #endLease(item: Item): void {
    if (!item.lease) return;
    const { consumer, delivery } = item.lease;
    const found = this.#consumer(consumer).deliveries[delivery - 1];
    if (found) found.state = 'over';
    item.lease = undefined;
  }

  #leased(): Item[] {
    return [...this.items, ...this.letters.values()].filter(({ lease }) => lease);
  }

  #letter(sequence: number): Item {
    const message = this.items[sequence - 1];
    assert.ok(message);
    return newItem({ sequence, letter: true, size: message.size, key: message.key, settled: false });
  }

  #consumer(id: number): ModelConsumer {
    const consumer = this.consumers.get(id);
    assert.ok(consumer, `consumer ${id} is attached`);
    return consumer;
  }
}

function newItem(fixed: Pick<Item, 'sequence' | 'letter' | 'size' | 'key' | 'settled'>): Item {
  return { ...fixed, attempts: 0, dueMs: 0, notBeforeMs: 0, lease: undefined };
}
