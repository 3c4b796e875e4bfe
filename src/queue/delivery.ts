import type { Clock, Timer } from '../kit/clock.js';
import { isCode, MusterError, messageOf } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import { BatchView } from './batch.js';
import type { FramedRun } from './delivery-frame.js';
import type { GroupCommit } from './group-commit.js';
import type { DeadLetterRecord, LoadedSubscription, QueueLog, SubscriptionRecord } from './log/port.js';
import { RateMeter } from './rate.js';
import { Settlement } from './settlement.js';
import { Subscription } from './subscription/subscription.js';
import type {
  Bounds,
  Credit,
  Failure,
  Grant,
  Instant,
  SeekOutcome,
  SettleOrder,
  SubscriptionStats,
  Wanted,
} from './subscription/types.js';
import type { Subscriber, Topic } from './topic.js';

/** Before a disk that could not be read is asked again. */
const READ_RETRY_MS = 1000;
const NO_CREDIT: Credit = { maxMessages: 0, maxBytes: 0 };

/** A consumer's way out. */
export interface Sink {
  readonly name: string;
  /** Takes one frame; never waits. Says false when it has enough for now: resume() it then. */
  deliver(frame: Frame): boolean;
  /** The subscription is gone or the server gives up: no more will come. */
  end(reason: MusterError): void;
}

/** What is delivered at once to one consumer. */
export interface Frame {
  readonly firstDelivery: number;
  readonly runs: readonly FramedRun[];
}

/** A consumer that is attached. */
export interface Attached {
  readonly id: number;
  readonly sink: Sink;
  readonly sinceMs: number;
  readonly credit: Credit;
  readonly held: boolean;
}

interface Consumer {
  readonly id: number;
  readonly sink: Sink;
  readonly sinceMs: number;
  credit: Credit;
  /** Its sink has enough for now. */
  held: boolean;
}

export interface DeliveryParts {
  readonly log: QueueLog;
  readonly commit: GroupCommit;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Something was settled durably: the topic may be able to let go of messages. */
  readonly onSettled: () => void;
}

/**
 * The deliveries of one subscription: reads what its state wants next, cuts frames for consumers that have credit, and stores what is settled.
 * All decisions are the state's; this does what it says.
 */
export class Delivery implements Subscriber {
  readonly topic: Topic;
  readonly delivered: RateMeter;
  readonly settledRate: RateMeter;
  readonly #parts: DeliveryParts;
  readonly #state: Subscription;
  readonly #settlement: Settlement;
  readonly #consumers = new Map<number, Consumer>();
  #record: SubscriptionRecord;
  #consumerNumber = 0;
  /** Batches read ahead, in order. */
  #ahead: readonly BatchView[] = [];
  #pumping = false;
  #pumped: Promise<void> | undefined;
  #again = false;
  #seeks = 0;
  #timer: { readonly atMs: number; readonly timer: Timer } | undefined;
  #damage: MusterError | undefined;
  #closed: MusterError | undefined;
  #lastConsumerMs: number;

