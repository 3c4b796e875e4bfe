import type {
  QueueService,
  ListDeadLettersResponse,
  PeekRequest,
  StoredMessage,
  TopicStats,
} from '../../generated/muster/v1/queue.js';
import { MusterError } from '../kit/errors.js';
import { PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, pageOf } from '../model/paging.js';
import type { Handlers } from '../rpc/types.js';
import { toDate } from '../wire/time.js';
import { assertMaySee, assertMaySubscribe } from './access.js';
import type { BatchView } from './batch.js';
import type { Broker } from './broker.js';
import { DeadLetters } from './dead-letters.js';
import type { Delivery } from './delivery.js';
import { subscriptionToUse } from './entrance.js';
import type { Position } from './log/port.js';
import type { Topic } from './topic.js';
import { topicSettings } from './topic-settings.js';
import {
  decodeMessage,
  fromPosition,
  fromSubscription,
  fromTopic,
  toCredit,
  toDeadLetter,
  toSubscription,
  toTopic,
} from './wire.js';

type AdminName = Exclude<keyof typeof QueueService, 'publish' | 'publishStream' | 'subscribe' | 'pull' | 'settle'>;

const PEEK_DEFAULT = 10;
const PEEK_MAX = 1000;
const ANSWER_BYTES_MAX = 2 * 1024 * 1024;
const READ_BYTES = 256 * 1024;

export interface AdminParts {
  readonly broker: Broker;
  readonly startedMs: number;
  /** What is known to be damaged on disk. */
  readonly damage: () => readonly string[];
}

function missing(field: string): MusterError {
  return new MusterError('invalid', `${field} is missing: set it`, { fields: [{ field, description: 'is missing' }] });
}

/** The calls of the Queue service that look and change, for people and for applications that set themselves up. */
export function adminHandlers(parts: AdminParts): Some<AdminName> {
  return { ...topicHandlers(parts), ...subscriptionHandlers(parts), ...lookHandlers(parts), ...letterHandlers(parts) };
}

type Some<K extends AdminName> = Pick<Handlers<typeof QueueService>, K>;

function topicHandlers({
  broker,
}: AdminParts): Some<'createTopic' | 'getTopic' | 'listTopics' | 'updateTopic' | 'deleteTopic'> {
  return {
    async createTopic({ topic }) {
      if (!topic) throw missing('topic');
      return toTopic(await broker.createTopic(topic.name, fromTopic(topic)));
    },
    getTopic({ topic }, context) {
      const { record } = broker.topic(topic);
      assertMaySee(context.principal, record);
      return Promise.resolve(toTopic(record));
    },
    listTopics({ pageSize, pageToken }) {
      const page = pageOf(
        broker.topics(),
        { size: pageSize, token: pageToken },
        { keyOf: ({ record }) => record.name },
      );
      return Promise.resolve({
        topics: page.items.map(({ record }) => toTopic(record)),
        nextPageToken: page.nextToken,
      });
    },
    async updateTopic({ topic }) {
      if (!topic) throw missing('topic');
      return toTopic(await broker.updateTopic(topic.name, fromTopic(topic), topic.revision));
    },
    async deleteTopic({ topic, force }) {
      await broker.deleteTopic(topic, force);
      return {};
    },
  };
}

function subscriptionHandlers({
  broker,
}: AdminParts): Some<
  'createSubscription' | 'getSubscription' | 'listSubscriptions' | 'updateSubscription' | 'deleteSubscription' | 'seek'
> {
  return {
    async createSubscription({ subscription }, context) {
      if (!subscription) throw missing('subscription');
      const topic = await broker.topicForUse(subscription.topic, () => topicSettings({}));
      assertMaySubscribe(context.principal, topic.record);
      const settings = fromSubscription(subscription);
      const record = await broker.createSubscription(subscription.topic, subscription.name, settings);
      return toSubscription(subscription.topic, record);
    },
    getSubscription(names, context) {
      return Promise.resolve(toSubscription(names.topic, subscriptionToUse(broker, names, context).record));
    },
    listSubscriptions({ topic: name, pageSize, pageToken }) {
      const topics = name === '' ? broker.topics() : [broker.topic(name)];
      const all = topics.flatMap((topic) =>
        broker.deliveries(topic).map(({ record }) => ({ topic: topic.record.name, record })),
      );
      const keyOf = ({ topic, record }: (typeof all)[number]): string => `${topic}/${record.name}`;
      const page = pageOf(all, { size: pageSize, token: pageToken }, { keyOf });
      return Promise.resolve({
        subscriptions: page.items.map(({ topic, record }) => toSubscription(topic, record)),
        nextPageToken: page.nextToken,
      });
    },
    async updateSubscription({ subscription }) {
      if (!subscription) throw missing('subscription');
      const { topic, name, revision } = subscription;
      const record = await broker.updateSubscription({ topic, name, revision }, fromSubscription(subscription));
      return toSubscription(topic, record);
    },
    async deleteSubscription(names, context) {
      assertMaySubscribe(context.principal, broker.topic(names.topic).record);
      await broker.deleteSubscription(names.topic, names.subscription);
      return {};
    },
    async seek({ topic: topicName, subscription, to, dryRun }, context) {
      const delivery = subscriptionToUse(broker, { topic: topicName, subscription }, context);
      const position = fromPosition(to, 'to');
      if (!position) throw missing('to');
      const sequence = await broker.sequenceOf(delivery.topic, position);
      return dryRun ? delivery.planSeek(sequence) : delivery.seekTo(sequence);
    },
  };
}

