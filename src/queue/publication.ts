/** What publishers send, checked by walking over its framing: nothing is decoded, and the messages stay the bytes they are. */
import { isUtf8 } from 'node:buffer';
import { MusterError } from '../kit/errors.js';
import { FieldReader, LENGTH, malformed, VARINT } from '../rpc/framing.js';

export const BATCH_MESSAGES_MAX = 10_000;
export const BATCH_BYTES_MAX = 1024 * 1024;
const DEDUPE_ID_BYTES_MAX = 128;
const KEY_BYTES_MAX = 1024;
const DELAY_MAX_MS = 30 * 24 * 3600 * 1000;

/** Fields of Message. */
const PAYLOAD = 1;
const ATTRIBUTES = 2;
const KEY = 3;
const DEDUPE_ID = 4;
const DELIVER_AFTER = 5;

/** Where an encoded `messages` field lies in a batch that has messages with a wish of their own. */
export interface Placed {
  readonly start: number;
  readonly end: number;
  /** '' for none. */
  readonly dedupeId: string;
  /** 0: at once. */
  readonly delayMs: number;
}

/** A batch as it came. */
export interface EncodedBatch {
  /** `messages` fields one after another. */
  readonly messages: Buffer;
  readonly count: number;
  /** Each message, where any has a dedupe id or a delay; undefined: all are plain. */
  readonly placed: readonly Placed[] | undefined;
}

interface Wishes {
  dedupeId: string;
  delayMs: number;
}

/** Gathers the messages of one envelope while its fields are read. */
export class BatchScanner {
  readonly #pieces: Buffer[] = [];
  readonly #placed: Placed[] = [];
  readonly #wishes: Wishes = { dedupeId: '', delayMs: 0 };
  #special = false;
  #bytes = 0;
  #count = 0;
  /** Where the piece that is growing began in the envelope; -1: none. */
  #from = -1;
  #until = -1;

  /** Takes the `messages` field that `reader` stands at; its tag began at `start`. @throws invalid */
  take(reader: FieldReader, start: number): void {
    const end = reader.enter();
    checkMessage(reader, end, this.#wishes);
    reader.at = end;
    if (this.#until !== start) {
      this.#cut(reader.bytes);
      this.#from = start;
    }
    this.#until = end;
    this.#count += 1;
    this.#place(end - start);
  }

  #place(bytes: number): void {
    const { dedupeId, delayMs } = this.#wishes;
    this.#placed.push({ start: this.#bytes, end: this.#bytes + bytes, dedupeId, delayMs });
    this.#bytes += bytes;
    if (dedupeId === '' && delayMs === 0) return;
    this.#special = true;
    this.#wishes.dedupeId = '';
    this.#wishes.delayMs = 0;
  }

  #cut(bytes: Buffer): void {
    if (this.#from >= 0) this.#pieces.push(bytes.subarray(this.#from, this.#until));
    this.#from = -1;
  }

  /** @throws invalid when it is empty or too large */
  finish(bytes: Buffer): EncodedBatch {
    this.#cut(bytes);
    if (this.#count === 0) throw new MusterError('invalid', 'the batch has no messages: send at least one');
    if (this.#count > BATCH_MESSAGES_MAX) tooLarge(`${this.#count} messages`, `${BATCH_MESSAGES_MAX} messages`);
    if (this.#bytes > BATCH_BYTES_MAX) tooLarge(`${this.#bytes} bytes`, `${BATCH_BYTES_MAX} bytes`);
    const [only] = this.#pieces;
    return {
      messages: only && this.#pieces.length === 1 ? only : Buffer.concat(this.#pieces),
      count: this.#count,
      placed: this.#special ? this.#placed : undefined,
    };
  }
}

function tooLarge(is: string, limit: string): never {
  throw new MusterError(
    'invalid',
    `the batch has ${is}, and at most ${limit} go into one: send it in several, or send a reference to large data`,
    { reason: 'TOO_LARGE' },
  );
}

/**
 * Reads one message, which ends at `end`: whatever subscribers decode must be decodable.
 * @throws invalid
 */
function checkMessage(outer: FieldReader, end: number, wishes: Wishes): void {
  const reader = new FieldReader(outer.bytes, outer.at, end);
  while (reader.next()) {
    if (reader.field === PAYLOAD) reader.at = reader.enter();
    else checkField(reader, wishes);
  }
}

function checkField(reader: FieldReader, wishes: Wishes): void {
  switch (reader.field) {
    case ATTRIBUTES:
      checkAttribute(reader);
      return;
    case KEY:
      checkText(reader, 'key', KEY_BYTES_MAX);
      return;
    case DEDUPE_ID:
      wishes.dedupeId = checkText(reader, 'dedupe_id', DEDUPE_ID_BYTES_MAX).toString('utf8');
      return;
    case DELIVER_AFTER:
      wishes.delayMs = readDelayMs(reader);
      return;
    default:
      reader.skip();
  }
}

function checkText(reader: FieldReader, name: string, bytesMax: number): Buffer {
  const value = reader.value();
  if (!isUtf8(value)) malformed(`${name} is not UTF-8`);
  if (value.length > bytesMax) {
    throw new MusterError('invalid', `${name} of a message has ${value.length} bytes: at most ${bytesMax} are taken`, {
      fields: [{ field: `messages.${name}`, description: `at most ${bytesMax} bytes` }],
    });
  }
  return value;
}

/** An entry of the map: text to text. */
function checkAttribute(outer: FieldReader): void {
  const end = outer.enter();
  const reader = new FieldReader(outer.bytes, outer.at, end);
  while (reader.next()) {
    if (reader.field > 2) reader.skip();
    else if (!isUtf8(reader.value())) malformed('an attribute is not UTF-8');
  }
  outer.at = end;
}

/** A google.protobuf.Duration. A negative one, ten bytes long, is refused as a number that is too large. */
function readDelayMs(outer: FieldReader): number {
  const end = outer.enter();
  const reader = new FieldReader(outer.bytes, outer.at, end);
  const parts = [0, 0, 0];
  while (reader.next()) {
    if (reader.wireType === VARINT && reader.field <= 2) parts[reader.field] = reader.varint();
    else if (reader.wireType === LENGTH || reader.field > 2) reader.skip();
    else malformed('deliver_after is not a duration');
  }
  outer.at = end;
  const delayMs = (parts[1] ?? 0) * 1000 + Math.ceil((parts[2] ?? 0) / 1_000_000);
  if (delayMs > DELAY_MAX_MS) {
    throw new MusterError('invalid', 'deliver_after is longer than 30 days: publish the message later', {
      fields: [{ field: 'messages.deliver_after', description: 'at most 30 days' }],
    });
  }
  return delayMs;
}
