import { MusterError } from '../../kit/errors.js';
import { FieldWriter, varintBytes } from '../../rpc/framing.js';
import { assertKnown } from './options.js';

/** A message to publish. */
export interface OutgoingMessage {
  /** Text is sent as UTF-8. */
  readonly payload: Uint8Array | string;
  readonly attributes?: Readonly<Record<string, string>>;
  /** Messages of one key are delivered in order and one at a time by `ordered` subscriptions. At most 1,024 bytes. */
  readonly key?: string;
  /** A second message with this id within the topic's dedupe window is not stored. At most 128 bytes. */
  readonly dedupeId?: string;
  /** The message enters the topic only after this time, milliseconds. At most 30 days. */
  readonly deliverAfterMs?: number;
}

/** What may be published: a message, or only its payload. */
export type Content = OutgoingMessage | Uint8Array | string;

/** Of one batch, encoded, and so of one message. The queue's own bound. */
export const BATCH_BYTES_MAX = 1024 * 1024;
/** Of one batch. The queue's own bound. */
export const BATCH_MESSAGES_MAX = 10_000;
/** What a batch is besides its messages, at most. */
export const BATCH_FRAME_BYTES = 64;
const DEDUPE_ID_BYTES_MAX = 128;
const KEY_BYTES_MAX = 1024;
/** Of a wrong value, in the error, characters. */
const SHOWN_MAX = 60;
const DELIVER_AFTER_MAX_MS = 30 * 86_400_000;

/** Field numbers of Message, and of the entries of its map of attributes, in tags of length-delimited fields. */
const TAG = { payload: 0x0a, attributes: 0x12, key: 0x1a, dedupeId: 0x22, deliverAfter: 0x2a } as const;
const ENTRY_KEY = 0x0a;
const ENTRY_VALUE = 0x12;
/** Fields of Duration, both numbers. */
const SECONDS = 0x08;
const NANOS = 0x10;
/** `repeated Message messages = 1` of a batch. */
const MESSAGES = 0x0a;

const NANOS_PER_MS = 1_000_000;
const FIELDS: ReadonlySet<string> = new Set<keyof OutgoingMessage>([
  'payload',
  'attributes',
  'key',
  'dedupeId',
  'deliverAfterMs',
]);

/** @throws invalid for what is no message: programs that are not type-checked call this too */
export function asMessage(content: Content): OutgoingMessage {
  if (typeof content === 'string' || content instanceof Uint8Array) return { payload: content };
  if (isObject(content)) {
    // One without is told of that first.
    if (Object.hasOwn(content, 'payload')) assertKnown('a message to publish', content, FIELDS);
    return content;
  }
  throw notValid('message', content, 'give text, bytes (a Buffer or Uint8Array), or an object with a payload');
}

