import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { CursorRecord, RetryRecord } from '../../../../src/queue/log/port.js';
import { subscriptionSettings } from '../../../../src/queue/subscription/settings.js';
import { Subscription } from '../../../../src/queue/subscription/subscription.js';
import type { Batch, Credit, Death, DeliveryRange, Instant } from '../../../../src/queue/subscription/types.js';
import { Model, type Published, type Stored } from './model.js';
import { batchOf, ROOM } from './support.js';

const creditArbitrary = fc.record({ maxMessages: fc.nat({ max: 8 }), maxBytes: fc.integer({ min: 1, max: 120 }) });
const consumerArbitrary = fc.nat({ max: 2 });
/** Of a consumer's deliveries: counted back from the newest, so that most of them are live. */
const rangeArbitrary = fc.record({ back: fc.integer({ min: -1, max: 12 }), more: fc.nat({ max: 5 }) });
type WantedRange = typeof rangeArbitrary extends fc.Arbitrary<infer T> ? T : never;

const settleArbitrary = fc.record({
  kind: fc.constant('settle' as const),
  consumer: consumerArbitrary,
  cumulative: fc.option(fc.nat({ max: 12 }), { freq: 4 }),
  acks: fc.array(rangeArbitrary, { maxLength: 2 }),
  nacks: fc.array(
    fc.record({
      range: rangeArbitrary,
      delayMs: fc.constantFrom(undefined, undefined, 0, 700, 90_000),
      deadLetter: fc.boolean(),
    }),
    { maxLength: 2 },
  ),
  extends: fc.array(fc.record({ range: rangeArbitrary, leaseMs: fc.constantFrom(undefined, 1000, 60_000) }), {
    maxLength: 1,
  }),
});

