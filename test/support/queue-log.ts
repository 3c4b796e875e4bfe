/** Changes and contents of a queue's log, as tests of it need them. */
import type {
  Change,
  QueueLog,
  StoredBatch,
  SubscriptionSettings,
  TopicRecord,
  TopicSettings,
} from '../../src/queue/log/port.js';

export const TOPIC_SETTINGS: TopicSettings = {
  minRetentionMs: 0,
  maxAgeMs: 0,
  maxBytes: 0,
  onFull: 'REJECT',
  dedupeWindowMs: 120_000,
  publishers: [],
  subscribers: ['orders*'],
};

export const SUBSCRIPTION_SETTINGS: SubscriptionSettings = {
  start: { at: 'earliest' },
  leaseMs: 30_000,
  maxAttempts: 3,
  backoff: { initialMs: 1000, maxMs: 300_000, multiplier: 2 },
  ordered: false,
  expireAfterIdleMs: 0,
  paused: false,
};

export function topicRecord(id: number, name = `topic-${id}`): TopicRecord {
  return { id, name, settings: TOPIC_SETTINGS, revision: 1, createdMs: 1_700_000_000_000 };
}

export function topicChange(id: number, name?: string): Change {
  return { kind: 'topic', topic: topicRecord(id, name) };
}

/** A new subscription with the cursor it begins at. */
export function subscriptionChanges(topicId: number, id: number, floor = 1): readonly Change[] {
  const subscription = {
    topicId,
    id,
    name: `subscription-${id}`,
    settings: SUBSCRIPTION_SETTINGS,
    revision: 1,
    createdMs: 1_700_000_000_000,
  };
  return [
    { kind: 'subscription', subscription },
    { kind: 'cursor', topicId, subscriptionId: id, cursor: { floor, settled: [], dropped: 0 } },
  ];
}

/** The batches of one topic, each fitting behind the one before. */
export class TopicWriter {
  readonly topicId: number;
  sequence = 1;
  offset = 0;
  publishedMs = 1_700_000_000_000;

  constructor(topicId: number) {
    this.topicId = topicId;
  }

  /** The next batch: `count` messages in `messages`. */
  next(count: number, messages: Buffer): Change & { readonly kind: 'batch' } {
    const batch: StoredBatch = {
      firstSequence: this.sequence,
      count,
      publishedMs: this.publishedMs,
      offset: this.offset,
      messages,
    };
    this.sequence += count;
    this.offset += messages.length;
    this.publishedMs += 10;
    return { kind: 'batch', topicId: this.topicId, batch };
  }
}

/** All batches of a topic from `from`, read in calls of `bytesMax`. @throws what read() throws */
export async function readAll(
  log: QueueLog,
  topicId: number,
  from = 1,
  bytesMax = 64 * 1024,
): Promise<readonly StoredBatch[]> {
  const batches: StoredBatch[] = [];
  let at = from;
  for (;;) {
    const found = await log.read(topicId, at, bytesMax);
    const last = found.at(-1);
    if (!last) return batches;
    batches.push(...found);
    at = last.firstSequence + last.count;
  }
}
