/** Reads at the start everything of the log that is small, and holds it against itself. */
import type { Records } from '../../store/records.js';
import { damagedLog, reading } from './damage.js';
import { batchKey, keyOf, readKey, spanOf, type KeyShape, type Kind, type ReadKey } from './keys.js';
import type {
  CursorRecord,
  LoadedSubscription,
  LoadedTopic,
  LogContents,
  ProducerRecord,
  RetryRecord,
  SubscriptionRecord,
  TopicRecord,
} from './port.js';
import {
  NO_DELAYED,
  decodeBounds,
  decodeCursor,
  decodeDelayedSummary,
  decodeNumber,
  decodeProducer,
  decodeRetry,
  decodeSubscription,
  decodeTopic,
  type Bounds,
  type DelayedSummary,
} from './records.js';
import type { LogState } from './state.js';

const TOPIC: KeyShape = { ids: 1, numbers: 0 };
const SUBSCRIPTION: KeyShape = { ids: 2, numbers: 0 };
const MESSAGE: KeyShape = { ids: 2, numbers: 1 };

/** Runs `take` over all records of a kind, in the order of their keys. @throws data_loss */
async function each<T>(
  records: Records,
  { kind, shape }: { kind: Kind; shape: KeyShape },
  decode: (key: ReadKey, value: Buffer) => T,
  take: (key: ReadKey, value: T) => void,
): Promise<void> {
  for await (const piece of records.scan(spanOf(kind))) {
    for (const { key, value } of piece) {
      const read = reading(key, value, (bytes) => {
        const parts = readKey(key, shape);
        return { parts, decoded: decode(parts, bytes) };
      });
      take(read.parts, read.decoded);
    }
  }
}

interface FoundSubscription {
  readonly record: SubscriptionRecord;
  cursor: CursorRecord | undefined;
  readonly retries: Map<number, RetryRecord>;
  dead: number;
  readonly replayed: number[];
}

interface FoundTopic {
  readonly record: TopicRecord;
  bounds: Bounds | undefined;
  delayed: DelayedSummary;
  readonly subscriptions: Map<number, FoundSubscription>;
  readonly producers: ProducerRecord[];
}

type Found = Map<number, FoundTopic>;

function topicOf(found: Found, { ids: [topicId = 0] }: ReadKey, what: string): FoundTopic {
  const topic = found.get(topicId);
  if (!topic) throw damagedLog(`it holds ${what} of topic ${topicId}, which is missing`);
  return topic;
}

function subscriptionOf(found: Found, key: ReadKey, what: string): FoundSubscription {
  const [topicId = 0, id = 0] = key.ids;
  const subscription = topicOf(found, key, what).subscriptions.get(id);
  if (!subscription) throw damagedLog(`it holds ${what} of subscription ${id} of topic ${topicId}, which is missing`);
  return subscription;
}

async function findTopics(records: Records): Promise<Found> {
  const found: Found = new Map();
  await each(
    records,
    { kind: 'topic', shape: TOPIC },
    ({ ids: [id = 0] }, value) => decodeTopic(id, value),
    (_key, record) => {
      const empty = { bounds: undefined, delayed: NO_DELAYED, subscriptions: new Map(), producers: [] };
      found.set(record.id, { record, ...empty });
    },
  );
  await each(
    records,
    { kind: 'bounds', shape: TOPIC },
    (_key, value) => decodeBounds(value),
    (key, bounds) => (topicOf(found, key, 'the bounds').bounds = bounds),
  );
  await each(
    records,
    { kind: 'delayedSummary', shape: TOPIC },
    (_key, value) => decodeDelayedSummary(value),
    (key, delayed) => (topicOf(found, key, 'the count of delayed messages').delayed = delayed),
  );
  await each(
    records,
    { kind: 'producer', shape: { ids: 1, numbers: 0, text: true } },
    ({ text }, value) => decodeProducer(text, value),
    (key, producer) => topicOf(found, key, 'a producer').producers.push(producer),
  );
  return found;
}

