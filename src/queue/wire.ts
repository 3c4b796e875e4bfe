/** The queue's words and its contract's into each other. */
import {
  type DeadLetter as DeadLetterMessage,
  Message,
  PublishStreamResponse,
  SubscribeResponse,
  type Backoff,
  type Credit as CreditMessage,
  type DeliveryRange as DeliveryRangeMessage,
  type OnFull,
  type Position as PositionMessage,
  type PublishAck,
  type PublishMessagesResponse,
  type SettleFrame,
  type SubscribeOpened,
  type Subscription as SubscriptionMessage,
  type Topic as TopicMessage,
} from '../../generated/muster/v1/queue.js';
import { MusterError } from '../kit/errors.js';
import { FieldReader, malformed, VARINT } from '../rpc/framing.js';
import { statusOf } from '../rpc/status.js';
import { fromDate, fromDuration, toDate, toDuration } from '../wire/time.js';
import type { Published } from './batch-builder.js';
import type { SettledNotice } from './consumer.js';
import type { DeadLetterRecord, FullPolicy, Position, SubscriptionRecord, TopicRecord } from './log/port.js';
import { BatchScanner, type EncodedBatch } from './publication.js';
import type { Outcome } from './publisher.js';
import type { Credit, DeliveryRange, SettleOrder } from './subscription/types.js';
import { subscriptionSettings, type WantedSettings } from './subscription/settings.js';
import { topicSettings } from './topic-settings.js';

const CREDIT_DEFAULT: Credit = { maxMessages: 1000, maxBytes: 4 * 1024 * 1024 };
const CREDIT_MAX: Credit = { maxMessages: 65_536, maxBytes: 64 * 1024 * 1024 };
const REASON_BYTES_MAX = 1024;

/** PublishMessagesRequest, its messages as they came. @throws invalid */
export function readPublishRequest(bytes: Buffer): { readonly topic: string; readonly encoded: EncodedBatch } {
  const reader = new FieldReader(bytes);
  const scanner = new BatchScanner();
  let topic = '';
  for (let start = reader.at; reader.next(); start = reader.at) {
    if (reader.field === 1) scanner.take(reader, start);
    else if (reader.field === 2) topic = reader.text();
    else reader.skip();
  }
  return { topic, encoded: scanner.finish(bytes) };
}

/** One frame of a publishing stream. */
export type PublishFrame =
  | { readonly kind: 'open'; readonly topic: string; readonly producer: string }
  | { readonly kind: 'batch'; readonly batch: number; readonly encoded: EncodedBatch | MusterError }
  | { readonly kind: 'none' };

/** PublishStreamRequest, its messages as they came. A batch that is not what it should be is told as such. @throws invalid */
export function readPublishFrame(bytes: Buffer): PublishFrame {
  const reader = new FieldReader(bytes);
  let frame: PublishFrame = { kind: 'none' };
  while (reader.next()) {
    if (reader.field === 1) frame = readOpen(reader);
    else if (reader.field === 2) frame = readBatch(reader);
    else reader.skip();
  }
  return frame;
}

function readOpen(outer: FieldReader): PublishFrame {
  const end = outer.enter();
  const reader = new FieldReader(outer.bytes, outer.at, end);
  outer.at = end;
  let topic = '';
  let producer = '';
  while (reader.next()) {
    if (reader.field === 1) topic = reader.text();
    else if (reader.field === 2) producer = reader.text();
    else reader.skip();
  }
  return { kind: 'open', topic, producer };
}

function readBatch(outer: FieldReader): PublishFrame {
  const end = outer.enter();
  const reader = new FieldReader(outer.bytes, outer.at, end);
  outer.at = end;
  return { kind: 'batch', ...scanBatch(reader) };
}

function scanBatch(reader: FieldReader): { batch: number; encoded: EncodedBatch | MusterError } {
  const scanner = new BatchScanner();
  let batch = 0;
  let failure: MusterError | undefined;
  for (let start = reader.at; reader.next(); start = reader.at) {
    if (reader.field === 2 && reader.wireType === VARINT) batch = reader.varint();
    else if (reader.field !== 1 || failure) reader.skip();
    else failure = takeMessage(scanner, reader, start);
  }
  if (batch === 0) malformed('a batch has no number (batch), which rises from 1');
  return { batch, encoded: failure ?? finished(scanner, reader.bytes) };
}

/** The number of a batch is read even behind a message that is not one, so that the refusal can name it. */
function takeMessage(scanner: BatchScanner, reader: FieldReader, start: number): MusterError | undefined {
  const at = reader.at;
  const end = reader.enter();
  reader.at = at;
  try {
    scanner.take(reader, start);
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
    reader.at = end;
    return error;
  }
  return undefined;
}

