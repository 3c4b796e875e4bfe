/** The values of the queue's log, specified in docs/queue-format.md. Every reader throws FormatError for bytes that were never written. */
import { FormatError, PackedReader, PackedWriter, readU64, writeU64 } from './bytes.js';
import type {
  CursorRecord,
  DeadLetterRecord,
  DelayedRecord,
  ProducerAck,
  ProducerRecord,
  RetryRecord,
  SequenceRange,
  StoredBatch,
  SubscriptionRecord,
  TopicRecord,
} from './port.js';

const COUNT_BYTES = 4;
const BATCH_HEADER_BYTES = COUNT_BYTES + 8 + 8;

/** The header; the messages follow it as they are. */
export function encodeBatchHeader({ count, publishedMs, offset }: StoredBatch): Buffer {
  const header = Buffer.allocUnsafe(BATCH_HEADER_BYTES);
  header.writeUInt32BE(count, 0);
  writeU64(header, publishedMs, COUNT_BYTES);
  writeU64(header, offset, COUNT_BYTES + 8);
  return header;
}

/** The messages are not copied. */
export function decodeBatch(lastSequence: number, value: Buffer): StoredBatch {
  if (value.length < BATCH_HEADER_BYTES) throw new FormatError('it is too short');
  const count = value.readUInt32BE(0);
  if (count === 0 || count > lastSequence + 1) throw new FormatError('its count does not fit its key');
  return {
    firstSequence: lastSequence - count + 1,
    count,
    publishedMs: readU64(value, COUNT_BYTES),
    offset: readU64(value, COUNT_BYTES + 8),
    messages: value.subarray(BATCH_HEADER_BYTES),
  };
}

/** Where a topic begins and ends, and what ids it gives next. Written with every commit that moves one of them. */
export interface Bounds {
  readonly head: number;
  readonly headOffset: number;
  readonly next: number;
  readonly nextOffset: number;
  readonly newestMs: number;
  readonly nextSubscriptionId: number;
}

/** Of a topic that never held anything. Its first message gets sequence 1. */
export const EMPTY_BOUNDS: Bounds = {
  head: 1,
  headOffset: 0,
  next: 1,
  nextOffset: 0,
  newestMs: 0,
  nextSubscriptionId: 1,
};

export function encodeBounds(bounds: Bounds): Buffer {
  return new PackedWriter()
    .number(bounds.head)
    .number(bounds.headOffset)
    .number(bounds.next - bounds.head)
    .number(bounds.nextOffset - bounds.headOffset)
    .number(bounds.newestMs)
    .number(bounds.nextSubscriptionId)
    .done();
}

/** Reads a whole value. */
function whole<T>(value: Buffer, read: (reader: PackedReader) => T): T {
  const reader = new PackedReader(value);
  const result = read(reader);
  reader.end();
  return result;
}

function sum(a: number, b: number): number {
  if (!Number.isSafeInteger(a + b)) throw new FormatError('a number is too large');
  return a + b;
}

export function decodeBounds(value: Buffer): Bounds {
  return whole(value, (reader) => {
    const head = reader.number();
    const headOffset = reader.number();
    return {
      head,
      headOffset,
      next: sum(head, reader.number()),
      nextOffset: sum(headOffset, reader.number()),
      newestMs: reader.number(),
      nextSubscriptionId: reader.number(),
    };
  });
}

/** Floor, dropped, then for each settled range the gap before it and its length. */
export function encodeCursor({ floor, settled, dropped }: CursorRecord): Buffer {
  const writer = new PackedWriter().number(floor).number(dropped).number(settled.length);
  let at = floor;
  for (const { from, until } of settled) {
    writer.number(from - at).number(until - from);
    at = until;
  }
  return writer.done();
}

export function decodeCursor(value: Buffer): CursorRecord {
  return whole(value, (reader) => {
    const floor = reader.number();
    const dropped = reader.number();
    const settled: SequenceRange[] = [];
    let at = floor;
    for (let left = reader.number(); left > 0; left -= 1) {
      const gap = reader.number();
      const length = reader.number();
      if (gap === 0 || length === 0) throw new FormatError('its ranges touch');
      const from = sum(at, gap);
      at = sum(from, length);
      settled.push({ from, until: at });
    }
    return { floor, settled, dropped };
  });
}

export function encodeRetry({ attempts, notBeforeMs }: RetryRecord): Buffer {
  return new PackedWriter().number(attempts).number(notBeforeMs).done();
}