async function findSubscriptions(records: Records, found: Found): Promise<void> {
  await each(
    records,
    { kind: 'subscription', shape: SUBSCRIPTION },
    ({ ids: [topicId = 0, id = 0] }, value) => decodeSubscription(topicId, id, value),
    (key, record) => {
      const empty = { cursor: undefined, retries: new Map(), dead: 0, replayed: [] };
      topicOf(found, key, 'a subscription').subscriptions.set(record.id, { record, ...empty });
    },
  );
  await each(
    records,
    { kind: 'cursor', shape: SUBSCRIPTION },
    (_key, value) => decodeCursor(value),
    (key, cursor) => (subscriptionOf(found, key, 'the position').cursor = cursor),
  );
  await each(
    records,
    { kind: 'dead', shape: SUBSCRIPTION },
    (_key, value) => decodeNumber(value),
    (key, dead) => (subscriptionOf(found, key, 'the count of dead letters').dead = dead),
  );
  await each(
    records,
    { kind: 'retry', shape: MESSAGE },
    (_key, value) => decodeRetry(value),
    (key, retry) => subscriptionOf(found, key, 'a failed attempt').retries.set(key.numbers[0] ?? 0, retry),
  );
  await each(
    records,
    { kind: 'replayed', shape: MESSAGE },
    () => undefined,
    (key) => subscriptionOf(found, key, 'a replayed dead letter').replayed.push(key.numbers[0] ?? 0),
  );
}

function loadedSubscription({ record, cursor, ...rest }: FoundSubscription, next: number): LoadedSubscription {
  const where = `subscription ${record.name} of topic ${record.topicId}`;
  if (!cursor) throw damagedLog(`the position of ${where} is missing`);
  if ((cursor.settled.at(-1)?.until ?? 0) > next) throw damagedLog(`${where} has settled messages that are not there`);
  return { record, cursor, ...rest };
}

async function loadedTopic(records: Records, { record, bounds, ...rest }: FoundTopic): Promise<LoadedTopic> {
  if (!bounds) throw damagedLog(`the bounds of topic ${record.name} are missing`);
  const { count, nextNumber } = rest.delayed;
  const nextDueMs = count > 0 ? await firstDueMs(records, record.id) : undefined;
  if (count > 0 && nextDueMs === undefined)
    throw damagedLog(`the delayed messages of topic ${record.name} are missing`);
  return {
    ...bounds,
    record,
    producers: rest.producers,
    delayed: { count, nextDueMs, nextNumber },
    subscriptions: [...rest.subscriptions.values()].map((found) => loadedSubscription(found, bounds.next)),
  };
}

async function firstDueMs(records: Records, topicId: number): Promise<number | undefined> {
  const [first] = await records.piece({ ...spanOf('delayed', [topicId]), limit: 1 });
  return first && reading(first.key, first.value, () => readKey(first.key, { ids: 1, numbers: 2 }).numbers[0]);
}

/** The newest batch of every topic must be there; those before it are missed when they are read. */
async function assertEnds(records: Records, topics: readonly LoadedTopic[]): Promise<void> {
  const holding = topics.filter(({ head, next }) => next > head);
  const there = await records.has(holding.map(({ record, next }) => batchKey(record.id, next - 1)));
  holding.forEach(({ record, next }, index) => {
    if (!there[index]) throw damagedLog(`the newest messages of topic ${record.name}, up to ${next - 1}, are missing`);
  });
}

/** What is to be removed for good: a topic, or one of its subscriptions. */
export async function findRemovals(records: Records): Promise<readonly (readonly number[])[]> {
  const removals: (readonly number[])[] = [];
  for await (const piece of records.scan(spanOf('removal'))) {
    for (const { key, value } of piece) {
      removals.push(reading(key, value, () => readKey(key, key.length > 5 ? SUBSCRIPTION : TOPIC).ids));
    }
  }
  return removals;
}

/** @throws data_loss when something is damaged, missing or does not fit the rest */
export async function loadContents(records: Records): Promise<LogContents> {
  const globalKey = keyOf('global', {});
  const [global] = await records.getMany([globalKey]);
  const nextTopicId = global ? reading(globalKey, global, decodeNumber) : 1;
  const found = await findTopics(records);
  await findSubscriptions(records, found);
  const topics: LoadedTopic[] = [];
  for (const topic of found.values()) {
    if (topic.record.id >= nextTopicId)
      throw damagedLog(`topic ${topic.record.name} has an id that was never given out`);
    topics.push(await loadedTopic(records, topic));
  }
  await assertEnds(records, topics);
  return { topics, nextTopicId };
}

/** What the log itself remembers of the contents. */
export function stateOfContents({ topics, nextTopicId }: LogContents): LogState {
  return {
    nextTopicId,
    topics: new Map(
      topics.map((topic) => [
        topic.record.id,
        {
          name: topic.record.name,
          bounds: boundsOf(topic),
          delayed: { count: topic.delayed.count, nextNumber: topic.delayed.nextNumber },
          dead: new Map(topic.subscriptions.map(({ record, dead }) => [record.id, dead])),
        },
      ]),
    ),
  };
}

function boundsOf({ head, headOffset, next, nextOffset, newestMs, nextSubscriptionId }: LoadedTopic): Bounds {
  return { head, headOffset, next, nextOffset, newestMs, nextSubscriptionId };
}