function finished(scanner: BatchScanner, bytes: Buffer): EncodedBatch | MusterError {
  try {
    return scanner.finish(bytes);
  } catch (error) {
    if (error instanceof MusterError) return error;
    throw error;
  }
}

export function toPublishResponse(published: Published): PublishMessagesResponse {
  const { firstSequence, count, duplicates, delayed } = published;
  return { firstSequence, count, delayed, duplicates: duplicates.map((one) => ({ ...one })) };
}

export function openedFrame(lastBatch: number): PublishStreamResponse {
  return PublishStreamResponse.fromPartial({ frame: { $case: 'opened', value: { lastBatch } } });
}

export function acksFrame(outcomes: readonly Outcome[]): PublishStreamResponse {
  return { frame: { $case: 'acks', value: { acks: outcomes.map(toAck) } } };
}

function toAck(outcome: Outcome): PublishAck {
  const { batch } = outcome;
  if ('refused' in outcome) {
    const { code, reason = '', message, retryAfterMs } = outcome.refused;
    const retryAfter = retryAfterMs === undefined ? undefined : toDuration(retryAfterMs);
    const refusal = { code: statusOf(code), reason, message, retryAfter };
    return { batch, firstSequence: 0, count: 0, duplicates: [], delayed: 0, repeatedBatch: false, refusal };
  }
  const { published } = outcome;
  return { batch, ...toPublishResponse(published), repeatedBatch: published.repeated, refusal: undefined };
}

/** @throws invalid */
export function fromTopic(topic: TopicMessage): ReturnType<typeof topicSettings> {
  return topicSettings({
    minRetentionMs: fromDuration(topic.minRetention),
    maxAgeMs: fromDuration(topic.maxAge),
    maxBytes: topic.maxBytes,
    onFull: fromOnFull(topic.onFull),
    dedupeWindowMs: fromDuration(topic.dedupeWindow),
    publishers: [...topic.publishers],
    subscribers: [...topic.subscribers],
  });
}

function fromOnFull(policy: OnFull): FullPolicy | undefined {
  switch (policy) {
    case 'ON_FULL_UNSPECIFIED':
      return undefined;
    case 'ON_FULL_REJECT':
      return 'REJECT';
    case 'ON_FULL_DROP_OLDEST':
      return 'DROP_OLDEST';
    case 'UNRECOGNIZED':
      throw new MusterError('invalid', 'on_full must be ON_FULL_REJECT or ON_FULL_DROP_OLDEST', {
        fields: [{ field: 'topic.on_full', description: 'unknown value' }],
      });
  }
}

export function toTopic({ name, settings, revision, createdMs }: TopicRecord): TopicMessage {
  return {
    name,
    minRetention: toDuration(settings.minRetentionMs),
    maxAge: toDuration(settings.maxAgeMs),
    maxBytes: settings.maxBytes,
    onFull: `ON_FULL_${settings.onFull}`,
    dedupeWindow: toDuration(settings.dedupeWindowMs),
    publishers: [...settings.publishers],
    subscribers: [...settings.subscribers],
    revision,
    created: toDate(createdMs),
  };
}

/** Undefined where nothing is set. @throws invalid */
export function fromPosition(position: PositionMessage | undefined, field: string): Position | undefined {
  const at = position?.at;
  if (!at) return undefined;
  switch (at.$case) {
    case 'earliest':
      return { at: 'earliest' };
    case 'latest':
      return { at: 'latest' };
    case 'sequence':
      return { at: 'sequence', sequence: at.value };
    case 'time':
      return { at: 'time', timeMs: timeOf(at.value, field) };
  }
}

function timeOf(date: Date, field: string): number {
  const ms = fromDate(date);
  if (ms !== undefined) return ms;
  throw new MusterError('invalid', `${field}.time is not a time`, {
    fields: [{ field: `${field}.time`, description: 'not a time' }],
  });
}

function toPosition(position: Position): PositionMessage {
  switch (position.at) {
    case 'earliest':
      return { at: { $case: 'earliest', value: {} } };
    case 'latest':
      return { at: { $case: 'latest', value: {} } };
    case 'sequence':
      return { at: { $case: 'sequence', value: position.sequence } };
    case 'time':
      return { at: { $case: 'time', value: new Date(position.timeMs) } };
  }
}

/** @throws invalid */
export function fromSubscription(subscription: SubscriptionMessage): ReturnType<typeof subscriptionSettings> {
  return subscriptionSettings({
    start: fromPosition(subscription.start, 'subscription.start'),
    leaseMs: fromDuration(subscription.lease),
    maxAttempts: subscription.maxAttempts,
    backoff: fromBackoff(subscription.backoff),
    ordered: subscription.ordered,
    expireAfterIdleMs: fromDuration(subscription.expireAfterIdle),
    paused: subscription.paused,
  });
}

