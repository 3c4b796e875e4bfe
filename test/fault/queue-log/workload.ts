/**
 * The load that fault tests put on a queue's log, and the judge of what is left. Commit number n is the same whoever makes it: so the state after n
 * commits is known, and a log must hold exactly that of some n which is not below the newest one acknowledged.
 */
import assert from 'node:assert/strict';
import { randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { openMemoryQueueLog } from '../../../src/queue/log/memory-log.js';
import type {
  Change,
  DeadLetterRecord,
  LogContents,
  QueueLog,
  StoredBatch,
  Trim,
} from '../../../src/queue/log/port.js';
import { TopicWriter, readAll, subscriptionChanges, topicChange } from '../../support/queue-log.js';

const TOPICS = 3;
const MESSAGE_BYTES_MAX = 120;
const MESSAGES_MAX = 12;
/** The producer whose newest batch is the number of the newest commit. */
const STAMP = 'stamp';

interface Lane {
  readonly writer: TopicWriter;
  /** Batches behind the head, with the offset of each. */
  ends: { readonly sequence: number; readonly offset: number }[];
  floor: number;
  letters: number[];
  delayed: { readonly dueMs: number; readonly number: number }[];
  nextDelayed: number;
}

/** One commit, and what is to be trimmed once it is durable. */
export interface Step {
  readonly changes: readonly Change[];
  readonly trims: readonly Trim[];
}

function randomBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index += 1) bytes[index] = randomBetween(random, 0, 256);
  return bytes;
}

/** The commits one after another, from the first. */
export class Workload {
  readonly #seed: number;
  readonly #lanes: readonly Lane[];
  #number = 0;

