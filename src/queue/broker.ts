import type { Clock } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import { didYouMean } from '../kit/suggest.js';
import { KeyedMutex } from '../kit/tasks.js';
import { Admission } from './admission.js';
import { BatchCache } from './batch-cache.js';
import { Delivery } from './delivery.js';
import { GroupCommit } from './group-commit.js';
import type {
  CursorRecord,
  LoadedTopic,
  Position,
  QueueLog,
  SubscriptionRecord,
  SubscriptionSettings,
  TopicRecord,
  TopicSettings,
} from './log/port.js';
import { Topic } from './topic.js';
import { assertQueueName } from './topic-settings.js';

export const TOPICS_MAX = 100_000;
export const SUBSCRIPTIONS_PER_TOPIC_MAX = 10_000;

export interface BrokerParts {
  readonly log: QueueLog;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Makes a topic when something is published to it, or a subscription is made on it, for the first time. */
  readonly autoCreateTopics: boolean;
  /** By it what is settled waits a moment for what is published, to be stored with it; without it nothing waits. */
  readonly companyClock?: Clock;
}

interface Entry {
  readonly topic: Topic;
  readonly deliveries: Map<string, Delivery>;
  /** Something was settled or stored since maintenance looked. */
  touched: boolean;
}

/** All topics and subscriptions of a queue: makes, finds, changes and removes them. What exists in memory exists on disk. */
export class Broker {
  readonly admission = new Admission();
  readonly commit: GroupCommit;
  readonly #parts: BrokerParts;
  readonly #cache = new BatchCache();
  readonly #entries = new Map<string, Entry>();
  /** Changes of one topic's settings and subscriptions go one after another. */
  readonly #turns = new KeyedMutex();
  #nextTopicId: number;

  private constructor(parts: BrokerParts, nextTopicId: number) {
    this.#parts = parts;
    this.commit = new GroupCommit(parts.log, {
      clock: parts.companyClock,
      onBug: (error) => {
        parts.logger.error('a part of the queue failed after its group was written', { error });
      },
    });
    this.#nextTopicId = nextTopicId;
  }

  /** Reads what is stored. @throws data_loss, unavailable */
  static async open(parts: BrokerParts): Promise<Broker> {
    const { topics, nextTopicId } = await parts.log.load();
    const broker = new Broker(parts, nextTopicId);
    for (const loaded of topics) broker.#add(loaded);
    return broker;
  }

  get log(): QueueLog {
    return this.#parts.log;
  }

  get clock(): Clock {
    return this.#parts.clock;
  }

