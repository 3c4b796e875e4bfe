/** What a subscription is asked and answers. Sequences and delivery ids are safe integers; times are milliseconds, monotonic unless `wall` is in the name. */
import type { CursorRecord, RetryRecord } from '../log/port.js';
import type { MessageSizes } from './sizes.js';

/** The two clocks at one moment. */
export interface Instant {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/** How much a consumer takes before it settles. */
export interface Credit {
  /** 0: nothing for now. */
  readonly maxMessages: number;
  /** A message larger than it is delivered alone. */
  readonly maxBytes: number;
}

/** What is stored of the topic: from `head` up to, not including, `tail`. */
export interface Bounds {
  readonly head: number;
  readonly tail: number;
}

/** What must be known of a stored batch to cut deliveries from it. */
export interface Batch {
  readonly firstSequence: number;
  readonly count: number;
  /** Of all its messages; kept with leases, so it must not keep the messages themselves in memory. */
  readonly sizes: MessageSizes;
  /** '' for none; asked only when the subscription is ordered. */
  keyOf(sequence: number): string;
}

/** What to read next. */
export type Wanted =
  /** The batch that holds this message. */
  | { readonly source: 'log'; readonly sequence: number }
  /** A dead letter that is to be delivered again. */
  | { readonly source: 'dead letter'; readonly sequence: number };

/** Messages with consecutive sequences. */
export interface Run {
  readonly firstSequence: number;
  readonly count: number;
  /** Attempts that failed, plus one. */
  readonly attempt: number;
}

/** One frame for one consumer. */
export interface Grant {
  readonly consumer: number;
  /** Of the first message; the others follow by one. */
  readonly firstDelivery: number;
  /** Rising, all within one batch. */
  readonly runs: readonly Run[];
}

/** Deliveries from `first` to `last`, both included; 0 as `last`: only `first`. */
export interface DeliveryRange {
  readonly first: number;
  readonly last: number;
}

export interface NackOrder {
  readonly range: DeliveryRange;
  /** Before the next attempt; undefined: the subscription's backoff. */
  readonly delayMs?: number | undefined;
  readonly deadLetter: boolean;
  readonly reason: string;
}

export interface ExtendOrder {
  readonly range: DeliveryRange;
  /** From now; undefined: the subscription's lease. */
  readonly leaseMs?: number | undefined;
}

export interface SettleOrder {
  readonly acks: readonly DeliveryRange[];
  readonly nacks: readonly NackOrder[];
  readonly extends: readonly ExtendOrder[];
}

export interface Failure {
  readonly delivery: number;
  readonly reason: 'LEASE_OVER' | 'ALREADY_SETTLED' | 'UNKNOWN_DELIVERY';
}

/** A message that failed for good. It counts as settled: its dead letter must be stored with the same group as the changes that follow. */
export interface Death {
  readonly sequence: number;
  /** Attempts that failed. */
  readonly attempts: number;
  readonly reason: string;
  /** It was a dead letter being delivered again: its letter is still stored, marked as replayed. */
  readonly replayed: boolean;
}

export interface SettleOutcome {
  readonly failures: readonly Failure[];
  readonly died: readonly Death[];
}

/** What is to be stored, in one group. */
export interface SubscriptionChanges {
  readonly cursor: CursorRecord | undefined;
  /** Undefined: the record is to be deleted. */
  readonly retries: ReadonlyMap<number, RetryRecord | undefined>;
  /** Replayed dead letters that are settled: to be deleted. */
  readonly lettersDone: readonly number[];
}

/** As it is found at the start. */
export interface RestoredSubscription {
  readonly cursor: CursorRecord;
  readonly retries: ReadonlyMap<number, RetryRecord>;
  /** Dead letters to be delivered again, rising. */
  readonly replayed: readonly number[];
  /** Dead letters that are not. */
  readonly dead: number;
}

export interface ConsumerStats {
  readonly consumer: number;
  readonly leased: number;
  readonly leasedBytes: number;
  readonly credit: Credit;
}

export interface SubscriptionStats {
  /** Unsettled messages of the topic, and replayed dead letters. */
  readonly backlog: number;
  /** Sequence of the oldest unsettled message; undefined when there is none. Replayed dead letters do not count. */
  readonly oldest: number | undefined;
  readonly leased: number;
  /** Were delivered before and wait for their next attempt. */
  readonly waiting: number;
  /** Wait for an earlier message of their key. */
  readonly parked: number;
  /** Dead letters on their way again. */
  readonly replayed: number;
  readonly dead: number;
  readonly dropped: number;
  readonly consumers: readonly ConsumerStats[];
}

/** What a seek would do, in messages. */
export interface SeekOutcome {
  /** Where the subscription goes on. */
  readonly sequence: number;
  /** Were settled and will be delivered again. */
  readonly redelivered: number;
  /** Were not settled and now count as settled. */
  readonly skipped: number;
}