export function decodeRetry(value: Buffer): RetryRecord {
  return whole(value, (reader) => ({ attempts: reader.number(), notBeforeMs: reader.number() }));
}

/** The header; the message follows it as it is. */
export function encodeLetterHeader(letter: DeadLetterRecord): Buffer {
  return new PackedWriter()
    .number(letter.replayed ? 1 : 0)
    .number(letter.publishedMs)
    .number(letter.diedMs)
    .number(letter.attempts)
    .text(letter.reason)
    .done();
}

export function decodeLetter(sequence: number, value: Buffer): DeadLetterRecord {
  const reader = new PackedReader(value);
  return {
    sequence,
    replayed: reader.flag(),
    publishedMs: reader.number(),
    diedMs: reader.number(),
    attempts: reader.number(),
    reason: reader.text(),
    message: reader.rest(),
  };
}

/** Its key says all but the message. */
export function decodeDelayed([dueMs = 0, number = 0]: readonly number[], message: Buffer): DelayedRecord {
  return { dueMs, number, message };
}

/** How many delayed messages a topic has, and the number of the next one. */
export interface DelayedSummary {
  readonly count: number;
  readonly nextNumber: number;
}

export const NO_DELAYED: DelayedSummary = { count: 0, nextNumber: 0 };

export function encodeDelayedSummary({ count, nextNumber }: DelayedSummary): Buffer {
  return new PackedWriter().number(count).number(nextNumber).done();
}

export function decodeDelayedSummary(value: Buffer): DelayedSummary {
  return whole(value, (reader) => ({ count: reader.number(), nextNumber: reader.number() }));
}

/** Acknowledgements, the newest last: batch and first sequence as differences from the one before. */
export function encodeProducer({ seenMs, acks }: ProducerRecord): Buffer {
  const writer = new PackedWriter().number(seenMs).number(acks.length);
  let before: ProducerAck = { batch: 0, firstSequence: 0, count: 0 };
  for (const ack of acks) {
    // A batch of duplicates alone has no sequence: 0 says so, and all others are one higher.
    writer.number(ack.batch - before.batch);
    writer.number(ack.firstSequence === 0 ? 0 : ack.firstSequence + 1 - before.firstSequence);
    writer.number(ack.count);
    before = ack.firstSequence === 0 ? { ...before, batch: ack.batch } : ack;
  }
  return writer.done();
}

export function decodeProducer(producer: string, value: Buffer): ProducerRecord {
  return whole(value, (reader) => {
    const seenMs = reader.number();
    const acks: ProducerAck[] = [];
    let batch = 0;
    let newest = 0;
    for (let left = reader.number(); left > 0; left -= 1) {
      batch = sum(batch, reader.number());
      const step = reader.number();
      const firstSequence = step === 0 ? 0 : sum(newest, step - 1);
      if (step > 0) newest = firstSequence;
      acks.push({ batch, firstSequence, count: reader.number() });
    }
    return { producer, acks, seenMs };
  });
}

/** One number alone: a count, an id, a sequence. */
export function encodeNumber(value: number): Buffer {
  return new PackedWriter().number(value).done();
}

export function decodeNumber(value: Buffer): number {
  return whole(value, (reader) => reader.number());
}

export function encodeJson(record: TopicRecord | SubscriptionRecord): Buffer {
  return Buffer.from(JSON.stringify(record));
}

/** What a JSON value holds, as far as anybody may rely on it. */
type Loose<T> = Partial<T> | null;

function decodeJson(value: Buffer): unknown {
  try {
    return JSON.parse(value.toString());
  } catch {
    throw new FormatError('it is not JSON');
  }
}

/** Its checksum holds, so that it is what some Muster wrote; what is checked is that it belongs to its key. */
export function decodeTopic(id: number, value: Buffer): TopicRecord {
  const found = decodeJson(value) as Loose<TopicRecord>;
  if (found?.id !== id || typeof found.name !== 'string') throw new FormatError('it does not belong to its key');
  return found as TopicRecord;
}

export function decodeSubscription(topicId: number, id: number, value: Buffer): SubscriptionRecord {
  const found = decodeJson(value) as Loose<SubscriptionRecord>;
  if (found?.topicId !== topicId || found.id !== id || typeof found.name !== 'string') {
    throw new FormatError('it does not belong to its key');
  }
  return found as SubscriptionRecord;
}