  constructor(seed: number) {
    this.#seed = seed;
    this.#lanes = Array.from({ length: TOPICS }, (_, index) => ({
      writer: new TopicWriter(index + 1),
      ends: [],
      floor: 1,
      letters: [],
      delayed: [],
      nextDelayed: 0,
    }));
  }

  /** How many steps were taken. */
  get number(): number {
    return this.#number;
  }

  step(): Step {
    this.#number += 1;
    const random = seededRandom(this.#seed ^ Math.imul(this.#number, 0x9e3779b1));
    const changes: Change[] = this.#number === 1 ? [...this.#beginning()] : [];
    const trims: Trim[] = [];
    for (const lane of this.#lanes) {
      if (random.next() < 0.6) changes.push(...publish(lane, random));
      if (random.next() < 0.4) changes.push(...settle(lane, random));
      if (random.next() < 0.15) changes.push(...letters(lane, random));
      if (random.next() < 0.15) changes.push(...delays(lane, random));
      if (random.next() < 0.2) trims.push(...head(lane, changes));
    }
    const acks = [{ batch: this.#number, firstSequence: 0, count: 0 }];
    changes.push({
      kind: 'producer',
      topicId: 1,
      producer: STAMP,
      record: { producer: STAMP, acks, seenMs: this.#number },
    });
    return { changes, trims };
  }

  *#beginning(): Generator<Change> {
    for (const { writer } of this.#lanes) {
      yield topicChange(writer.topicId);
      yield* subscriptionChanges(writer.topicId, 1);
    }
  }
}

function* publish(lane: Lane, random: Random): Generator<Change> {
  for (let left = randomBetween(random, 1, 4); left > 0; left -= 1) {
    const count = randomBetween(random, 1, MESSAGES_MAX);
    const messages = randomBytes(random, randomBetween(random, 0, count * MESSAGE_BYTES_MAX));
    yield lane.writer.next(count, messages);
    lane.ends.push({ sequence: lane.writer.sequence, offset: lane.writer.offset });
    if (random.next() > 0.3) continue;
    const id = `id-${lane.writer.sequence}`;
    yield { kind: 'dedupe', topicId: lane.writer.topicId, window: 1, id, sequence: lane.writer.sequence - 1 };
  }
}

function* settle({ writer: { topicId, sequence }, floor }: Lane, random: Random): Generator<Change> {
  const settled = sequence - floor > 4 ? [{ from: floor + 2, until: floor + 3 }] : [];
  yield { kind: 'cursor', topicId, subscriptionId: 1, cursor: { floor, settled, dropped: 0 } };
  const retry = { attempts: randomBetween(random, 1, 5), notBeforeMs: randomBetween(random, 0, 1000) };
  yield { kind: 'retry', topicId, subscriptionId: 1, sequence: floor, retry: random.next() < 0.5 ? retry : undefined };
}

function* letters(lane: Lane, random: Random): Generator<Change> {
  const place = { topicId: lane.writer.topicId, subscriptionId: 1 };
  const oldest = lane.letters[0];
  if (oldest !== undefined && random.next() < 0.4) {
    lane.letters.shift();
    yield { kind: 'dead letter', ...place, sequence: oldest, letter: undefined };
    return;
  }
  const sequence = lane.writer.sequence + lane.letters.length;
  if (lane.letters.includes(sequence)) return;
  lane.letters.push(sequence);
  const letter: DeadLetterRecord = {
    sequence,
    message: randomBytes(random, 50),
    publishedMs: 1,
    diedMs: 2,
    attempts: 3,
    reason: 'none',
    replayed: random.next() < 0.3,
  };
  yield { kind: 'dead letter', ...place, sequence, letter };
}

function* delays(lane: Lane, random: Random): Generator<Change> {
  const { topicId } = lane.writer;
  const oldest = lane.delayed[0];
  if (oldest && random.next() < 0.5) {
    lane.delayed.shift();
    yield { kind: 'delayed', topicId, ...oldest, message: undefined };
    return;
  }
  const one = { dueMs: randomBetween(random, 0, 10_000), number: lane.nextDelayed };
  lane.nextDelayed += 1;
  lane.delayed.push(one);
  yield { kind: 'delayed', topicId, ...one, message: randomBytes(random, 40) };
}

/** Everything but the newest batches leaves. */
function head(lane: Lane, changes: Change[]): readonly Trim[] {
  const end = lane.ends.at(-3);
  if (!end) return [];
  const { topicId } = lane.writer;
  lane.ends = lane.ends.slice(-2);
  lane.floor = end.sequence;
  changes.push({ kind: 'head', topicId, head: end.sequence, offset: end.offset });
  return [{ topicId, head: end.sequence }];
}

/** Everything that a log holds, as it answers. */
export interface Contents {
  readonly loaded: LogContents;
  readonly batches: ReadonlyMap<number, readonly StoredBatch[]>;
  readonly details: readonly unknown[];
}

/** @throws what the log throws */
export async function contentsOf(log: QueueLog): Promise<Contents> {
  const loaded = await log.load();
  const batches = new Map<number, readonly StoredBatch[]>();
  const details: unknown[] = [];
  for (const { record, subscriptions } of loaded.topics) {
    batches.set(record.id, await readAll(log, record.id, 1, 4096));
    details.push(await log.delayed(record.id, 1e9, 10_000));
    const ids = Array.from({ length: 400 }, (_, n) => `id-${n}`);
    details.push(await log.dedupe(record.id, [1], ids));
    for (const { record: subscription } of subscriptions) {
      details.push(await log.deadLetters(record.id, subscription.id, { after: 0, limit: 10_000 }));
    }
  }
  return { loaded, batches, details };
}

/** The number of the newest commit that a log holds. */
export function commitOf({ topics }: LogContents): number {
  const stamp = topics[0]?.producers.find(({ producer }) => producer === STAMP);
  return stamp?.acks[0]?.batch ?? 0;
}

/** What a log holds after `number` commits. */
export async function expectedContents(seed: number, number: number): Promise<Contents> {
  const log = openMemoryQueueLog();
  const workload = new Workload(seed);
  await log.load();
  while (workload.number < number) await log.commit(workload.step().changes);
  const contents = await contentsOf(log);
  await log.close();
  return contents;
}

/** @throws when the log does not hold exactly what some number of commits left, at least `acknowledged` */
export async function judge(log: QueueLog, seed: number, acknowledged: number): Promise<number> {
  const found = await contentsOf(log);
  const number = commitOf(found.loaded);
  assert.ok(number >= acknowledged, `it holds ${number} commits, but ${acknowledged} were acknowledged`);
  assert.deepEqual(found, await expectedContents(seed, number));
  return number;
}