  constructor(loaded: LoadedSubscription, topic: Topic, parts: DeliveryParts) {
    this.topic = topic;
    this.#parts = parts;
    this.#record = loaded.record;
    this.#state = new Subscription(loaded.record.settings, loaded, this.#now());
    this.delivered = new RateMeter(parts.clock);
    this.settledRate = new RateMeter(parts.clock);
    this.#lastConsumerMs = parts.clock.monotonic();
    this.#settlement = new Settlement({
      ...parts,
      state: this.#state,
      record: loaded.record,
      cursor: loaded.cursor,
      batchAt: async (sequence) =>
        this.topic.recent(sequence) ?? this.#aheadAt(sequence) ?? (await this.#read(sequence)),
      onSettled: () => {
        this.#letGo();
        parts.onSettled();
      },
      onDamage: (error) => {
        this.#stopAt(error);
      },
    });
  }

  get record(): SubscriptionRecord {
    return this.#record;
  }

  /** All below are settled, durably. */
  get floor(): number {
    return this.#settlement.floor;
  }

  get consumers(): readonly Attached[] {
    return [...this.#consumers.values()];
  }

  /** Why nothing is delivered behind a certain place; undefined: nothing is known to be damaged. */
  get damage(): MusterError | undefined {
    return this.#damage;
  }

  /** For how long nobody has consumed, milliseconds. */
  get idleMs(): number {
    return this.#consumers.size > 0 ? 0 : this.#parts.clock.monotonic() - this.#lastConsumerMs;
  }

  stats(): SubscriptionStats {
    return this.#state.stats(this.#bounds());
  }

  /** The settings have been changed; they are stored already. */
  update(record: SubscriptionRecord): void {
    this.#record = record;
    this.#state.update(record.settings);
    this.wake();
  }

  /** @throws the reason it was closed with */
  attach(sink: Sink, credit: Credit): number {
    if (this.#closed) throw this.#closed;
    this.#consumerNumber += 1;
    const id = this.#consumerNumber;
    this.#consumers.set(id, { id, sink, sinceMs: this.#parts.clock.now(), credit, held: false });
    this.#state.attach(id, credit);
    this.wake();
    return id;
  }

  setCredit(id: number, credit: Credit): void {
    const consumer = this.#consumers.get(id);
    if (!consumer) return;
    consumer.credit = credit;
    if (!consumer.held) this.#state.setCredit(id, credit);
    this.wake();
  }

  /** The sink can take more. */
  resume(id: number): void {
    const consumer = this.#consumers.get(id);
    if (!consumer?.held) return;
    consumer.held = false;
    this.#state.setCredit(id, consumer.credit);
    this.wake();
  }

  /** Releases what the consumer has; `counts`: as failed attempts. */
  detach(id: number, how: { readonly counts: boolean }): void {
    if (!this.#consumers.delete(id)) return;
    this.#lastConsumerMs = this.#parts.clock.monotonic();
    const died = this.#state.detach(id, how, this.#now());
    this.#settlement.bury(died);
    if (this.#consumers.size === 0 && died.length === 0) this.#ahead = [];
    this.#store();
    this.wake();
  }

  /** Messages the consumer has and has not settled. */
  leasedBy(id: number): number {
    return this.#state.leasedBy(id);
  }

  /** What could not be settled is said at once; `stored` resolves when the rest is durable. */
  settle(id: number, order: SettleOrder): { readonly failures: readonly Failure[]; readonly stored: Promise<void> } {
    const before = this.#state.settledCount;
    const { failures, died } = this.#state.settle(id, order, this.#now());
    this.settledRate.add(this.#state.settledCount - before);
    this.#settlement.bury(died);
    this.wake();
    return { failures, stored: this.#storeAll() };
  }

  /** What seekTo() would do now. */
  planSeek(sequence: number): SeekOutcome {
    return this.#state.previewSeek(sequence, this.#bounds());
  }

  /** Goes on at `sequence`; resolves when that is durable. */
  async seekTo(sequence: number): Promise<SeekOutcome> {
    const outcome = this.#state.seek(sequence, this.#bounds());
    this.#seeks += 1;
    this.#ahead = [];
    if (this.#damage) this.#settlement.forgetUnread();
    this.#damage = undefined;
    await this.#storeAll();
    this.wake();
    return outcome;
  }

  /** Delivers dead letters again; answers with how many, once it is durable. */
  async replay(letters: readonly DeadLetterRecord[]): Promise<number> {
    const replayed = new Set(this.#state.replay(letters.map(({ sequence }) => sequence)));
    this.#settlement.mark(letters.filter(({ sequence }) => replayed.has(sequence)));
    this.wake();
    await this.#storeAll();
    return replayed.size;
  }

  /** Dead letters were deleted. */
  purged(count: number): void {
    this.#state.purged(count);
  }

  dropBelow(head: number): void {
    if (head <= this.#state.floor) return;
    this.#state.dropBelow(head);
    this.#store();
  }

  /** Ends all consumers and everything that is going on. */
  close(reason: MusterError): void {
    this.#closed = reason;
    this.#settlement.close();
    this.#timer?.timer.cancel();
    for (const { sink } of [...this.#consumers.values()]) sink.end(reason);
  }

  /** Resolves when everything that can be delivered now has been. */
  async quiet(): Promise<void> {
    while (this.#pumping) await this.#pumped;
  }

  /** There may be something to deliver. */
  wake(): void {
    this.#again = true;
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    this.#pumped = this.#pump();
  }

  async #pump(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      const seeks = this.#seeks;
      try {
        await this.#deliverAll();
      } catch (error) {
        // What could not be read may be where the subscription no longer stands.
        if (seeks === this.#seeks) this.#stopAt(error);
        else this.#again = true;
      }
    }
    this.#pumping = false;
    this.#arm();
  }

  async #deliverAll(): Promise<void> {
    while (!this.#closed && !this.#damage) {
      const wanted = this.#state.next(this.#bounds(), this.#now());
      if (!wanted) return;
      const granted = wanted.source === 'log' ? await this.#fromLog(wanted) : await this.#fromDeadLetters(wanted);
      if (!granted) return;
    }
  }

  async #fromLog({ sequence }: Wanted): Promise<boolean> {
    const batch = this.topic.recent(sequence) ?? this.#aheadAt(sequence) ?? (await this.#read(sequence));
    if (!batch) return false;
    const grant = this.#state.grant(batch, this.#bounds(), this.#now());
    if (!grant) return this.#wantsElse(sequence);
    this.#send(grant, ({ firstSequence, count, attempt }) => ({
      firstSequence,
      count,
      attempt,
      publishedMs: batch.publishedMs,
      messages: batch.slice(firstSequence, firstSequence + count - 1),
    }));
    return true;
  }

  /** Nothing could be granted: whether something else is wanted now. */
  #wantsElse(sequence: number): boolean {
    const wanted = this.#state.next(this.#bounds(), this.#now());
    return wanted !== undefined && wanted.sequence !== sequence;
  }

  async #fromDeadLetters({ sequence }: Wanted): Promise<boolean> {
    const { topicId, id } = this.#record;
    const letter = await this.#parts.log.deadLetter(topicId, id, sequence);
    if (!letter) {
      this.#state.forgetLetter(sequence);
      return true;
    }
    const { publishedMs, message } = letter;
    const alone = new BatchView({ firstSequence: sequence, count: 1, publishedMs, offset: 0, messages: message });
    const grant = this.#state.grantDeadLetter(alone, this.#now());
    if (!grant) return this.#wantsElse(sequence);
    this.#send(grant, (run) => ({ ...run, publishedMs, messages: message }));
    return true;
  }

  #send(grant: Grant, framed: (run: Grant['runs'][number]) => FramedRun): void {
    const consumer = this.#consumers.get(grant.consumer);
    if (!consumer) throw new MusterError('internal', `consumer ${grant.consumer} is not attached`);
    const runs = grant.runs.map(framed);
    for (const { count } of runs) this.delivered.add(count);
    if (consumer.sink.deliver({ firstDelivery: grant.firstDelivery, runs })) return;
    consumer.held = true;
    this.#state.setCredit(consumer.id, NO_CREDIT);
  }

  #aheadAt(sequence: number): BatchView | undefined {
    return this.#ahead.find((view) => view.firstSequence <= sequence && sequence < view.until);
  }

  /** What is settled, letters and all, need not stay in memory: most subscriptions are idle. */
  #letGo(): void {
    if (this.floor >= (this.#ahead.at(-1)?.until ?? 0)) this.#ahead = [];
  }

  async #read(sequence: number): Promise<BatchView | undefined> {
    this.#ahead = await this.topic.readAhead(sequence);
    const found = this.#aheadAt(sequence);
    if (found || this.#closed || sequence < this.topic.head || sequence >= this.topic.next) return found;
    throw new MusterError('data_loss', `message ${sequence} of topic ${this.topic.record.name} is missing`, {
      reason: 'DATA_DAMAGED',
      metadata: { topic: this.topic.record.name, sequence: String(sequence) },
    });
  }

  /** Delivery cannot go on: it stands still, visibly, until someone seeks past the place. */
  #stopAt(error: unknown): void {
    if (this.#closed) return;
    const failure = isCode(error) ? error : new MusterError('internal', messageOf(error), { cause: error });
    this.#damage = failure;
    if (failure.code === 'unavailable') this.#parts.clock.after(READ_RETRY_MS, this.#retry);
    this.#parts.logger.error('a subscription stands still', {
      topic: this.topic.record.name,
      subscription: this.#record.name,
      error: failure,
    });
  }

  readonly #retry = (): void => {
    if (this.#damage?.code === 'unavailable') this.#damage = undefined;
    this.wake();
  };

  /** Sees to it that leases end and retries go out in time. */
  #arm(): void {
    const atMs = this.#state.nextTimeMs();
    if (this.#closed || atMs === undefined || (this.#timer && this.#timer.atMs <= atMs)) return;
    this.#timer?.timer.cancel();
    const delayMs = Math.max(0, Math.ceil(atMs - this.#parts.clock.monotonic()));
    const timer = this.#parts.clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#expire();
    });
    this.#timer = { atMs, timer };
  }

  #expire(): void {
    this.#settlement.bury(this.#state.expire(this.#now()));
    this.#store();
    this.wake();
  }

  /** Stores what changed: with several groups, where much has died at once. A rejection may be left to nobody. */
  #storeAll(): Promise<void> {
    const stored = this.#storeUntilBuried();
    stored.catch(() => undefined);
    return stored;
  }

  async #storeUntilBuried(): Promise<void> {
    const buried = this.#settlement.buried();
    do await this.#parts.commit.commit(this.#settlement);
    while (!buried());
  }

  /** Stores what changed, with nobody waiting for it. */
  #store(): void {
    if (!this.#closed) void this.#storeAll();
  }

  #bounds(): Bounds {
    return { head: this.topic.head, tail: this.topic.next };
  }

  #now(): Instant {
    const { clock } = this.#parts;
    return { monotonicMs: clock.monotonic(), wallMs: clock.now() };
  }
}
