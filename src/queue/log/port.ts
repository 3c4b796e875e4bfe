/**
 * The queue log port: what the queue keeps on disk, and how it reads it back. The broker sees storage only through this file, so that another
 * engine (clustered, for example) can stand behind it. All numbers are safe integers; times are wall-clock milliseconds.
 */
import type { MusterError } from '../../kit/errors.js';

/** Messages that were stored together. */
export interface StoredBatch {
  /** Sequence of the first message; the others follow by one. */
  readonly firstSequence: number;
  readonly count: number;
  /** When they were published. Never falls from batch to batch of a topic. */
  readonly publishedMs: number;
  /** Encoded bytes of all messages the topic ever stored before this batch: differences say how much lies between two batches. */
  readonly offset: number;
  /** The contract's `repeated Message messages = 1`, as its encoded fields one after another. */
  readonly messages: Buffer;
}

export type FullPolicy = 'REJECT' | 'DROP_OLDEST';

export interface TopicSettings {
  readonly minRetentionMs: number;
  /** 0: no limit. */
  readonly maxAgeMs: number;
  /** 0: no limit. */
  readonly maxBytes: number;
  readonly onFull: FullPolicy;
  readonly dedupeWindowMs: number;
  readonly publishers: readonly string[];
  readonly subscribers: readonly string[];
}

/** A topic as it is stored. */
export interface TopicRecord {
  /** Never given out again. */
  readonly id: number;
  readonly name: string;
  readonly settings: TopicSettings;
  /** Rises with each change of the settings, from 1. */
  readonly revision: number;
  readonly createdMs: number;
}

export interface BackoffSettings {
  readonly initialMs: number;
  readonly maxMs: number;
  readonly multiplier: number;
}

/** Where in a topic. */
export type Position =
  | { readonly at: 'earliest' }
  | { readonly at: 'latest' }
  | { readonly at: 'sequence'; readonly sequence: number }
  | { readonly at: 'time'; readonly timeMs: number };

export interface SubscriptionSettings {
  readonly start: Position;
  readonly leaseMs: number;
  /** 0: for ever. */
  readonly maxAttempts: number;
  readonly backoff: BackoffSettings;
  readonly ordered: boolean;
  /** 0: never. */
  readonly expireAfterIdleMs: number;
  readonly paused: boolean;
}

/** A subscription as it is stored. */
export interface SubscriptionRecord {
  readonly topicId: number;
  /** Unique within its topic, never given out again. */
  readonly id: number;
  readonly name: string;
  readonly settings: SubscriptionSettings;
  readonly revision: number;
  readonly createdMs: number;
}

/** Sequences from `from` up to, not including, `until`. */
export interface SequenceRange {
  readonly from: number;
  readonly until: number;
}

/** What a subscription has settled. */
export interface CursorRecord {
  /** All below are settled. */
  readonly floor: number;
  /** Settled ranges above the floor: rising, not touching each other nor the floor. */
  readonly settled: readonly SequenceRange[];
  /** Dropped unsettled by retention, since the subscription was made. */
  readonly dropped: number;
}

/** A message that failed before and is not settled. */
export interface RetryRecord {
  /** Attempts that failed. */
  readonly attempts: number;
  /** Not delivered again before. */
  readonly notBeforeMs: number;
}

export interface DeadLetterRecord {
  readonly sequence: number;
  /** One encoded `messages` field. */
  readonly message: Buffer;
  readonly publishedMs: number;
  readonly diedMs: number;
  readonly attempts: number;
  readonly reason: string;
  /** An operator asked for it to be delivered again: it is unsettled, at its place behind the subscription. */
  readonly replayed: boolean;
}

/** A message that waits to enter its topic. */
export interface DelayedRecord {
  readonly dueMs: number;
  /** Tells those of one time apart; rises. */
  readonly number: number;
  /** One encoded `messages` field. */
  readonly message: Buffer;
}

/** What a producer has published last: enough to answer batches it sends again. */
export interface ProducerRecord {
  readonly producer: string;
  /** Newest last; at most PRODUCER_ACKS_MAX. */
  readonly acks: readonly ProducerAck[];
  readonly seenMs: number;
}

export interface ProducerAck {
  readonly batch: number;
  readonly firstSequence: number;
  readonly count: number;
}

/** Acknowledgements remembered per producer. */
export const PRODUCER_ACKS_MAX = 64;

/** One thing to store. Undefined values delete. */
export type Change =
  | { readonly kind: 'topic'; readonly topic: TopicRecord }
  /** With everything below it; its batches go lazily. */
  | { readonly kind: 'topic removed'; readonly topicId: number }
  /** Messages below are gone for good, and the next message will not be below. */
  | { readonly kind: 'head'; readonly topicId: number; readonly head: number; readonly offset: number }
  | { readonly kind: 'batch'; readonly topicId: number; readonly batch: StoredBatch }
  | { readonly kind: 'subscription'; readonly subscription: SubscriptionRecord }
  /** With its cursor, retries and dead letters. */
  | { readonly kind: 'subscription removed'; readonly topicId: number; readonly subscriptionId: number }
  | {
      readonly kind: 'cursor';
      readonly topicId: number;
      readonly subscriptionId: number;
      readonly cursor: CursorRecord;
    }
  | {
      readonly kind: 'retry';
      readonly topicId: number;
      readonly subscriptionId: number;
      readonly sequence: number;
      readonly retry: RetryRecord | undefined;
    }
  | {
      readonly kind: 'dead letter';
      readonly topicId: number;
      readonly subscriptionId: number;
      readonly sequence: number;
      readonly letter: DeadLetterRecord | undefined;
    }
  | {
      readonly kind: 'delayed';
      readonly topicId: number;
      readonly dueMs: number;
      readonly number: number;
      readonly message: Buffer | undefined;
    }
  | {
      readonly kind: 'dedupe';
      readonly topicId: number;
      /** The time window it was stored in: windows are forgotten whole. */
      readonly window: number;
      readonly id: string;
      /** 0: the message is delayed and has none yet. */
      readonly sequence: number;
    }
  | {
      readonly kind: 'producer';
      readonly topicId: number;
      readonly producer: string;
      readonly record: ProducerRecord | undefined;
    };