/** A message that waits to be encoded: what its owner does to the object meanwhile changes nothing of it. */
export function settledCopy(message: OutgoingMessage): OutgoingMessage {
  return message.attributes === undefined ? { ...message } : { ...message, attributes: { ...message.attributes } };
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function notValid(field: string, value: unknown, need: string): MusterError {
  const what = typeof value === 'object' && value !== null ? Object.prototype.toString.call(value) : String(value);
  return new MusterError('invalid', `the ${field} of a message to publish is ${what.slice(0, SHOWN_MAX)}: ${need}`, {
    fields: [{ field, description: need }],
  });
}

function lengthOf(value: Uint8Array | string): number {
  return typeof value === 'string' ? Buffer.byteLength(value) : value.length;
}

/** A length-delimited field with a tag of one byte; nothing at all when it is empty, as proto3 has it. */
function fieldBytes(length: number): number {
  return length === 0 ? 0 : 1 + varintBytes(length) + length;
}

function entryBytes(key: string, value: string): number {
  return fieldBytes(Buffer.byteLength(key)) + fieldBytes(Buffer.byteLength(value));
}

function durationOf(ms: number): { readonly seconds: number; readonly nanos: number; readonly bytes: number } {
  const seconds = Math.floor(ms / 1000);
  const nanos = Math.round((ms - seconds * 1000) * NANOS_PER_MS);
  const bytes = (seconds === 0 ? 0 : 1 + varintBytes(seconds)) + (nanos === 0 ? 0 : 1 + varintBytes(nanos));
  return { seconds, nanos, bytes };
}

/** Whether the message waits before it enters its topic. */
export function isDelayed({ deliverAfterMs = 0 }: OutgoingMessage): boolean {
  return deliverAfterMs > 0;
}

/**
 * Bytes of the encoded message, without what goes before it in a batch.
 * @throws invalid, naming the field, for a message no batch can hold: a queue would refuse the whole batch for it
 */
export function encodedBytes(message: OutgoingMessage): number {
  const { payload, attributes, key, dedupeId } = message;
  let bytes = fieldBytes(payloadBytes(payload));
  if (attributes !== undefined) bytes += attributesBytes(attributes);
  if (key !== undefined) bytes += fieldBytes(checkedLength('key', key, KEY_BYTES_MAX));
  if (dedupeId !== undefined) bytes += fieldBytes(checkedLength('dedupeId', dedupeId, DEDUPE_ID_BYTES_MAX));
  if (message.deliverAfterMs !== undefined) bytes += delayBytes(message.deliverAfterMs);
  if (bytes + BATCH_FRAME_BYTES > BATCH_BYTES_MAX) throw tooLarge(bytes);
  return bytes;
}

/** Anything else with a length would be written as that many bytes of something: the types alone keep nobody from that. */
function payloadBytes(payload: unknown): number {
  if (typeof payload === 'string') return Buffer.byteLength(payload);
  if (payload instanceof Uint8Array) return payload.length;
  throw notValid('payload', payload, payloadNeed(payload));
}

function payloadNeed(payload: unknown): string {
  if (ArrayBuffer.isView(payload)) return 'give its bytes: new Uint8Array(x.buffer, x.byteOffset, x.byteLength)';
  if (payload instanceof ArrayBuffer) return 'give its bytes: new Uint8Array(x)';
  return 'give text, or bytes as a Buffer or Uint8Array; JSON.stringify() makes text of an object';
}

function attributesBytes(attributes: Readonly<Record<string, string>>): number {
  if (!isObject(attributes)) throw notValid('attributes', attributes, 'give an object whose values are text');
  let bytes = 0;
  for (const name of Object.keys(attributes)) {
    const value: unknown = attributes[name];
    // Whoever reads it into an object would change that object's prototype, or lose it.
    if (name === '__proto__')
      throw notValid(`attributes.${name}`, value, "choose another name, this one is JavaScript's own");
    if (typeof value !== 'string') throw notValid(`attributes.${name}`, value, 'give text');
    const entry = entryBytes(name, value);
    bytes += 1 + varintBytes(entry) + entry;
  }
  return bytes;
}

/** Bytes of a message of so many encoded bytes as it stands in a batch. */
export function framedBytes(encoded: number): number {
  return 1 + varintBytes(encoded) + encoded;
}

function delayBytes(ms: number): number {
  if (!Number.isFinite(ms) || ms < 0 || ms > DELIVER_AFTER_MAX_MS) {
    throw new MusterError('invalid', `deliverAfterMs is ${ms}: give 0 to ${DELIVER_AFTER_MAX_MS} (30 days)`, {
      fields: [{ field: 'deliverAfterMs', description: 'must be from 0 to 30 days' }],
    });
  }
  return ms === 0 ? 0 : fieldBytes(durationOf(ms).bytes);
}

function checkedLength(field: string, text: unknown, bytesMax: number): number {
  if (typeof text !== 'string') throw notValid(field, text, 'give text');
  const bytes = Buffer.byteLength(text);
  if (bytes <= bytesMax) return bytes;
  throw new MusterError('invalid', `a ${field} of ${bytes} bytes is too long: use at most ${bytesMax}`, {
    fields: [{ field, description: `must be at most ${bytesMax} bytes` }],
  });
}

function tooLarge(bytes: number): MusterError {
  return new MusterError(
    'invalid',
    `a message of ${bytes} bytes is too large: at most ${BATCH_BYTES_MAX - BATCH_FRAME_BYTES} fit, with attributes; store the content elsewhere and publish where it is`,
    { reason: 'TOO_LARGE' },
  );
}

/** Writes encoded messages one after another into bytes that were made large enough. */
export class MessageWriter extends FieldWriter {
  /** One message of a batch; `encoded` is what encodedBytes said of it. */
  message(message: OutgoingMessage, encoded: number): void {
    this.tagged(MESSAGES, encoded);
    this.#field(TAG.payload, message.payload);
    const { attributes, key, dedupeId, deliverAfterMs } = message;
    if (attributes !== undefined) {
      for (const name of Object.keys(attributes)) this.#entry(name, attributes[name] ?? '');
    }
    if (key !== undefined) this.#field(TAG.key, key);
    if (dedupeId !== undefined) this.#field(TAG.dedupeId, dedupeId);
    if (deliverAfterMs !== undefined && deliverAfterMs > 0) this.#duration(deliverAfterMs);
  }

  /** A tag of one byte and a number. */
  tagged(tag: number, value: number): void {
    this.bytes[this.at] = tag;
    this.at += 1;
    this.varint(value);
  }

  #field(tag: number, value: Uint8Array | string): void {
    const length = lengthOf(value);
    if (length === 0) return;
    this.tagged(tag, length);
    if (typeof value === 'string') this.bytes.write(value, this.at);
    else this.bytes.set(value, this.at);
    this.at += length;
  }

  #entry(key: string, value: string): void {
    this.tagged(TAG.attributes, entryBytes(key, value));
    this.#field(ENTRY_KEY, key);
    this.#field(ENTRY_VALUE, value);
  }

  #duration(ms: number): void {
    const { seconds, nanos, bytes } = durationOf(ms);
    if (bytes === 0) return;
    this.tagged(TAG.deliverAfter, bytes);
    if (seconds > 0) this.tagged(SECONDS, seconds);
    if (nanos > 0) this.tagged(NANOS, nanos);
  }
}
