import type { Change, StoredBatch } from './log/port.js';
import type { EncodedBatch, Placed } from './publication.js';

/** Small batches that wait for the same group become one value of up to about this size: fewer values to write, read and delete. */
const MERGED_BYTES_MAX = 64 * 1024;

/** What became of a published batch. */
export interface Published {
  /** 0: nothing got a sequence now. */
  readonly firstSequence: number;
  readonly count: number;
  readonly duplicates: readonly Duplicate[];
  readonly delayed: number;
  /** It had been stored before. */
  readonly repeated: boolean;
}

export interface Duplicate {
  readonly index: number;
  /** 0: of a message that is delayed and has none yet. */
  readonly sequence: number;
}

/** Where a topic's next message goes. */
export interface Tail {
  readonly next: number;
  readonly offset: number;
}

interface Open {
  readonly firstSequence: number;
  readonly offset: number;
  readonly pieces: Buffer[];
  count: number;
  bytes: number;
}

export interface BuilderOptions {
  readonly topicId: number;
  readonly tail: Tail;
  readonly publishedMs: number;
  /** Of the delayed messages to come. */
  readonly nextDelayedNumber: number;
  /** The dedupe window that begins now is stored under. */
  readonly window: number;
  /** Sequences of dedupe ids that are known. */
  readonly known: Map<string, number>;
}

/** Gives the messages of one group their places in one topic. */
export class BatchBuilder {
  readonly #options: BuilderOptions;
  readonly #changes: Change[] = [];
  readonly #batches: StoredBatch[] = [];
  #open: Open | undefined;
  #next: number;
  #offset: number;
  #delayedNumber: number;
  #delayed = 0;

  constructor(options: BuilderOptions) {
    this.#options = options;
    this.#next = options.tail.next;
    this.#offset = options.tail.offset;
    this.#delayedNumber = options.nextDelayedNumber;
  }

  get tail(): Tail {
    return { next: this.#next, offset: this.#offset };
  }

  get nextDelayedNumber(): number {
    return this.#delayedNumber;
  }

  /** Messages that were stored for later. */
  get delayed(): number {
    return this.#delayed;
  }

  /** Takes a published batch as a whole. */
  add({ messages, count, placed }: EncodedBatch): Published {
    if (placed) return this.#addEach(messages, placed);
    return { ...this.#append(messages, count), duplicates: [], delayed: 0, repeated: false };
  }

  /** Takes messages that were delayed until now. */
  addDue(messages: readonly Buffer[]): void {
    for (const message of messages) this.#append(message, 1);
  }

  /** The batches and all else to store. */
  finish(): { readonly batches: readonly StoredBatch[]; readonly changes: readonly Change[] } {
    this.#close();
    const { topicId } = this.#options;
    const puts = this.#batches.map((batch): Change => ({ kind: 'batch', topicId, batch }));
    return { batches: this.#batches, changes: [...puts, ...this.#changes] };
  }

  #addEach(messages: Buffer, placed: readonly Placed[]): Published {
    const duplicates: Duplicate[] = [];
    const first = this.#next;
    let delayed = 0;
    placed.forEach((place, index) => {
      const known = place.dedupeId === '' ? undefined : this.#options.known.get(place.dedupeId);
      if (known !== undefined) {
        duplicates.push({ index, sequence: known });
        return;
      }
      const message = messages.subarray(place.start, place.end);
      if (place.delayMs > 0) delayed += 1;
      const sequence = place.delayMs > 0 ? this.#delay(message, place.delayMs) : this.#append(message, 1).firstSequence;
      if (place.dedupeId !== '') this.#remember(place.dedupeId, sequence);
    });
    const count = this.#next - first;
    return { firstSequence: count > 0 ? first : 0, count, duplicates, delayed, repeated: false };
  }

  #append(messages: Buffer, count: number): { firstSequence: number; count: number } {
    if (this.#open && this.#open.bytes + messages.length > MERGED_BYTES_MAX) this.#close();
    this.#open ??= { firstSequence: this.#next, offset: this.#offset, pieces: [], count: 0, bytes: 0 };
    this.#open.pieces.push(messages);
    this.#open.count += count;
    this.#open.bytes += messages.length;
    const firstSequence = this.#next;
    this.#next += count;
    this.#offset += messages.length;
    return { firstSequence, count };
  }

  #delay(message: Buffer, delayMs: number): number {
    const { topicId, publishedMs } = this.#options;
    const number = this.#delayedNumber;
    this.#delayedNumber += 1;
    this.#delayed += 1;
    this.#changes.push({ kind: 'delayed', topicId, dueMs: publishedMs + delayMs, number, message });
    return 0;
  }

  #remember(id: string, sequence: number): void {
    const { topicId, window, known } = this.#options;
    known.set(id, sequence);
    this.#changes.push({ kind: 'dedupe', topicId, window, id, sequence });
  }

  #close(): void {
    const open = this.#open;
    this.#open = undefined;
    if (!open) return;
    const [only] = open.pieces;
    const messages = only && open.pieces.length === 1 ? only : Buffer.concat(open.pieces, open.bytes);
    const { firstSequence, offset, count } = open;
    this.#batches.push({ firstSequence, offset, count, publishedMs: this.#options.publishedMs, messages });
  }
}