function lookHandlers({ broker, startedMs, damage }: AdminParts): Some<'peek' | 'getStats'> {
  return {
    async peek(request, context) {
      const topic = broker.topic(request.topic);
      assertMaySubscribe(context.principal, topic.record);
      return { messages: await peek(broker, topic, request) };
    },
    async getStats({ topic: name }) {
      const topics = name === '' ? broker.topics() : [broker.topic(name)];
      const stats: TopicStats[] = [];
      for (const topic of topics) stats.push(await topicStats(broker, topic));
      const diskBytes = await broker.log.diskBytes();
      return { topics: stats, diskBytes, started: toDate(startedMs), damage: [...damage()] };
    },
  };
}

async function peek(broker: Broker, topic: Topic, { from, limit }: PeekRequest): Promise<StoredMessage[]> {
  const position: Position = fromPosition(from, 'from') ?? { at: 'earliest' };
  const wanted = Math.min(limit || PEEK_DEFAULT, PEEK_MAX);
  const messages: StoredMessage[] = [];
  let bytes = 0;
  let next = await broker.sequenceOf(topic, position);
  while (messages.length < wanted && bytes < ANSWER_BYTES_MAX && next < topic.next) {
    const views = await topic.read(next, READ_BYTES);
    if (views.length === 0) break;
    for (const { sequence, field, view } of messagesFrom(views, next)) {
      if (messages.length >= wanted || bytes >= ANSWER_BYTES_MAX) break;
      messages.push({ message: decodeMessage(field), sequence, published: toDate(view.publishedMs) });
      bytes += field.length;
      next = sequence + 1;
    }
  }
  return messages;
}

function* messagesFrom(
  views: readonly BatchView[],
  from: number,
): Generator<{ sequence: number; field: Buffer; view: BatchView }> {
  for (const view of views) {
    for (let sequence = Math.max(from, view.firstSequence); sequence < view.until; sequence += 1) {
      yield { sequence, field: view.slice(sequence, sequence), view };
    }
  }
}

async function topicStats(broker: Broker, topic: Topic): Promise<TopicStats> {
  const subscriptions: TopicStats['subscriptions'] = [];
  for (const delivery of broker.deliveries(topic)) subscriptions.push(await subscriptionStats(topic, delivery));
  return {
    topic: topic.record.name,
    firstSequence: topic.head,
    nextSequence: topic.next,
    messages: topic.next - topic.head,
    bytes: topic.bytes,
    delayed: topic.delayed,
    publishedPerSecond: topic.published.perSecond,
    publishers: topic.producers.streams,
    subscriptions,
  };
}

async function subscriptionStats(topic: Topic, delivery: Delivery): Promise<TopicStats['subscriptions'][number]> {
  const { backlog, oldest, leased, waiting, parked, dead, dropped, consumers } = delivery.stats();
  const leasedBy = new Map(consumers.map((one) => [one.consumer, one.leased]));
  const { record, damage } = delivery;
  return {
    subscription: record.name,
    backlog,
    oldestUnsettled: oldest === undefined ? undefined : await publishedAt(topic, oldest),
    leased,
    waiting: waiting + parked,
    dead,
    dropped,
    deliveredPerSecond: delivery.delivered.perSecond,
    settledPerSecond: delivery.settledRate.perSecond,
    paused: record.settings.paused,
    consumers: delivery.consumers.map(({ id, sink, sinceMs, credit }) => ({
      name: sink.name,
      since: toDate(sinceMs),
      leased: leasedBy.get(id) ?? 0,
      credit: toCredit(credit),
    })),
    damage: damage?.message ?? '',
  };
}

async function publishedAt(topic: Topic, sequence: number): Promise<Date | undefined> {
  try {
    const view = topic.recent(sequence) ?? (await topic.read(sequence, 1))[0];
    return toDate(view?.publishedMs);
  } catch {
    // Damage is told as such; the rest of the statistics stays readable.
    return undefined;
  }
}

function letterHandlers({ broker }: AdminParts): Some<'listDeadLetters' | 'replayDeadLetters' | 'purgeDeadLetters'> {
  return {
    async listDeadLetters({ topic, subscription, pageSize, pageToken }, context) {
      const letters = new DeadLetters(broker, subscriptionToUse(broker, { topic, subscription }, context));
      return listPage(letters, pageSize, pageToken);
    },
    async replayDeadLetters({ topic, subscription, sequences }, context) {
      const letters = new DeadLetters(broker, subscriptionToUse(broker, { topic, subscription }, context));
      return { replayed: await letters.replay(sequences) };
    },
    async purgeDeadLetters({ topic, subscription, sequences }, context) {
      const letters = new DeadLetters(broker, subscriptionToUse(broker, { topic, subscription }, context));
      return { purged: await letters.purge(sequences) };
    },
  };
}

/** The token is the sequence of the last letter given. @throws invalid */
function readPlace(token: string, pageSize: number): number {
  const after = token === '' ? 0 : Number(token);
  if (Number.isSafeInteger(after) && after >= 0 && pageSize >= 0) return after;
  throw new MusterError('invalid', 'page_size or page_token is not one of ours: use next_page_token unchanged');
}

async function listPage(letters: DeadLetters, pageSize: number, token: string): Promise<ListDeadLettersResponse> {
  const after = readPlace(token, pageSize);
  const size = Math.min(pageSize || PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX);
  const found = await letters.list(after, size + 1, ANSWER_BYTES_MAX);
  const page: (typeof found)[number][] = [];
  let bytes = 0;
  for (const letter of found.slice(0, size)) {
    bytes += letter.message.length;
    if (page.length > 0 && bytes > ANSWER_BYTES_MAX) break;
    page.push(letter);
  }
  const last = page.at(-1)?.sequence;
  const more = page.length < found.length && last !== undefined;
  return { deadLetters: page.map(toDeadLetter), nextPageToken: more ? String(last) : '' };
}