function fromBackoff(backoff: Backoff | undefined): WantedSettings['backoff'] {
  if (!backoff) return undefined;
  return {
    initialMs: fromDuration(backoff.initial),
    maxMs: fromDuration(backoff.max),
    multiplier: backoff.multiplier === 0 ? undefined : backoff.multiplier,
  };
}

export function toSubscription(topic: string, record: SubscriptionRecord): SubscriptionMessage {
  const { name, settings, revision, createdMs } = record;
  return {
    topic,
    name,
    start: toPosition(settings.start),
    lease: toDuration(settings.leaseMs),
    maxAttempts: settings.maxAttempts,
    backoff: {
      initial: toDuration(settings.backoff.initialMs),
      max: toDuration(settings.backoff.maxMs),
      multiplier: settings.backoff.multiplier,
    },
    ordered: settings.ordered,
    expireAfterIdle: toDuration(settings.expireAfterIdleMs),
    paused: settings.paused,
    revision,
    created: toDate(createdMs),
  };
}

/** What was asked for when a stream opens: 0 or nothing stands for the defaults. */
export function fromFirstCredit(credit: CreditMessage | undefined): Credit {
  return {
    maxMessages: Math.min(credit?.maxMessages || CREDIT_DEFAULT.maxMessages, CREDIT_MAX.maxMessages),
    maxBytes: Math.min(credit?.maxBytes || CREDIT_DEFAULT.maxBytes, CREDIT_MAX.maxBytes),
  };
}

/** A change of credit: 0 messages pause; 0 bytes leave the bytes as they are. */
export function fromCredit(credit: CreditMessage, before: Credit): Credit {
  return {
    maxMessages: Math.min(credit.maxMessages, CREDIT_MAX.maxMessages),
    maxBytes: credit.maxBytes === 0 ? before.maxBytes : Math.min(credit.maxBytes, CREDIT_MAX.maxBytes),
  };
}

export function toCredit({ maxMessages, maxBytes }: Credit): CreditMessage {
  return { maxMessages, maxBytes };
}

function fromRange(range: DeliveryRangeMessage | undefined): DeliveryRange {
  if (!range) throw new MusterError('invalid', 'a settle frame names no deliveries: set `deliveries`');
  return { first: range.first, last: range.last };
}

/** What is kept of the reason of a nack: whole characters. */
export function cutReason(reason: string): string {
  const bytes = Buffer.from(reason, 'utf8');
  if (bytes.length <= REASON_BYTES_MAX) return reason;
  return bytes.toString('utf8', 0, REASON_BYTES_MAX).replace(/\uFFFD+$/u, '');
}

/** @throws invalid */
export function fromSettle(frame: SettleFrame): SettleOrder {
  return {
    acks: frame.acks.map(fromRange),
    nacks: frame.nacks.map(({ deliveries, delay, deadLetter, reason }) => ({
      range: fromRange(deliveries),
      delayMs: fromDuration(delay),
      deadLetter,
      reason: cutReason(reason),
    })),
    extends: frame.extends.map(({ deliveries, lease }) => ({
      range: fromRange(deliveries),
      leaseMs: fromDuration(lease),
    })),
  };
}

function encoded(response: SubscribeResponse): Buffer {
  return Buffer.from(SubscribeResponse.encode(response).finish());
}

export function subscribeOpenedFrame(opened: SubscribeOpened): Buffer {
  return encoded({ frame: { $case: 'opened', value: opened } });
}

export function settledFrame({ id, failures }: SettledNotice): Buffer {
  const value = { id, failures: failures.map(({ delivery, reason }) => ({ delivery, reason })) };
  return encoded({ frame: { $case: 'settled', value } });
}

export function drainingFrame(): Buffer {
  return encoded({ frame: { $case: 'draining', value: {} } });
}

/** Each of several encoded `messages` fields. */
export function splitMessages(messages: Buffer): readonly Buffer[] {
  const reader = new FieldReader(messages);
  const fields: Buffer[] = [];
  for (let start = reader.at; reader.next(); start = reader.at) {
    reader.skip();
    fields.push(messages.subarray(start, reader.at));
  }
  return fields;
}

/** The message in one encoded `messages` field. */
export function decodeMessage(field: Buffer): Message {
  const reader = new FieldReader(field);
  reader.next();
  return Message.decode(reader.value());
}

export function toDeadLetter(letter: DeadLetterRecord): DeadLetterMessage {
  return {
    sequence: letter.sequence,
    message: decodeMessage(letter.message),
    published: toDate(letter.publishedMs),
    died: toDate(letter.diedMs),
    attempts: letter.attempts,
    reason: letter.reason,
  };
}
