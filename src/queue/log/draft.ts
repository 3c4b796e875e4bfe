/** Turns the changes of one commit into the records they store. Pure but for what it reads of dead letters, which is passed in. */
import type { RecordChange } from '../../store/records.js';
import { batchKey, keyOf, type Kind, type KeyParts } from './keys.js';
import type { Change, StoredBatch, SubscriptionRecord, TopicRecord } from './port.js';
import {
  EMPTY_BOUNDS,
  NO_DELAYED,
  encodeBatchHeader,
  encodeBounds,
  encodeCursor,
  encodeDelayedSummary,
  encodeJson,
  encodeLetterHeader,
  encodeNumber,
  encodeProducer,
  encodeRetry,
  type Bounds,
} from './records.js';
import { bug, stateOf, type LogState, type TopicState } from './state.js';

type ChangeOf<K extends Change['kind']> = Extract<Change, { kind: K }>;

/** What is stored of a dead letter. */
export type Letter = 'none' | 'dead' | 'replayed';

/** The key of a dead letter. */
export function letterKey(change: { topicId: number; subscriptionId: number; sequence: number }): Buffer {
  return keyOf('deadLetter', { ids: [change.topicId, change.subscriptionId], numbers: [change.sequence] });
}

/** Whether changes of a kind make the log larger, where they store something. */
const GROWING: Readonly<Record<Change['kind'], boolean>> = {
  topic: true,
  'topic removed': false,
  head: false,
  batch: true,
  subscription: true,
  'subscription removed': false,
  cursor: false,
  retry: false,
  'dead letter': false,
  delayed: true,
  dedupe: true,
  producer: true,
};

/** Whether a change makes the log larger. The others go on while the disk is almost full, because they let messages leave. */
export function grows(change: Change): boolean {
  if (change.kind === 'delayed') return change.message !== undefined;
  if (change.kind === 'producer') return change.record !== undefined;
  return GROWING[change.kind];
}

/** What hangs below a topic or a subscription. */
type Detail = ChangeOf<'cursor' | 'retry' | 'dead letter' | 'delayed' | 'dedupe' | 'producer'>;

const DETAILS: ReadonlySet<Change['kind']> = new Set<Detail['kind']>([
  'cursor',
  'retry',
  'dead letter',
  'delayed',
  'dedupe',
  'producer',
]);

function isDetail(change: Change): change is Detail {
  return DETAILS.has(change.kind);
}

/** Changes one after another, each seeing those before it. Nothing of the log's state moves before applyTo(). */
export class Draft {
  readonly #state: LogState;
  /** By their keys in hexadecimal. */
  readonly #letters: Map<string, Letter>;
  readonly #topics = new Map<number, TopicState | undefined>();
  readonly #written: RecordChange[] = [];
  #nextTopicId: number;
  #bytes = 0;

  constructor(state: LogState, letters: Map<string, Letter>) {
    this.#state = state;
    this.#letters = letters;
    this.#nextTopicId = state.nextTopicId;
  }

  /** @throws internal when the change breaks the port's rules */
  add(change: Change): void {
    if (isDetail(change)) {
      this.#detail(change);
      return;
    }
    switch (change.kind) {
      case 'topic':
        this.#topic(change.topic);
        return;
      case 'topic removed':
        this.#topicRemoved(change.topicId);
        return;
      case 'head':
        this.#head(change);
        return;
      case 'batch':
        this.#batch(change.topicId, change.batch);
        return;
      case 'subscription':
        this.#subscription(change.subscription);
        return;
      case 'subscription removed':
        this.#subscriptionRemoved(change.topicId, change.subscriptionId);
    }
  }

  /** What to store, with the records of the topics that were touched. */
  records(): readonly RecordChange[] {
    for (const [topicId, topic] of this.#topics) if (topic) this.#putSummaries(topicId, topic);
    if (this.#nextTopicId !== this.#state.nextTopicId) this.#put('global', {}, encodeNumber(this.#nextTopicId));
    return this.#written;
  }

  #putSummaries(topicId: number, { bounds, delayed, dead }: TopicState): void {
    const before = this.#state.topics.get(topicId);
    if (bounds !== before?.bounds) this.#put('bounds', { ids: [topicId] }, encodeBounds(bounds));
    if (delayed !== (before?.delayed ?? NO_DELAYED)) {
      this.#put('delayedSummary', { ids: [topicId] }, encodeDelayedSummary(delayed));
    }
    if (dead !== before?.dead) this.#putCounts(topicId, dead, before?.dead ?? new Map());
  }

  #putCounts(topicId: number, dead: TopicState['dead'], before: TopicState['dead']): void {
    for (const [subscriptionId, count] of dead) {
      if (count === (before.get(subscriptionId) ?? 0)) continue;
      this.#put('dead', { ids: [topicId, subscriptionId] }, encodeNumber(count));
    }
  }