const stepArbitrary = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('publish' as const),
      messages: fc.array(
        fc.record({ size: fc.integer({ min: 2, max: 50 }), key: fc.constantFrom('', 'a', 'a', 'b', 'c') }),
        { minLength: 1, maxLength: 8 },
      ),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('attach' as const),
      consumer: consumerArbitrary,
      credit: creditArbitrary,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('detach' as const),
      consumer: consumerArbitrary,
      counts: fc.boolean(),
    }),
  },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('pump' as const), frames: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'read' as const }) },
  { weight: 8, arbitrary: settleArbitrary },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(1, 500, 1000, 4000, 30_000, 1e6) }),
  },
  { weight: 3, arbitrary: fc.constant({ kind: 'expire' as const }) },
  { weight: 3, arbitrary: fc.constant({ kind: 'commit' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('crash' as const),
      wallMs: fc.constantFrom(0, 0, 5000, -5000, 1e9, -1e12),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('seek' as const), back: fc.integer({ min: -3, max: 30 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const), ahead: fc.nat({ max: 9 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('replay' as const), count: fc.integer({ min: 1, max: 4 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('update' as const),
      paused: fc.boolean(),
      maxAttempts: fc.constantFrom(0, 1, 2, 3),
    }),
  },
);
export type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never;

type CommonStep = Extract<Step, { kind: 'publish' | 'attach' | 'detach' | 'pump' | 'read' | 'settle' | 'wait' }>;
type RareStep = Exclude<Step, CommonStep>;

function isCommon(step: Step): step is CommonStep {
  return ['publish', 'attach', 'detach', 'pump', 'read', 'settle', 'wait'].includes(step.kind);
}

export const stepsArbitrary = fc.array(stepArbitrary, { minLength: 5, maxLength: 50, size: 'max' });

/** A beginning after which there are dead letters. */
export const DEATHS: readonly Step[] = [
  {
    kind: 'publish',
    messages: (['a', 'b', 'a', '', 'b', ''] as const).map((key, index) => ({ size: 5 + index, key })),
  },
  { kind: 'update', paused: false, maxAttempts: 1 },
  { kind: 'attach', consumer: 0, credit: { maxMessages: 8, maxBytes: 120 } },
  ...[0, 1, 2].flatMap((): Step[] => [{ kind: 'pump', frames: 12 }, { kind: 'wait', ms: 30_000 }, { kind: 'expire' }]),
  { kind: 'update', paused: false, maxAttempts: 3 },
];

interface Reading {
  readonly letter: boolean;
  readonly batch: Batch;
}

/** The subscription and its model side by side, with the little of a queue around them that they need. */
export class History {
  readonly #ordered: boolean;
  #subscription: Subscription;
  #model: Model;
  #now: Instant = { monotonicMs: 1000, wallMs: 1_700_000_000_000 };
  /** The topic: all that was published, in batches, from `head` on. */
  readonly #published: Published[] = [];
  readonly #batches: Batch[] = [];
  #head = 1;
  /** What is on disk; and dead letters that go there with the next group. */
  #stored: Stored = { cursor: { floor: 1, settled: [], dropped: 0 }, retries: new Map(), letters: new Map() };
  #letters = new Map<number, { readonly replayed: boolean }>();
  #hadSeek = false;
  /** Read for a grant that is still to come. */
  #readings: Reading[] = [];

  constructor(ordered: boolean) {
    this.#ordered = ordered;
    this.#model = new Model(this.#settings(false, 2));
    this.#subscription = this.#restored();
  }

  run(step: Step): void {
    if (isCommon(step)) this.#common(step);
    else this.#rare(step);
    this.#compare();
  }

  /** All that is left is delivered and settled by one last consumer. */
  finish(): void {
    this.#update(false, 0);
    for (const consumer of [...this.#model.consumers.keys()]) this.#detach(consumer, true);
    this.#attach(9, ROOM);
    for (let round = 0; this.#open > 0; round += 1) {
      assert.ok(round < 300, 'everything unsettled is delivered in the end');
      this.#wait(100_000_000);
      this.#expire();
      this.#pump(100);
      const last = this.#model.consumers.get(9)?.deliveries.length ?? 0;
      if (last > 0) this.#settle(9, { acks: [{ first: 1, last }], nacks: [], extends: [] });
      this.#compare();
    }
    this.#commit();
    assert.deepEqual(this.#stored.retries, new Map());
  }

  #common(step: CommonStep): void {
    switch (step.kind) {
      case 'publish':
        this.#publish(step.messages);
        return;
      case 'attach':
        this.#attach(step.consumer, step.credit);
        return;
      case 'detach':
        if (this.#model.consumers.has(step.consumer)) this.#detach(step.consumer, step.counts);
        return;
      case 'pump':
        this.#pump(step.frames);
        return;
      case 'read':
        this.#readings.push(...this.#read());
        return;
      case 'settle':
        this.#settleSome(step);
        return;
      case 'wait':
        this.#wait(step.ms);
        return;
    }
  }

  #rare(step: RareStep): void {
    switch (step.kind) {
      case 'expire':
        this.#expire();
        return;
      case 'commit':
        this.#commit();
        return;
      case 'crash':
        this.#crash(step.wallMs);
        return;
      case 'seek':
        this.#seek(Math.max(0, this.#model.tail - step.back));
        return;
      case 'drop':
        this.#drop(Math.min(this.#model.tail, this.#head + step.ahead));
        return;
      case 'replay':
        this.#replay(step.count);
        return;
      case 'update':
        this.#update(step.paused, step.maxAttempts);
        return;
    }
  }

  #publish(messages: readonly Published[]): void {
    const firstSequence = this.#model.tail;
    const batch = batchOf(firstSequence, messages);
    const keyOf = (sequence: number): string => {
      assert.ok(this.#ordered, 'keys are looked at only where they matter');
      return batch.keyOf(sequence);
    };
    this.#batches.push({ ...batch, keyOf });
    for (const message of messages) {
      this.#published.push(message);
      this.#model.publish(message);
    }
  }

  #attach(consumer: number, credit: Credit): void {
    const attached = this.#model.consumers.get(consumer);
    if (attached) {
      attached.credit = credit;
      this.#subscription.setCredit(consumer, credit);
    } else {
      this.#model.consumers.set(consumer, { credit, deliveries: [] });
      this.#subscription.attach(consumer, credit);
    }
  }

  #detach(consumer: number, counts: boolean): void {
    this.#died(
      this.#subscription.detach(consumer, { counts }, this.#now),
      this.#model.detach(consumer, counts, this.#now),
    );
  }

  /** As deliveries do it: what was read may no longer be what is wanted. */
  #pump(frames: number): void {
    for (const reading of this.#readings.splice(0)) this.#grant(reading);
    let refused = 0;
    for (let frame = 0; frame < frames;) {
      const [reading] = this.#read();
      if (!reading) {
        this.#checkIdle();
        return;
      }
      assert.ok(!this.#model.settings.paused && this.#model.someoneHasCredit, 'nothing is wanted that nobody takes');
      if (this.#grant(reading)) {
        frame += 1;
        refused = 0;
      } else {
        refused += 1;
        assert.ok(refused < 200, 'next() and grant() come to an end');
      }
    }
  }

  #read(): Reading[] {
    const wanted = this.#subscription.next(this.#bounds, this.#now);
    if (!wanted) return [];
    const letter = wanted.source === 'dead letter';
    return [{ letter, batch: letter ? this.#letterBatch(wanted.sequence) : this.#batchOf(wanted.sequence) }];
  }

  #grant({ letter, batch }: Reading): boolean {
    const { firstSequence: from, count } = batch;
    const grant = letter
      ? this.#subscription.grantDeadLetter(batch, this.#now)
      : this.#subscription.grant(batch, this.#bounds, this.#now);
    if (grant) this.#model.granted(grant, { letter, from, until: from + count }, this.#now);
    return grant !== undefined;
  }

  /** Nothing is wanted: then nothing can go out. */
  #checkIdle(): void {
    const { settings } = this.#model;
    if (settings.paused || !this.#model.someoneHasCredit) return;
    const { messages, letters } = this.#model.candidates(this.#now.monotonicMs);
    const shared = new Set([...this.#model.letters.values()].map(({ key }) => key));
    const isSure = ({ key }: { key: string }): boolean => !this.#ordered || key === '' || !shared.has(key);
    const first = messages.findIndex(isSure);
    const fronts = [...messages.slice(0, first + 1), ...letters];
    if (fronts.length > 0) {
      const unsure = this.#ordered && first < 0;
      assert.ok(unsure || fronts.some((item) => !this.#model.fitsAnyone(item)), 'what can go out goes out');
      return;
    }
    if (!this.#ordered) this.#checkTime();
  }

  /** The subscription says when it has to be asked again. */
  #checkTime(): void {
    const all = [...this.#model.items, ...this.#model.letters.values()].filter(({ settled }) => !settled);
    const times = all.map((item) => item.lease?.endMs ?? item.dueMs);
    const first = times.length === 0 ? undefined : Math.min(...times);
    assert.equal(this.#subscription.nextTimeMs(), first, 'the next time something is due');
  }

  #settleSome(step: Extract<Step, { kind: 'settle' }>): void {
    const consumer = this.#model.consumers.get(step.consumer);
    if (!consumer) return;
    const newest = consumer.deliveries.length;
    const range = ({ back, more }: WantedRange): DeliveryRange => {
      const first = Math.max(0, newest - back);
      return { first, last: more === 0 ? 0 : first + more };
    };
    const acks = step.acks.map(range);
    if (step.cumulative !== null) acks.push({ first: 1, last: Math.max(1, newest - step.cumulative) });
    this.#settle(step.consumer, {
      acks,
      nacks: step.nacks.map((nack) => ({ ...nack, range: range(nack.range), reason: 'not now' })),
      extends: step.extends.map((extend) => ({ ...extend, range: range(extend.range) })),
    });
  }

  #settle(consumer: number, order: Parameters<Subscription['settle']>[1]): void {
    const real = this.#subscription.settle(consumer, order, this.#now);
    const expected = this.#model.settle(consumer, order, this.#now);
    assert.deepEqual(byDelivery(real.failures), byDelivery(expected.failures));
    this.#died(real.died, expected.died);
  }

  #wait(ms: number): void {
    this.#now = { monotonicMs: this.#now.monotonicMs + ms, wallMs: this.#now.wallMs + ms };
  }

  #expire(): void {
    this.#died(this.#subscription.expire(this.#now), this.#model.expire(this.#now));
    const next = this.#subscription.nextTimeMs();
    assert.ok(next === undefined || next > this.#now.monotonicMs, 'after expire() nothing is over or due');
  }

  #died(real: readonly Death[], expected: readonly Death[]): void {
    assert.deepEqual(bySequence(real), bySequence(expected));
    for (const { sequence } of real) this.#letters.set(sequence, { replayed: false });
  }

  /** Everything that changed becomes durable, and is what the model says. */
  #commit(): void {
    const { cursor, retries, lettersDone } = this.#subscription.takeChanges();
    const stored = {
      cursor: cursor ?? this.#stored.cursor,
      retries: new Map<number, RetryRecord>(this.#stored.retries),
      letters: new Map([...this.#stored.letters, ...this.#letters]),
    };
    for (const [sequence, retry] of retries) {
      if (retry) stored.retries.set(sequence, retry);
      else stored.retries.delete(sequence);
    }
    for (const sequence of lettersDone) stored.letters.delete(sequence);
    const expected = this.#model.stored();
    assert.deepEqual(sorted(stored), sorted(expected), 'what is stored');
    this.#stored = stored;
    this.#letters = new Map();
  }

  /** The process ends; another one begins with what is durable, and a wall clock that may be wrong. */
  #crash(wallMs: number): void {
    this.#now = { monotonicMs: 500, wallMs: this.#now.wallMs + wallMs };
    const { settings } = this.#model;
    this.#model = new Model(settings);
    this.#model.restore(this.#stored, this.#published, this.#now);
    this.#subscription = this.#restored();
    this.#letters = new Map();
    this.#drop(this.#head);
  }

  #restored(): Subscription {
    const { cursor, retries, letters } = this.#stored;
    const replayed = [...letters].filter(([, letter]) => letter.replayed).map(([sequence]) => sequence);
    const dead = letters.size - replayed.length;
    const restored = { cursor: copy(cursor), retries, replayed: replayed.sort((a, b) => a - b), dead };
    return new Subscription(this.#model.settings, restored, this.#now);
  }

  #seek(to: number): void {
    const preview = this.#subscription.previewSeek(to, this.#bounds);
    const real = this.#subscription.seek(to, this.#bounds);
    assert.deepEqual(real, this.#model.seek(to, this.#head, this.#now));
    assert.deepEqual(preview, real, 'a preview says what happens');
    this.#hadSeek = true;
  }

  #drop(head: number): void {
    this.#head = head;
    this.#subscription.dropBelow(head);
    this.#model.dropBelow(head);
  }

  #replay(count: number): void {
    const some = [...this.#model.dead].slice(0, count);
    const accepted = this.#model.replay(some);
    assert.deepEqual(this.#subscription.replay(some), accepted);
    for (const sequence of accepted) this.#letters.set(sequence, { replayed: true });
  }

  #update(paused: boolean, maxAttempts: number): void {
    this.#model.settings = this.#settings(paused, maxAttempts);
    this.#subscription.update(this.#model.settings);
  }

  /** What can be asked at any time. */
  #compare(): void {
    const model = this.#model;
    const stats = this.#subscription.stats(this.#bounds);
    assert.equal(this.#subscription.floor, model.floor, 'the floor is the first unsettled message');
    const open = model.items.filter(({ settled }) => !settled);
    const leased = [...open, ...model.letters.values()].filter(({ lease }) => lease);
    assert.equal(stats.backlog, this.#open);
    assert.equal(stats.oldest, open[0]?.sequence);
    assert.equal(stats.leased, leased.length);
    assert.equal(stats.replayed, model.letters.size);
    assert.equal(stats.dropped, model.dropped);
    if (!this.#hadSeek) assert.equal(stats.dead, model.dead.size);
    for (const { consumer, leased: messages, leasedBytes: bytes } of stats.consumers) {
      assert.deepEqual({ messages, bytes }, model.outstanding(consumer));
      assert.equal(this.#subscription.leasedBy(consumer), messages);
    }
    assert.equal(stats.consumers.length, model.consumers.size);
  }

  get #open(): number {
    return this.#model.items.filter(({ settled }) => !settled).length + this.#model.letters.size;
  }

  get #bounds(): { head: number; tail: number } {
    return { head: this.#head, tail: this.#model.tail };
  }

  #batchOf(sequence: number): Batch {
    const found = this.#batches.find((batch) => sequence < batch.firstSequence + batch.count);
    assert.ok(found && sequence >= this.#head, 'what is wanted is stored');
    return found;
  }

  #letterBatch(sequence: number): Batch {
    const message = this.#published[sequence - 1];
    assert.ok(message && this.#model.letters.has(sequence), 'a letter that is wanted is on its way');
    return batchOf(sequence, [message]);
  }

  #settings(paused: boolean, maxAttempts: number): ReturnType<typeof subscriptionSettings> {
    const backoff = { initialMs: 400, maxMs: 3000, multiplier: 2.5 };
    return subscriptionSettings({ leaseMs: 5000, maxAttempts, backoff, ordered: this.#ordered, paused });
  }
}

function byDelivery<T extends { delivery: number; reason: string }>(failures: readonly T[]): T[] {
  return [...failures].sort((a, b) => a.delivery - b.delivery || a.reason.localeCompare(b.reason));
}

function bySequence<T extends { sequence: number }>(deaths: readonly T[]): T[] {
  return [...deaths].sort((a, b) => a.sequence - b.sequence);
}

function sorted({ cursor, retries, letters }: Stored): unknown {
  const order = <T>(map: ReadonlyMap<number, T>): [number, T][] => [...map].sort(([a], [b]) => a - b);
  return { cursor, retries: order(retries), letters: order(letters) };
}

function copy(cursor: CursorRecord): CursorRecord {
  return { ...cursor, settled: [...cursor.settled] };
}