/** A subscription with its place, as it is found at the start. */
export interface LoadedSubscription {
  readonly record: SubscriptionRecord;
  readonly cursor: CursorRecord;
  readonly retries: ReadonlyMap<number, RetryRecord>;
  /** How many dead letters it has, the replayed ones not counted. */
  readonly dead: number;
  /** Sequences of dead letters to be delivered again, rising. */
  readonly replayed: readonly number[];
}

/** A topic with its bounds, as it is found at the start. */
export interface LoadedTopic {
  readonly record: TopicRecord;
  /** Messages below are gone. */
  readonly head: number;
  /** Sequence of the next message. */
  readonly next: number;
  /** Offset of the next batch, and of the batch that holds `head` (of the next one when nothing is stored). */
  readonly nextOffset: number;
  readonly headOffset: number;
  /** Time of the newest batch; 0 when nothing is stored. */
  readonly newestMs: number;
  readonly subscriptions: readonly LoadedSubscription[];
  /** The next subscription's id. */
  readonly nextSubscriptionId: number;
  readonly delayed: { readonly count: number; readonly nextDueMs: number | undefined; readonly nextNumber: number };
  readonly producers: readonly ProducerRecord[];
}

export interface LogContents {
  readonly topics: readonly LoadedTopic[];
  /** The next topic's id. */
  readonly nextTopicId: number;
}

/** Which sequences are gone; where messages begin to be stored. */
export interface Trim {
  readonly topicId: number;
  /** Whole batches below are deleted. */
  readonly head: number;
}

/**
 * Lifecycle as the store's: open until close() or the first failed write. After a failed write every call rejects with `unavailable`
 * (reason LOG_FAILED), the outcome of that write is unknown, and the process is expected to exit or reopen.
 */
export interface QueueLog {
  /** Everything small that is stored. Called once, before anything else. @throws data_loss */
  load(): Promise<LogContents>;

  /**
   * Stores all changes or none; resolves once they are durable (fsynced). One at a time, in the order asked: the caller groups.
   * Changes that only let messages leave (heads, cursors, retries, dead letters, deletions) go on for a while where others are refused for lack of
   * space, in commits of their own. A new subscription needs its cursor in the same commit. The first message of a topic has sequence 1, offset 0.
   * @throws exhausted, reason DISK_ALMOST_FULL (nothing was written; the log lives on); internal when changes do not fit what is stored
   *   (nothing was written); unavailable, reason LOG_FAILED
   */
  commit(changes: readonly Change[]): Promise<void>;

  /**
   * Batches in order, the first one being that which holds `from` or, where nothing is stored there, the first behind it; up to about
   * `bytesMax` of messages, at least one when there is any. Consecutive batches touch each other.
   * @throws data_loss, metadata { topic, sequence }, when a stored batch is damaged or one is missing; unavailable
   */
  read(topicId: number, from: number, bytesMax: number): Promise<readonly StoredBatch[]>;

  /** Sequence of the first stored message published at or after `timeMs`; undefined when there is none. */
  sequenceAt(topicId: number, timeMs: number): Promise<number | undefined>;

  /**
   * Frees what lies below heads that are already durable, a little of it with the next commit, much of it in commits of its own while others go on.
   * What a crash leaves there is hidden, and freed with the next trim.
   */
  trim(trim: Trim): Promise<void>;
  /** Gives the space of what was trimmed and deleted back to the file system. Slow; for quiet moments. */
  compact(): Promise<void>;
  /** Bytes of dead letters and dedupe ids that were deleted since the last compact(), about. What was trimmed is the caller's to know. */
  readonly deletedBytes: number;

  /** Sequences of those of `ids` that are stored in one of `windows`. */
  dedupe(topicId: number, windows: readonly number[], ids: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Forgets dedupe windows below `window`, as trim() does. */
  forgetDedupe(topicId: number, window: number): Promise<void>;

  /** Delayed messages due at or before `dueMs`, the earliest first; fewer than `limit` where they are large, and at least one when there is any. */
  delayed(topicId: number, dueMs: number, limit: number): Promise<readonly DelayedRecord[]>;
  /** When the earliest delayed message is due. */
  nextDueMs(topicId: number): Promise<number | undefined>;

  deadLetter(topicId: number, subscriptionId: number, sequence: number): Promise<DeadLetterRecord | undefined>;
  /** Dead letters by sequence, after the one given; fewer than the limit where they are large, and at least one when there is any. */
  deadLetters(
    topicId: number,
    subscriptionId: number,
    page: { readonly after: number; readonly limit: number },
  ): Promise<readonly DeadLetterRecord[]>;

  /** Bytes on disk. */
  diskBytes(): Promise<number>;
  /**
   * Reads every file once, a piece at a time, and says what is damaged (for people), as it finds it. Ends early when `signal` aborts.
   */
  scrub(signal: AbortSignal): AsyncIterable<string>;

  /** Resolves with the reason when a write failed; pending for as long as none did. */
  readonly failed: Promise<MusterError>;
  close(): Promise<void>;
}
