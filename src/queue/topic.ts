import { setMaxListeners } from 'node:events';
import type { Clock } from '../kit/clock.js';
import { formatSize } from '../kit/durations.js';
import { MusterError } from '../kit/errors.js';
import { BatchBuilder, type Published, type Tail } from './batch-builder.js';
import { BatchView } from './batch.js';
import type { BatchCache } from './batch-cache.js';
import type { Contributor, GroupCommit } from './group-commit.js';
import type { Change, DelayedRecord, LoadedTopic, QueueLog, TopicRecord } from './log/port.js';
import { Producers } from './producers.js';
import type { EncodedBatch } from './publication.js';
import { RateMeter } from './rate.js';
import { TopicHead, type Place } from './topic-head.js';

/** Bytes of one topic that go into one group; the rest waits for the next, so that a busy topic does not hold up the others. */
const GROUP_BYTES_MAX = 4 * 1024 * 1024;
/** Delayed messages that enter a topic with one group. */
const DUE_MAX = 1000;
/** Read at once while looking for what to drop. */
const READ_BYTES = 1024 * 1024;
/** Read ahead of what a consumer takes next. */
const READ_AHEAD_BYTES = 512 * 1024;
const FULL_RETRY_AFTER_MS = 1000;

/** A stream's claim on a producer's name. */
export interface ProducerClaim {
  readonly name: string;
  readonly owner: number;
  readonly batch: number;
}

/** One of a topic's subscriptions, as the topic needs to know it. */
export interface Subscriber {
  /** All below are settled. */
  readonly floor: number;
  /** There is something new. */
  wake(): void;
  /** Messages below are gone. */
  dropBelow(head: number): void;
}

interface Publication {
  readonly encoded: EncodedBatch;
  readonly claim: ProducerClaim | undefined;
  readonly resolve: (published: Published) => void;
  readonly reject: (error: unknown) => void;
}

/** What the group that is being written will have changed. */
interface Writing {
  readonly outcomes: { readonly publication: Publication; readonly published: Published }[];
  readonly views: readonly BatchView[];
  readonly tail: Tail;
  readonly head: Place;
  readonly publishedMs: number;
  readonly due: number;
  readonly delayed: number;
  readonly nextDelayedNumber: number;
}

export interface TopicParts {
  readonly log: QueueLog;
  readonly commit: GroupCommit;
  readonly cache: BatchCache;
  readonly clock: Clock;
}

/**
 * One topic: gives messages their sequences and says where they are. Publishers append, subscribers read.
 * Invariants: head <= every subscription's floor unless retention dropped messages; head <= tail.next; what lies from head to tail.next is
 * durable and without gaps; a sequence is given out only by contribute(), and belongs to a message only after committed().
 */
export class Topic implements Contributor {
  readonly essential = false;
  readonly subscribers = new Set<Subscriber>();
  readonly producers: Producers;
  readonly published: RateMeter;
  /** Ids of subscriptions are never given out again. */
  nextSubscriptionId: number;
  readonly #parts: TopicParts;
  readonly #recent: ReturnType<BatchCache['newTail']>;
  #record: TopicRecord;
  readonly #head: TopicHead;
  #tail: Tail;
  #newestMs: number;
  #delayed: { count: number; nextNumber: number };
  #waiting: Publication[] = [];
  /** Of what was published and is not answered. */
  #pendingBytes = 0;
  /** What contribute() took and neither committed() nor refused() has answered. */
  #taken: readonly Publication[] = [];
  /** Accepted by their producers' records in the group that is being written. */
  #claims: ProducerClaim[] = [];
  #writing: Writing | undefined;
  #dueWanted = false;
  /** The oldest message is older than max_age allows. */
  #overAge = false;
  #closed: MusterError | undefined;
  readonly #gone = new AbortController();
  #trimmed = 0;