  /** In the order of their names. */
  topics(): readonly Topic[] {
    return [...this.#entries.values()].map(({ topic }) => topic).sort(byName);
  }

  deliveries(topic: Topic): readonly Delivery[] {
    return [...(this.#entries.get(topic.record.name)?.deliveries.values() ?? [])].sort(byName);
  }

  /** All topics with their subscriptions, in no order. */
  all(): readonly { readonly topic: Topic; readonly deliveries: ReadonlyMap<string, Delivery> }[] {
    return [...this.#entries.values()];
  }

  /** Topics where something was settled or stored since it was asked last. */
  takeTouched(): readonly Topic[] {
    const touched = [...this.#entries.values()].filter((entry) => entry.touched);
    for (const entry of touched) entry.touched = false;
    return touched.map(({ topic }) => topic);
  }

  /** @throws not_found with the nearest name */
  topic(name: string): Topic {
    return this.#entry(name).topic;
  }

  /** The topic, made with default settings where that is allowed. @throws not_found */
  async topicForUse(name: string, defaults: () => TopicSettings): Promise<Topic> {
    if (!this.#parts.autoCreateTopics || this.#entries.has(name)) return this.topic(name);
    await this.createTopic(name, defaults());
    return this.topic(name);
  }

  /** @throws exists when one with other settings is there; exhausted */
  createTopic(name: string, settings: TopicSettings): Promise<TopicRecord> {
    assertQueueName('topic', name);
    return this.#turns.run(name, async () => {
      const existing = this.#entries.get(name)?.topic.record;
      if (existing) return sameOrExists(existing, settings, `topic ${name}`);
      if (this.#entries.size >= TOPICS_MAX) throw tooMany(`${TOPICS_MAX} topics`);
      const createdMs = this.#parts.clock.now();
      const record = { id: this.#nextTopicId, name, settings, revision: 1, createdMs };
      this.#nextTopicId += 1;
      await this.commit.commitChanges([{ kind: 'topic', topic: record }]);
      this.#add(emptyTopic(record));
      this.#parts.logger.info('topic made', { topic: name });
      return record;
    });
  }

  /** `revision` 0 overwrites. @throws not_found; conflict */
  updateTopic(name: string, settings: TopicSettings, revision: number): Promise<TopicRecord> {
    return this.#turns.run(name, async () => {
      const { topic } = this.#entry(name);
      assertRevision(topic.record.revision, revision, `topic ${name}`);
      const record = { ...topic.record, settings, revision: topic.record.revision + 1 };
      await this.commit.commitChanges([{ kind: 'topic', topic: record }]);
      topic.update(record);
      return record;
    });
  }

  /** @throws not_found; precondition when messages wait or are dead, unless forced */
  deleteTopic(name: string, force: boolean): Promise<void> {
    return this.#turns.run(name, async () => {
      const entry = this.#entry(name);
      if (!force) assertEmpty(entry.topic, [...entry.deliveries.values()]);
      const gone = new MusterError('not_found', `topic ${name} was deleted`, { reason: 'UNKNOWN_TOPIC' });
      await this.commit.commitRemoval({ kind: 'topic removed', topicId: entry.topic.id }, () => {
        this.#entries.delete(name);
        entry.topic.close(gone);
        for (const delivery of entry.deliveries.values()) delivery.close(gone);
      });
      this.#parts.logger.info('topic deleted', { topic: name });
    });
  }

  /** @throws not_found with the nearest name */
  delivery(topicName: string, name: string): Delivery {
    const { deliveries } = this.#entry(topicName);
    const delivery = deliveries.get(name);
    if (delivery) return delivery;
    // What could not be its name has words of its own.
    assertQueueName('subscription', name);
    const hint = didYouMean(name, deliveries.keys());
    throw new MusterError(
      'not_found',
      `topic ${topicName} has no subscription "${name}".${hint} To make it: \`muster subscription create ${topicName} ${name}\``,
      { reason: 'UNKNOWN_SUBSCRIPTION', metadata: { topic: topicName, subscription: name } },
    );
  }

  /** @throws not_found; exists when one with other settings is there; exhausted */
  createSubscription(topicName: string, name: string, settings: SubscriptionSettings): Promise<SubscriptionRecord> {
    assertQueueName('subscription', name);
    return this.#turns.run(topicName, async () => {
      const { topic, deliveries } = this.#entry(topicName);
      const existing = deliveries.get(name)?.record;
      if (existing) return sameOrExists(existing, settings, `subscription ${name} of topic ${topicName}`);
      if (deliveries.size >= SUBSCRIPTIONS_PER_TOPIC_MAX) throw tooMany(`${SUBSCRIPTIONS_PER_TOPIC_MAX} subscriptions`);
      const floor = Math.max(await this.sequenceOf(topic, settings.start), topic.head);
      const record = {
        topicId: topic.id,
        id: topic.nextSubscriptionId,
        name,
        settings,
        revision: 1,
        createdMs: this.#parts.clock.now(),
      };
      topic.nextSubscriptionId += 1;
      const cursor = { floor, settled: [], dropped: 0 };
      const delivery = this.#newDelivery(topic, record, cursor);
      // From here on the topic keeps what the subscription shall get.
      topic.subscribers.add(delivery);
      try {
        const place = { topicId: topic.id, subscriptionId: record.id };
        await this.commit.commitChanges([
          { kind: 'subscription', subscription: record },
          { kind: 'cursor', ...place, cursor },
        ]);
      } catch (error) {
        topic.subscribers.delete(delivery);
        throw error;
      }
      deliveries.set(name, delivery);
      this.#parts.logger.info('subscription made', { topic: topicName, subscription: name });
      return record;
    });
  }

