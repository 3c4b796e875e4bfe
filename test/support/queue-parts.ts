import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { PublishMessagesRequest, Message } from '../../generated/muster/v1/queue.js';
import { ManualClock } from '../../src/kit/clock.js';
import { silentLogger } from '../../src/kit/logger.js';
import { BatchView } from '../../src/queue/batch.js';
import type { Frame, Sink } from '../../src/queue/delivery.js';
import type {
  Change,
  DeadLetterRecord,
  DelayedRecord,
  LogContents,
  QueueLog,
  StoredBatch,
  Trim,
} from '../../src/queue/log/port.js';
import { openMemoryQueueLog } from '../../src/queue/log/memory-log.js';
import type { EncodedBatch } from '../../src/queue/publication.js';
import { readPublishRequest } from '../../src/queue/wire.js';
import type { MusterError } from '../../src/kit/errors.js';

/** Parts of a queue for tests of others of its parts. */

export type MessageFields = Parameters<typeof Message.fromPartial>[0];

/** A text stands for a message with this payload. */
export function message(of: string | MessageFields): Message {
  return Message.fromPartial(typeof of === 'string' ? { payload: Buffer.from(of) } : of);
}

/** Encoded `messages` fields one after another. */
export function fieldsOf(...messages: readonly (string | MessageFields)[]): Buffer {
  return Buffer.from(PublishMessagesRequest.encode({ messages: messages.map(message), topic: '' }).finish());
}

/** A batch as a publisher's request brings it. */
export function encoded(...messages: readonly (string | MessageFields)[]): EncodedBatch {
  return readPublishRequest(fieldsOf(...messages)).encoded;
}

/** The payloads in encoded `messages` fields. */
export function payloads(messages: Buffer): string[] {
  return PublishMessagesRequest.decode(messages).messages.map(({ payload }) => Buffer.from(payload).toString());
}

export function stored(firstSequence: number, ...messages: readonly (string | MessageFields)[]): StoredBatch {
  return { firstSequence, count: messages.length, publishedMs: 1000, offset: 0, messages: fieldsOf(...messages) };
}

export function view(firstSequence: number, ...messages: readonly (string | MessageFields)[]): BatchView {
  return new BatchView(stored(firstSequence, ...messages));
}

/** For tests of what is kept in memory: what is alive afterwards is reachable. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc()');
}

/** Lets everything that is ready run, and what that makes ready. */
export async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** A log in memory that fails, waits and is damaged when told to, and remembers what it was asked to store. */
export class TestLog implements QueueLog {
  readonly groups: (readonly Change[])[] = [];
  readonly trims: Trim[] = [];
  readonly reads: number[] = [];
  compactions = 0;
  /** Asked before each group is stored; what it throws, commit() does. */
  onCommit: (changes: readonly Change[]) => Promise<void> | void = () => undefined;
  /** Asked before each read; what it throws, read() does. */
  onRead: (from: number) => Promise<void> | void = () => undefined;
  onCompact: () => void = () => undefined;
  damage: readonly string[] = [];
  readonly #log = openMemoryQueueLog();

  get failed(): Promise<MusterError> {
    return this.#log.failed;
  }

  /** Changes of one kind, of all groups. */
  changes<Kind extends Change['kind']>(kind: Kind): Extract<Change, { kind: Kind }>[] {
    return this.groups.flat().filter((change): change is Extract<Change, { kind: Kind }> => change.kind === kind);
  }

  load(): Promise<LogContents> {
    return this.#log.load();
  }

  async commit(changes: readonly Change[]): Promise<void> {
    await this.onCommit(changes);
    await this.#log.commit(changes);
    this.groups.push(changes);
  }

  async read(topicId: number, from: number, bytesMax: number): Promise<readonly StoredBatch[]> {
    this.reads.push(from);
    await this.onRead(from);
    return this.#log.read(topicId, from, bytesMax);
  }

  sequenceAt(topicId: number, timeMs: number): Promise<number | undefined> {
    return this.#log.sequenceAt(topicId, timeMs);
  }

  async trim(trim: Trim): Promise<void> {
    this.trims.push(trim);
    await this.#log.trim(trim);
  }

  get deletedBytes(): number {
    return this.#log.deletedBytes;
  }

  async compact(): Promise<void> {
    this.compactions += 1;
    this.onCompact();
    await this.#log.compact();
  }

  dedupe(topicId: number, windows: readonly number[], ids: readonly string[]): Promise<ReadonlyMap<string, number>> {
    return this.#log.dedupe(topicId, windows, ids);
  }

  forgetDedupe(topicId: number, window: number): Promise<void> {
    return this.#log.forgetDedupe(topicId, window);
  }

  delayed(topicId: number, dueMs: number, limit: number): Promise<readonly DelayedRecord[]> {
    return this.#log.delayed(topicId, dueMs, limit);
  }

  nextDueMs(topicId: number): Promise<number | undefined> {
    return this.#log.nextDueMs(topicId);
  }

  deadLetter(topicId: number, subscriptionId: number, sequence: number): Promise<DeadLetterRecord | undefined> {
    return this.#log.deadLetter(topicId, subscriptionId, sequence);
  }

  deadLetters(
    topicId: number,
    subscriptionId: number,
    page: { readonly after: number; readonly limit: number },
  ): Promise<readonly DeadLetterRecord[]> {
    return this.#log.deadLetters(topicId, subscriptionId, page);
  }

  diskBytes(): Promise<number> {
    return this.#log.diskBytes();
  }

  async *scrub(): AsyncGenerator<string> {
    await Promise.resolve();
    yield* this.damage;
  }

  close(): Promise<void> {
    return this.#log.close();
  }
}

/** A consumer that keeps what it gets. */
export class TestSink implements Sink {
  readonly name: string;
  readonly frames: Frame[] = [];
  /** Frames it takes before it has enough. */
  room = Infinity;
  ended: MusterError | undefined;

  constructor(name = 'consumer') {
    this.name = name;
  }

  deliver(frame: Frame): boolean {
    this.frames.push(frame);
    this.room -= 1;
    return this.room > 0;
  }

  end(reason: MusterError): void {
    this.ended = reason;
  }

  /** Payloads in the order they came. */
  get payloads(): string[] {
    return this.frames.flatMap(({ runs }) => runs.flatMap(({ messages }) => payloads(messages)));
  }

  /** Attempt of each run. */
  get attempts(): number[] {
    return this.frames.flatMap(({ runs }) => runs.map(({ attempt }) => attempt));
  }
}

export interface QueueParts {
  readonly log: TestLog;
  readonly clock: ManualClock;
  readonly logger: typeof silentLogger;
}

export function queueParts(): QueueParts {
  return { log: new TestLog(), clock: new ManualClock(), logger: silentLogger };
}