  constructor(loaded: LoadedTopic, parts: TopicParts) {
    this.#parts = parts;
    this.#record = loaded.record;
    this.#head = new TopicHead(loaded.record.id, { head: loaded.head, offset: loaded.headOffset }, (head) => {
      for (const subscriber of this.subscribers) subscriber.dropBelow(head);
      this.#recent.dropBelow(head);
      parts.cache.reads.dropBelow(this.id, head);
    });
    this.#tail = { next: loaded.next, offset: loaded.nextOffset };
    this.#newestMs = loaded.newestMs;
    this.#delayed = { count: loaded.delayed.count, nextNumber: loaded.delayed.nextNumber };
    this.nextSubscriptionId = loaded.nextSubscriptionId;
    this.#recent = parts.cache.newTail();
    this.producers = new Producers(loaded.record.id, loaded.producers);
    // Each of its publishers' streams listens.
    setMaxListeners(0, this.#gone.signal);
    this.published = new RateMeter(parts.clock);
  }

  get record(): TopicRecord {
    return this.#record;
  }

  get id(): number {
    return this.#record.id;
  }

  /** Messages below are gone. */
  get head(): number {
    return this.#head.durable.head;
  }

  /** Sequence of the next message. */
  get next(): number {
    return this.#tail.next;
  }

  /** Encoded bytes of what is stored. */
  get bytes(): number {
    return this.#tail.offset - this.#head.durable.offset;
  }

  /** Messages that wait for their deliver_after. */
  get delayed(): number {
    return this.#delayed.count;
  }

  /** The settings have been changed; they are stored already. */
  update(record: TopicRecord): void {
    this.#record = record;
  }

  /**
   * Appends a batch; resolves when it is durable.
   * @throws exhausted (TOPIC_FULL, DISK_ALMOST_FULL); precondition (BATCH_GAP, PRODUCER_DISPLACED); unavailable
   */
  publish(encoded: EncodedBatch, claim?: ProducerClaim): Promise<Published> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (claim) this.producers.expect(claim);
    const { maxBytes, onFull } = this.#record.settings;
    const bytes = this.bytes + this.#pendingBytes + encoded.messages.length;
    if (onFull === 'REJECT' && ((maxBytes > 0 && bytes > maxBytes) || this.#overAge)) {
      return Promise.reject(this.#full());
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ encoded, claim, resolve, reject });
      this.#pendingBytes += encoded.messages.length;
      void this.#parts.commit.commit(this);
    });
  }

  /** The batch that holds `sequence`, where it is in memory. */
  recent(sequence: number): BatchView | undefined {
    return this.#recent.find(sequence);
  }

  /** Batches from the one on that holds `sequence`, or from the first behind it. @throws data_loss, unavailable */
  async read(sequence: number, bytesMax: number): Promise<readonly BatchView[]> {
    const stored = await this.#parts.log.read(this.id, sequence, bytesMax);
    return stored.map((batch) => new BatchView(batch));
  }

  /** The same for a subscription that reads ahead: those at about the same place share what is read. @throws data_loss, unavailable */
  readAhead(sequence: number): Promise<readonly BatchView[]> {
    const read = (): Promise<readonly BatchView[]> => this.read(sequence, READ_AHEAD_BYTES);
    return this.subscribers.size > 1 ? this.#parts.cache.reads.read(this.id, sequence, read) : read();
  }

  /** Lets delayed messages that are due enter. */
  async admitDue(): Promise<void> {
    this.#dueWanted = true;
    await this.#parts.commit.commit(this);
  }

  /** Resolves when everything that was being stored has been, or has been refused. */
  settled(): Promise<void> {
    return this.#parts.commit.commit(this);
  }

  /** Moves the head up to `sequence`: what is below is not read any more and its space is given back. */
  async moveHead(sequence: number): Promise<void> {
    const to = Math.min(sequence, this.next);
    if (to <= this.head) return;
    this.#head.want({ head: to, offset: await this.#offsetAt(to) });
    await this.#parts.commit.commit(this.#head);
  }

  /** Where the space below was given back to. */
  get trimmed(): number {
    return this.#trimmed;
  }

  /** Lets go of what is stored below the head. */
  async trim(): Promise<void> {
    const head = this.head;
    await this.#parts.log.trim({ topicId: this.id, head });
    this.#trimmed = head;
  }

  /** Forgets dedupe ids of windows below. */
  async forgetDedupe(window: number): Promise<void> {
    await this.#parts.log.forgetDedupe(this.id, window);
  }

  /** Whether publishing is refused because the oldest message is too old. */
  set overAge(over: boolean) {
    this.#overAge = over;
  }

  /** The topic was deleted: what is not stored yet is refused. */
  close(reason: MusterError): void {
    this.#closed = reason;
    this.#parts.cache.reads.dropBelow(this.id, Infinity);
    this.#gone.abort(reason);
  }

  /** Aborts when the topic is deleted. One of the same name that is made later is another. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  async contribute(): Promise<readonly Change[]> {
    const publishedMs = Math.max(this.#parts.clock.now(), this.#newestMs);
    const publications = this.#takeWaiting();
    this.#taken = publications;
    if (this.#closed) throw this.#closed;
    const due = await this.#takeDue(publishedMs);
    const { known, window } = await this.#dedupe(publications, publishedMs);
    const builder = new BatchBuilder({
      topicId: this.id,
      tail: this.#tail,
      publishedMs,
      nextDelayedNumber: this.#delayed.nextNumber,
      window,
      known,
    });
    builder.addDue(due.map(({ message }) => message));
    const producers = new Map<string, Change>();
    const outcomes: Writing['outcomes'] = [];
    for (const publication of publications) {
      const published = this.#place(publication, builder);
      if (!published) continue;
      outcomes.push({ publication, published });
      if (!publication.claim || published.repeated) continue;
      this.#claims.push(publication.claim);
      const record = this.producers.accept(publication.claim, published, publishedMs);
      producers.set(publication.claim.name, record);
    }
    const { batches, changes } = builder.finish();
    const head = await this.#makeRoom(builder.tail.offset);
    this.#writing = {
      outcomes,
      views: batches.map((batch) => new BatchView(batch)),
      tail: builder.tail,
      head,
      publishedMs,
      due: due.length,
      delayed: builder.delayed,
      nextDelayedNumber: builder.nextDelayedNumber,
    };
    return [...changes, ...producers.values(), ...this.#removals(due), ...this.#head.changeTo(head)];
  }

  committed(): void {
    const writing = this.#writing;
    this.#writing = undefined;
    this.#answered();
    if (!writing) return;
    const { views, tail, outcomes } = writing;
    this.published.add(tail.next - this.#tail.next);
    this.#tail = tail;
    if (views.length > 0) this.#newestMs = writing.publishedMs;
    this.#delayed = {
      count: this.#delayed.count + writing.delayed - writing.due,
      nextNumber: writing.nextDelayedNumber,
    };
    for (const view of views) this.#recent.push(view);
    this.#head.moved(writing.head);
    for (const { publication, published } of outcomes) publication.resolve(published);
    if (views.length > 0) for (const subscriber of this.subscribers) subscriber.wake();
    this.#goOn();
  }

  refused(error: unknown): void {
    this.producers.undo(this.#claims);
    this.#writing = undefined;
    this.#head.leave();
    for (const publication of this.#answered()) publication.reject(error);
    this.#goOn();
  }

  /** Nothing that contribute() took is pending any more. */
  #answered(): readonly Publication[] {
    const taken = this.#taken;
    this.#taken = [];
    this.#claims = [];
    for (const { encoded } of taken) this.#pendingBytes -= encoded.messages.length;
    return taken;
  }

  #goOn(): void {
    if (this.#waiting.length > 0) void this.#parts.commit.commit(this);
  }

  #takeWaiting(): readonly Publication[] {
    let bytes = 0;
    let count = 0;
    for (const { encoded } of this.#waiting) {
      if (count > 0 && bytes + encoded.messages.length > GROUP_BYTES_MAX) break;
      bytes += encoded.messages.length;
      count += 1;
    }
    const taken = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    return taken;
  }

  async #takeDue(nowMs: number): Promise<readonly DelayedRecord[]> {
    if (!this.#dueWanted) return [];
    this.#dueWanted = false;
    return this.#parts.log.delayed(this.id, nowMs, DUE_MAX);
  }

  /** Sequences of the dedupe ids in the group that are stored, and the window that new ones belong to. No other group is being written now. */
  async #dedupe(
    publications: readonly Publication[],
    nowMs: number,
  ): Promise<{ known: Map<string, number>; window: number }> {
    const { dedupeWindowMs } = this.#record.settings;
    const window = dedupeWindow(nowMs, dedupeWindowMs);
    const placed = publications.flatMap(({ encoded }) => encoded.placed ?? []);
    const ids = placed.map(({ dedupeId }) => dedupeId).filter((id) => id !== '');
    if (ids.length === 0) return { known: new Map(), window };
    const stored = await this.#parts.log.dedupe(this.id, [window, window - dedupeWindowMs], ids);
    return { known: new Map(stored), window };
  }

  /** Undefined when it was refused, which its publisher has been told. */
  #place({ encoded, claim, reject }: Publication, builder: BatchBuilder): Published | undefined {
    if (!claim) return builder.add(encoded);
    const verdict = this.producers.judge(claim);
    switch (verdict.kind) {
      case 'new':
        return builder.add(encoded);
      case 'repeated':
        return verdict.published;
      case 'refused':
        reject(verdict.error);
        return undefined;
    }
  }

  #removals(due: readonly DelayedRecord[]): Change[] {
    return due.map(({ dueMs, number }) => ({
      kind: 'delayed',
      topicId: this.id,
      dueMs,
      number,
      message: undefined,
    }));
  }

  /** Where the head is with this group: the oldest messages are dropped where it would not fit under max_bytes otherwise. */
  async #makeRoom(tailOffset: number): Promise<Place> {
    const head = this.#head.further();
    const { maxBytes, onFull } = this.#record.settings;
    if (maxBytes === 0 || onFull !== 'DROP_OLDEST' || tailOffset - head.offset <= maxBytes) return head;
    return this.#head.further(await this.#firstWithin(head, tailOffset - maxBytes));
  }

  /** The first whole batch at or behind `offset`. */
  async #firstWithin(from: Place, offset: number): Promise<Place> {
    let at = from;
    while (at.offset < offset && at.head < this.next) {
      const views = await this.read(at.head, READ_BYTES);
      const found = views.find((view) => view.stored.offset >= offset);
      const last = views.at(-1);
      if (!last) break;
      at = found
        ? { head: found.firstSequence, offset: found.stored.offset }
        : { head: last.until, offset: last.stored.offset + last.stored.messages.length };
    }
    return at;
  }

  async #offsetAt(sequence: number): Promise<number> {
    if (sequence >= this.next) return this.#tail.offset;
    const view = this.recent(sequence) ?? (await this.read(sequence, 1))[0];
    return view ? view.stored.offset : this.#tail.offset;
  }

  #full(): MusterError {
    const { name, settings } = this.#record;
    const why = this.#overAge
      ? 'its oldest unsettled message is older than max_age allows'
      : `it holds ${formatSize(this.bytes)} of at most ${formatSize(settings.maxBytes)}`;
    return new MusterError(
      'exhausted',
      `topic ${name} is full: ${why}. Let its subscribers catch up, raise the limit, or let the oldest go: \`muster topic update ${name} --on-full drop-oldest\``,
      { reason: 'TOPIC_FULL', retryAfterMs: FULL_RETRY_AFTER_MS, metadata: { topic: name } },
    );
  }
}

/**
 * Dedupe ids are kept in windows of time that are forgotten whole, named by when they begin: an id is known in the window of its message and in the
 * next one. Windows of another length, of before a change of the settings, are not looked into; they are forgotten by their time all the same.
 */
export function dedupeWindow(nowMs: number, windowMs: number): number {
  return nowMs - (nowMs % windowMs);
}
