import { MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { KeySpan, Records } from '../../store/records.js';
import { reading } from './damage.js';
import { Draft, grows, letterKey, type Letter } from './draft.js';
import { batchKey, keyOf, readKey, spanOf, type Kind } from './keys.js';
import { findRemovals, loadContents, stateOfContents } from './load.js';
import type { Change, DeadLetterRecord, DelayedRecord, LogContents, QueueLog, StoredBatch, Trim } from './port.js';
import { findTime, readBatches } from './reading.js';
import { decodeDelayed, decodeLetter, decodeNumber } from './records.js';
import { LOG_NAMES } from './names.js';
import { bug, stateOf, type LogState } from './state.js';

/** LevelDB's own bytes per record of a batch, about. */
const RECORD_OVERHEAD_BYTES = 32;
/** Bytes of messages that one call of delayed() or deadLetters() answers with, about. */
const ANSWER_BYTES = 4 * 1024 * 1024;
/** Up to so many keys at once leave with the next commit; more are deleted by themselves. */
const LEAVING_AT_ONCE_MAX = 200;
/** So many wait for the next commit before they get one of their own. */
const LEAVING_MAX = 2000;
/** Everything below a topic that is deleted piece by piece when the topic is gone. */
const BELOW_TOPIC: readonly Kind[] = ['batch', 'deadLetter', 'delayed', 'dedupe', 'retry', 'replayed', 'producer'];
const BELOW_SUBSCRIPTION: readonly Kind[] = ['deadLetter', 'retry', 'replayed'];

/** The queue's log over records of any engine. */
export class RecordsQueueLog implements QueueLog {
  readonly failed: Promise<MusterError>;
  /** For commits that were asked for before close(); everything else goes through #open. */
  readonly #records: Records;
  readonly #logger: Logger;
  #closing = false;
  #state: LogState = { topics: new Map(), nextTopicId: 1 };
  /** Ends when the commits asked for so far have ended; never rejects. */
  #commits: Promise<unknown> = Promise.resolve();
  /** Where the next trim begins, by topic: behind what was trimmed, so that no trim walks over what the last one deleted. */
  readonly #trimmed = new Map<number, number>();
  /** The same for dedupe windows. */
  readonly #forgotten = new Map<number, number>();
  /** Delayed messages due before are not there, by topic. */
  readonly #noneDueBefore = new Map<number, number>();
  /** Rises with every commit that stores delayed messages: what was read meanwhile says nothing about those. */
  #delayedCommits = 0;
  /** What was deleted since the last compaction, by kind and topic. */
  readonly #deleted = new Map<string, KeySpan>();
  #deletedBytes = 0;
  /** Keys of records that are to go: a few are deleted by the next commit, which costs no sync of its own. */
  #leaving: Buffer[] = [];
  /** Removals whose records are deleted, by their keys: the next commit forgets them. */
  #removed: Buffer[] = [];
  /** Removals that are going on, by topic and subscription; they never reject. */
  readonly #removing = new Map<string, Promise<void>>();

  constructor(records: Records, logger: Logger) {
    this.#records = records;
    this.#logger = logger;
    this.failed = records.failed;
  }

  async load(): Promise<LogContents> {
    const records = this.#open;
    const removals = await findRemovals(records);
    for (const ids of removals) await this.#deleteBelow(ids);
    if (removals.length > 0) {
      await records.commit(removals.map((ids) => ({ key: keyOf('removal', { ids }), value: undefined })));
    }
    const contents = await loadContents(records);
    this.#state = stateOfContents(contents);
    return contents;
  }

  async commit(changes: readonly Change[]): Promise<void> {
    this.#open.assertOpen();
    const commit = this.#commits.then(() => this.#commit(changes));
    this.#commits = commit.catch(() => undefined);
    return commit;
  }

  async read(topicId: number, from: number, bytesMax: number): Promise<readonly StoredBatch[]> {
    const records = this.#open;
    const topic = this.#state.topics.get(topicId);
    // It is just being removed.
    if (!topic) return [];
    return readBatches(records, topicId, topic, { from, bytesMax });
  }

  async sequenceAt(topicId: number, timeMs: number): Promise<number | undefined> {
    return findTime(this.#open, topicId, stateOf(this.#state.topics, topicId), timeMs);
  }

  async trim({ topicId, head }: Trim): Promise<void> {
    this.#open.assertOpen();
    const topic = this.#state.topics.get(topicId);
    if (!topic) return;
    if (head > topic.bounds.head)
      throw bug(`topic ${topicId} would be trimmed to ${head}, but its head is not yet there`);
    const from = this.#trimmed.get(topicId);
    const span = {
      from: from === undefined ? keyOf('batch', { ids: [topicId] }) : batchKey(topicId, from),
      until: batchKey(topicId, head),
    };
    if (from !== undefined && from >= head) return;
    await this.#letGo(span);
    this.#trimmed.set(topicId, head);
  }

  async compact(): Promise<void> {
    this.#open.assertOpen();
    if (this.#leaving.length > 0) await this.commit([]);
    const spans = [...this.#deleted.values()];
    this.#deleted.clear();
    this.#deletedBytes = 0;
    for (const span of spans) await this.#open.compact(span);
  }

  get deletedBytes(): number {
    return this.#deletedBytes;
  }

  async dedupe(
    topicId: number,
    windows: readonly number[],
    ids: readonly string[],
  ): Promise<ReadonlyMap<string, number>> {
    const known = windows.filter((window) => window >= (this.#forgotten.get(topicId) ?? 0));
    const wanted = ids.flatMap((id) => known.map((window) => ({ id, key: dedupeKey(topicId, window, id) })));
    const values = await this.#open.getMany(wanted.map(({ key }) => key));
    const found = new Map<string, number>();
    wanted.forEach(({ id, key }, index) => {
      const value = values[index];
      if (value) found.set(id, Math.max(found.get(id) ?? 0, reading(key, value, decodeNumber)));
    });
    return found;
  }

  async forgetDedupe(topicId: number, window: number): Promise<void> {
    this.#open.assertOpen();
    const from = this.#forgotten.get(topicId) ?? 0;
    if (window <= from) return;
    this.#forgotten.set(topicId, window);
    const records = await this.#letGo({ from: dedupeKey(topicId, from, ''), until: dedupeKey(topicId, window, '') });
    this.#deletedBytes += records * RECORD_OVERHEAD_BYTES;
  }

  async delayed(topicId: number, dueMs: number, limit: number): Promise<readonly DelayedRecord[]> {
    const { start, raise } = this.#dueFrom(topicId);
    const span = { from: delayedKey(topicId, start), until: delayedKey(topicId, Math.max(start, dueMs + 1)) };
    const found = await this.#answer(span, limit, (key, value) =>
      decodeDelayed(readKey(key, { ids: 1, numbers: 2 }).numbers, value),
    );
    if (limit > 0) raise(found[0]?.dueMs ?? dueMs + 1);
    return found;
  }

  async nextDueMs(topicId: number): Promise<number | undefined> {
    const { start, raise } = this.#dueFrom(topicId);
    const until = spanOf('delayed', [topicId]).until;
    const [first] = await this.#open.piece({ from: delayedKey(topicId, start), until, limit: 1 });
    if (!first) return undefined;
    const dueMs = reading(first.key, first.value, () => readKey(first.key, { ids: 1, numbers: 2 }).numbers[0] ?? 0);
    raise(dueMs);
    return dueMs;
  }

  async deadLetter(topicId: number, subscriptionId: number, sequence: number): Promise<DeadLetterRecord | undefined> {
    const key = letterKey({ topicId, subscriptionId, sequence });
    const [value] = await this.#open.getMany([key]);
    return value && reading(key, value, (bytes) => decodeLetter(sequence, bytes));
  }

  async deadLetters(
    topicId: number,
    subscriptionId: number,
    { after, limit }: { readonly after: number; readonly limit: number },
  ): Promise<readonly DeadLetterRecord[]> {
    const from = letterKey({ topicId, subscriptionId, sequence: after + 1 });
    const span = { from, until: spanOf('deadLetter', [topicId, subscriptionId]).until };
    return this.#answer(span, limit, (key, value) =>
      decodeLetter(readKey(key, { ids: 2, numbers: 1 }).numbers[0] ?? 0, value),
    );
  }

  async diskBytes(): Promise<number> {
    return this.#open.diskBytes();
  }

  async *scrub(signal: AbortSignal): AsyncGenerator<string> {
    yield* this.#open.scrub(signal);
  }

  async close(): Promise<void> {
    this.#closing = true;
    await this.#commits;
    await this.#records.close();
  }

  /** @throws unavailable when it is not open */
  get #open(): Records {
    this.#records.assertOpen();
    if (this.#closing) throw closedLog();
    return this.#records;
  }

  async #commit(changes: readonly Change[]): Promise<void> {
    for (const change of changes) await this.#assertRemoved(change);
    const { letters, deletedBytes } = await this.#letters(changes);
    const draft = new Draft(this.#state, letters);
    for (const change of changes) draft.add(change);
    const leaving = this.#leaving.length;
    const removed = this.#removed.length;
    // What is stored anew at the same key comes behind.
    const gone = [...this.#leaving, ...this.#removed].map((key) => ({ key, value: undefined }));
    const records = [...gone, ...draft.records()];
    const bytes = draft.bytes + records.length * RECORD_OVERHEAD_BYTES;
    const room = await this.#records.room();
    if (bytes > (changes.some(grows) ? room.puts : room.deletes)) throw room.refusal();
    await this.#records.commit(records);
    draft.applyTo(this.#state);
    this.#leaving = this.#leaving.slice(leaving);
    this.#removed = this.#removed.slice(removed);
    this.#deletedBytes += deletedBytes;
    for (const change of changes) this.#follow(change);
  }

  /** What is stored now of the dead letters that `changes` name, and how many bytes of it they delete. */
  async #letters(
    changes: readonly Change[],
  ): Promise<{ readonly letters: Map<string, Letter>; readonly deletedBytes: number }> {
    const letters = new Map<string, Letter>();
    let deletedBytes = 0;
    const named = changes.filter((change) => change.kind === 'dead letter');
    if (named.length === 0) return { letters, deletedBytes };
    const keys = named.map(letterKey);
    const values = await this.#records.getMany(keys);
    keys.forEach((key, index) => {
      const value = values[index];
      if (!value) return;
      const { replayed } = reading(key, value, (bytes) => decodeLetter(0, bytes));
      letters.set(key.toString('hex'), replayed ? 'replayed' : 'dead');
      if (!named[index]?.letter) deletedBytes += value.length + RECORD_OVERHEAD_BYTES;
    });
    return { letters, deletedBytes };
  }

  /** What a change means for what the log remembers, once it is durable. */
  #follow(change: Change): void {
    if (change.kind === 'topic removed') this.#remove([change.topicId]);
    else if (change.kind === 'subscription removed') this.#remove([change.topicId, change.subscriptionId]);
    else if (change.kind === 'dead letter') this.#followLetter(change);
    else if (change.kind === 'delayed' && change.message) {
      this.#delayedCommits += 1;
      const from = this.#noneDueBefore.get(change.topicId);
      if (from !== undefined && change.dueMs < from) this.#noneDueBefore.set(change.topicId, change.dueMs);
    } else if (change.kind === 'dedupe') this.#followDedupe(change);
  }

  #followDedupe({ topicId, window }: Extract<Change, { kind: 'dedupe' }>): void {
    // The wall clock was ahead for a while, and windows were forgotten that come only now.
    const from = this.#forgotten.get(topicId);
    if (from !== undefined && window < from) this.#forgotten.set(topicId, window);
  }

  #followLetter(change: Extract<Change, { kind: 'dead letter' }>): void {
    if (change.letter) return;
    this.#noteDeleted({ from: letterKey(change), until: letterKey({ ...change, sequence: change.sequence + 1 }) });
  }

  /** Where to look for the earliest delayed message, without walking over those that were delivered; `raise` is told what was found. */
  #dueFrom(topicId: number): { readonly start: number; readonly raise: (dueMs: number) => void } {
    const start = this.#noneDueBefore.get(topicId) ?? 0;
    const commits = this.#delayedCommits;
    const raise = (dueMs: number): void => {
      if (commits === this.#delayedCommits && dueMs > start) this.#noneDueBefore.set(topicId, dueMs);
    };
    return { start, raise };
  }

  /** A subscription begins only when nothing is left of one that had its id. */
  async #assertRemoved(change: Change): Promise<void> {
    if (change.kind !== 'subscription' || this.#removing.size === 0) return;
    await this.#removing.get(`${change.subscription.topicId}/${change.subscription.id}`);
  }

  /** Deletes what hung below, in the background. What a crash leaves of it is deleted at the next start. */
  #remove(ids: readonly number[]): void {
    const name = ids.join('/');
    const removing = this.#deleteBelow(ids).then(
      () => {
        this.#removed.push(keyOf('removal', { ids }));
      },
      (error: unknown) => {
        this.#logger.debug('a removal goes on at the next start', { topic: ids[0], error });
      },
    );
    this.#removing.set(
      name,
      removing.finally(() => this.#removing.delete(name)),
    );
    if (ids.length === 1)
      for (const map of [this.#trimmed, this.#forgotten, this.#noneDueBefore]) map.delete(ids[0] ?? 0);
  }

  async #deleteBelow(ids: readonly number[]): Promise<void> {
    for (const kind of ids.length === 1 ? BELOW_TOPIC : BELOW_SUBSCRIPTION) {
      const span = spanOf(kind, ids);
      await this.#open.clear(span);
      this.#noteDeleted(span);
    }
  }

  /** Deletes what nothing refers to any more, soon; answers with how many records that were. */
  async #letGo(span: KeySpan): Promise<number> {
    const keys = await this.#open.keys(span, LEAVING_AT_ONCE_MAX + 1);
    let count = keys.length;
    if (count > LEAVING_AT_ONCE_MAX) count = await this.#open.clear(span);
    else this.#leaving.push(...keys);
    this.#noteDeleted(span);
    if (this.#leaving.length > LEAVING_MAX) await this.commit([]);
    return count;
  }

  #noteDeleted({ from, until }: KeySpan): void {
    // One span per kind and topic: a wider one costs little more, because most of what lies between was deleted before.
    const name = from.toString('hex', 0, 5);
    const known = this.#deleted.get(name) ?? { from, until };
    this.#deleted.set(name, {
      from: Buffer.compare(known.from, from) < 0 ? known.from : from,
      until: Buffer.compare(known.until, until) > 0 ? known.until : until,
    });
  }

  async #answer<T>(span: KeySpan, limit: number, decode: (key: Buffer, value: Buffer) => T): Promise<readonly T[]> {
    const found: T[] = [];
    let bytes = 0;
    if (limit < 1) return found;
    for await (const piece of this.#open.scan({ ...span, limit })) {
      for (const { key, value } of piece) {
        found.push(reading(key, value, (bytesOf) => decode(key, bytesOf)));
        bytes += value?.length ?? 0;
      }
      if (bytes > ANSWER_BYTES) break;
    }
    return found;
  }
}

function closedLog(): MusterError {
  return new MusterError('unavailable', `${LOG_NAMES.what} is closed: open it again`, { reason: LOG_NAMES.closed });
}

function dedupeKey(topicId: number, window: number, id: string): Buffer {
  return keyOf('dedupe', { ids: [topicId], numbers: [window], text: id });
}

function delayedKey(topicId: number, dueMs: number): Buffer {
  return keyOf('delayed', { ids: [topicId], numbers: [dueMs] });
}