  /** Start and ordering stay. `revision` 0 overwrites. @throws not_found, conflict */
  updateSubscription(
    { topic: topicName, name, revision }: { topic: string; name: string; revision: number },
    settings: SubscriptionSettings,
  ): Promise<SubscriptionRecord> {
    return this.#turns.run(topicName, async () => {
      const delivery = this.delivery(topicName, name);
      assertRevision(delivery.record.revision, revision, `subscription ${name}`);
      const { start, ordered } = delivery.record.settings;
      const record = {
        ...delivery.record,
        settings: { ...settings, start, ordered },
        revision: delivery.record.revision + 1,
      };
      await this.commit.commitChanges([{ kind: 'subscription', subscription: record }]);
      delivery.update(record);
      return record;
    });
  }

  /** @throws not_found */
  deleteSubscription(topicName: string, name: string): Promise<void> {
    return this.#turns.run(topicName, async () => {
      const entry = this.#entry(topicName);
      const delivery = this.delivery(topicName, name);
      const gone = new MusterError('not_found', `subscription ${name} of topic ${topicName} was deleted`, {
        reason: 'UNKNOWN_SUBSCRIPTION',
      });
      const { topicId, id: subscriptionId } = delivery.record;
      await this.commit.commitRemoval({ kind: 'subscription removed', topicId, subscriptionId }, () => {
        entry.deliveries.delete(name);
        entry.topic.subscribers.delete(delivery);
        delivery.close(gone);
        entry.touched = true;
      });
      this.#parts.logger.info('subscription deleted', { topic: topicName, subscription: name });
    });
  }

  /** The sequence a position stands for, between what is stored first and what comes next. */
  async sequenceOf(topic: Topic, position: Position): Promise<number> {
    switch (position.at) {
      case 'earliest':
        return topic.head;
      case 'latest':
        return topic.next;
      case 'sequence':
        return Math.min(Math.max(position.sequence, topic.head), topic.next);
      case 'time':
        return (await this.#parts.log.sequenceAt(topic.id, position.timeMs)) ?? topic.next;
    }
  }

  /** Ends every consumer. */
  close(reason: MusterError): void {
    for (const { deliveries } of this.#entries.values()) {
      for (const delivery of deliveries.values()) delivery.close(reason);
    }
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry) return entry;
    assertQueueName('topic', name);
    const hint = didYouMean(name, this.#entries.keys());
    throw new MusterError(
      'not_found',
      `there is no topic "${name}".${hint} To make it: \`muster topic create ${name}\``,
      { reason: 'UNKNOWN_TOPIC', metadata: { topic: name } },
    );
  }

  #add(loaded: LoadedTopic): void {
    const { log, clock } = this.#parts;
    const topic = new Topic(loaded, { log, clock, commit: this.commit, cache: this.#cache });
    const entry: Entry = { topic, deliveries: new Map(), touched: true };
    this.#entries.set(loaded.record.name, entry);
    for (const subscription of loaded.subscriptions) {
      const delivery = new Delivery(subscription, topic, this.#deliveryParts(topic));
      entry.deliveries.set(subscription.record.name, delivery);
      topic.subscribers.add(delivery);
    }
  }

  #newDelivery(topic: Topic, record: SubscriptionRecord, cursor: CursorRecord): Delivery {
    return new Delivery(
      { record, cursor, retries: new Map(), dead: 0, replayed: [] },
      topic,
      this.#deliveryParts(topic),
    );
  }

  #deliveryParts(topic: Topic): ConstructorParameters<typeof Delivery>[2] {
    const { log, clock, logger } = this.#parts;
    const onSettled = (): void => {
      const entry = this.#entries.get(topic.record.name);
      if (entry) entry.touched = true;
    };
    return { log, clock, logger, commit: this.commit, onSettled };
  }
}

function byName(a: { record: { name: string } }, b: { record: { name: string } }): number {
  return a.record.name < b.record.name ? -1 : 1;
}

function emptyTopic(record: TopicRecord): LoadedTopic {
  return {
    record,
    head: 1,
    next: 1,
    nextOffset: 0,
    headOffset: 0,
    newestMs: 0,
    subscriptions: [],
    nextSubscriptionId: 1,
    delayed: { count: 0, nextDueMs: undefined, nextNumber: 1 },
    producers: [],
  };
}

function sameOrExists<T extends { readonly settings: object }>(existing: T, settings: object, what: string): T {
  if (JSON.stringify(existing.settings) === JSON.stringify(settings)) return existing;
  throw new MusterError('exists', `${what} exists already, with other settings: update it, or choose another name`, {
    reason: 'EXISTS',
  });
}

function assertRevision(current: number, given: number, what: string): void {
  if (given === 0 || given === current) return;
  throw new MusterError(
    'conflict',
    `${what} is at revision ${current}, not ${given}: someone changed it. Read it again, then update it`,
    { reason: 'REVISION', metadata: { revision: String(current) } },
  );
}

/** What all have settled does not count, though it may still be stored. */
function assertEmpty(topic: Topic, deliveries: readonly Delivery[]): void {
  const stats = deliveries.map((delivery) => delivery.stats());
  const unsettled = stats.length > 0 ? Math.max(...stats.map(({ backlog }) => backlog)) : topic.next - topic.head;
  const waiting = unsettled + topic.delayed;
  const dead = stats.reduce((sum, one) => sum + one.dead, 0);
  if (waiting === 0 && dead === 0) return;
  throw new MusterError(
    'precondition',
    `topic ${topic.record.name} has ${waiting} messages and ${dead} dead letters: let them be consumed, or force its deletion to lose them`,
    { reason: 'NOT_EMPTY', metadata: { messages: String(waiting), deadLetters: String(dead) } },
  );
}

function tooMany(what: string): MusterError {
  return new MusterError('exhausted', `there are ${what} already: delete some first`, { reason: 'TOO_MANY' });
}