  /** Bytes of keys and values so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Moves the log's state, once the records are durable. */
  applyTo(state: LogState): void {
    for (const [topicId, topic] of this.#topics) {
      if (topic) state.topics.set(topicId, topic);
      else state.topics.delete(topicId);
    }
    state.nextTopicId = this.#nextTopicId;
  }

  #of(topicId: number): TopicState {
    if (this.#topics.has(topicId)) return this.#topics.get(topicId) ?? stateOf(new Map(), topicId);
    return stateOf(this.#state.topics, topicId);
  }

  #move(topicId: number, moved: Partial<TopicState>): void {
    this.#topics.set(topicId, { ...this.#of(topicId), ...moved });
  }

  #moveBounds(topicId: number, moved: Partial<Bounds>): void {
    this.#move(topicId, { bounds: { ...this.#of(topicId).bounds, ...moved } });
  }

  #write(key: Buffer, value: readonly Uint8Array[] | undefined): void {
    this.#bytes += key.length;
    for (const piece of value ?? []) this.#bytes += piece.length;
    this.#written.push({ key, value });
  }

  #put(kind: Kind, parts: KeyParts, value: Buffer): void {
    this.#write(keyOf(kind, parts), [value]);
  }

  #delete(kind: Kind, parts: KeyParts): void {
    this.#write(keyOf(kind, parts), undefined);
  }

  #topic(topic: TopicRecord): void {
    const known = this.#topics.has(topic.id) ? this.#topics.get(topic.id) : this.#state.topics.get(topic.id);
    if (!known) {
      if (topic.id < this.#nextTopicId) throw bug(`topic id ${topic.id} was given out before`);
      this.#topics.set(topic.id, {
        name: topic.name,
        bounds: { ...EMPTY_BOUNDS },
        delayed: NO_DELAYED,
        dead: new Map(),
      });
      this.#nextTopicId = topic.id + 1;
    } else if (known.name !== topic.name) {
      this.#move(topic.id, { name: topic.name });
    }
    this.#put('topic', { ids: [topic.id] }, encodeJson(topic));
  }

  #topicRemoved(topicId: number): void {
    const ids = [topicId];
    for (const subscriptionId of this.#of(topicId).dead.keys()) this.#deleteSubscription(topicId, subscriptionId);
    for (const kind of ['topic', 'bounds', 'delayedSummary'] as const) this.#delete(kind, { ids });
    this.#put('removal', { ids }, Buffer.alloc(0));
    this.#topics.set(topicId, undefined);
  }

  #head({ topicId, head, offset }: ChangeOf<'head'>): void {
    const { bounds } = this.#of(topicId);
    if (head < bounds.head || offset < bounds.headOffset) throw bug(`the head of topic ${topicId} would go back`);
    const beyond = head > bounds.next;
    if (!beyond && offset > bounds.nextOffset) throw bug(`the head of topic ${topicId} has an offset behind its end`);
    this.#moveBounds(topicId, {
      head,
      headOffset: offset,
      ...(beyond ? { next: head, nextOffset: Math.max(offset, bounds.nextOffset) } : {}),
    });
  }

  #batch(topicId: number, batch: StoredBatch): void {
    const { bounds } = this.#of(topicId);
    if (batch.firstSequence !== bounds.next || batch.offset !== bounds.nextOffset || batch.count < 1) {
      throw bug(
        `a batch of topic ${topicId} begins at sequence ${batch.firstSequence}, offset ${batch.offset}, ` +
          `where sequence ${bounds.next}, offset ${bounds.nextOffset} is next`,
      );
    }
    if (batch.publishedMs < bounds.newestMs) throw bug(`a batch of topic ${topicId} is older than the one before it`);
    const next = bounds.next + batch.count;
    this.#write(batchKey(topicId, next - 1), [encodeBatchHeader(batch), batch.messages]);
    this.#moveBounds(topicId, {
      next,
      nextOffset: bounds.nextOffset + batch.messages.length,
      newestMs: batch.publishedMs,
    });
  }

  #subscription(subscription: SubscriptionRecord): void {
    const { topicId, id } = subscription;
    const { dead, bounds } = this.#of(topicId);
    if (!dead.has(id)) {
      if (id < bounds.nextSubscriptionId) throw bug(`subscription id ${id} of topic ${topicId} was given out before`);
      this.#move(topicId, { dead: new Map([...dead, [id, 0]]), bounds: { ...bounds, nextSubscriptionId: id + 1 } });
    }
    this.#put('subscription', { ids: [topicId, id] }, encodeJson(subscription));
  }

  #subscriptionRemoved(topicId: number, subscriptionId: number): void {
    const dead = new Map(this.#of(topicId).dead);
    if (!dead.delete(subscriptionId)) throw bug(`topic ${topicId} has no subscription ${subscriptionId}`);
    this.#move(topicId, { dead });
    this.#deleteSubscription(topicId, subscriptionId);
    this.#put('removal', { ids: [topicId, subscriptionId] }, Buffer.alloc(0));
  }

  #deleteSubscription(topicId: number, subscriptionId: number): void {
    for (const kind of ['subscription', 'cursor', 'dead'] as const)
      this.#delete(kind, { ids: [topicId, subscriptionId] });
  }

  #detail(change: Detail): void {
    const ids = [change.topicId];
    switch (change.kind) {
      case 'cursor':
        this.#assertSubscription(change);
        this.#put('cursor', { ids: [...ids, change.subscriptionId] }, encodeCursor(change.cursor));
        return;
      case 'retry':
        this.#retry(change);
        return;
      case 'dead letter':
        this.#deadLetter(change);
        return;
      case 'delayed':
        this.#delayed(change);
        return;
      case 'dedupe':
        this.#of(change.topicId);
        this.#put('dedupe', { ids, numbers: [change.window], text: change.id }, encodeNumber(change.sequence));
        return;
      case 'producer':
        this.#producer(change);
    }
  }

  #assertSubscription({ topicId, subscriptionId }: { topicId: number; subscriptionId: number }): void {
    if (!this.#of(topicId).dead.has(subscriptionId)) {
      throw bug(`topic ${topicId} has no subscription ${subscriptionId}`);
    }
  }

  #retry(change: ChangeOf<'retry'>): void {
    this.#assertSubscription(change);
    const parts = { ids: [change.topicId, change.subscriptionId], numbers: [change.sequence] };
    if (change.retry) this.#put('retry', parts, encodeRetry(change.retry));
    else this.#delete('retry', parts);
  }

  #deadLetter(change: ChangeOf<'dead letter'>): void {
    this.#assertSubscription(change);
    const { topicId, subscriptionId, sequence, letter } = change;
    const key = letterKey(change);
    const marker = { ids: [topicId, subscriptionId], numbers: [sequence] };
    const before = this.#letters.get(key.toString('hex')) ?? 'none';
    const after: Letter = letter ? (letter.replayed ? 'replayed' : 'dead') : 'none';
    this.#letters.set(key.toString('hex'), after);
    this.#write(key, letter && [encodeLetterHeader(letter), letter.message]);
    if (after === 'replayed') this.#put('replayed', marker, Buffer.alloc(0));
    else if (before === 'replayed') this.#delete('replayed', marker);
    const { dead } = this.#of(topicId);
    const count = (dead.get(subscriptionId) ?? 0) + (after === 'dead' ? 1 : 0) - (before === 'dead' ? 1 : 0);
    this.#move(topicId, { dead: new Map([...dead, [subscriptionId, count]]) });
  }

  #delayed({ topicId, dueMs, number, message }: ChangeOf<'delayed'>): void {
    const { count, nextNumber } = this.#of(topicId).delayed;
    this.#write(keyOf('delayed', { ids: [topicId], numbers: [dueMs, number] }), message && [message]);
    if (message && number < nextNumber) throw bug(`delayed message ${number} of topic ${topicId} was given out before`);
    if (!message && count === 0) throw bug(`topic ${topicId} has no delayed messages`);
    const delayed = message ? { count: count + 1, nextNumber: number + 1 } : { count: count - 1, nextNumber };
    this.#move(topicId, { delayed });
  }

  #producer({ topicId, producer, record }: ChangeOf<'producer'>): void {
    this.#of(topicId);
    const parts = { ids: [topicId], text: producer };
    if (record) this.#put('producer', parts, encodeProducer(record));
    else this.#delete('producer', parts);
  }
}
