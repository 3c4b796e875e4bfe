import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { Message, PublishMessagesRequest, PublishStreamRequest } from '../../../generated/muster/v1/queue.js';
import { MusterError } from '../../../src/kit/errors.js';
import { BATCH_BYTES_MAX, BATCH_MESSAGES_MAX } from '../../../src/queue/publication.js';
import { readPublishFrame, readPublishRequest } from '../../../src/queue/wire.js';
import { encoded, fieldsOf, message, payloads, type MessageFields } from '../../support/queue-parts.js';

const DAY_S = 24 * 3600;

const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const delay = fc.record({ seconds: fc.nat(30 * DAY_S - 1), nanos: fc.nat(999_999_999) });
const anyMessage: fc.Arbitrary<Message> = fc
  .record(
    {
      payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      // Not the prototype's name, which a generated decoder of JavaScript takes for no attribute.
      attributes: fc.dictionary(
        text.filter((name) => name !== '__proto__'),
        text,
        { maxKeys: 4 },
      ),
      key: text,
      dedupeId: text,
      deliverAfter: delay,
    },
    { requiredKeys: [] },
  )
  .map((fields) => Message.fromPartial(fields));
const anyMessages = fc.array(anyMessage, { minLength: 1, maxLength: 20 });

function request(messages: readonly Message[], topic = 'orders'): Buffer {
  return Buffer.from(PublishMessagesRequest.encode({ messages: [...messages], topic }).finish());
}

function frame(messages: readonly Message[], batch: number): Buffer {
  const value = { $case: 'batch' as const, value: { messages: [...messages], batch } };
  return Buffer.from(PublishStreamRequest.encode({ frame: value }).finish());
}

/** A request whose `messages` fields are these bytes. */
function withMessages(...messages: readonly Uint8Array[]): Buffer {
  const writer = new BinaryWriter();
  for (const one of messages) writer.tag(1, WireType.LengthDelimited).bytes(one);
  return Buffer.from(writer.finish());
}

/** The same as a batch of a stream; its number first, or last. */
function frameWith(batch: number, numberFirst: boolean, ...messages: readonly Uint8Array[]): Buffer {
  const number = new BinaryWriter().tag(2, WireType.Varint).uint64(batch).finish();
  const parts = numberFirst ? [number, withMessages(...messages)] : [withMessages(...messages), number];
  return Buffer.from(new BinaryWriter().tag(2, WireType.LengthDelimited).bytes(Buffer.concat(parts)).finish());
}

function delayMsOf({ deliverAfter }: Message): number {
  return deliverAfter === undefined ? 0 : deliverAfter.seconds * 1000 + Math.ceil(deliverAfter.nanos / 1e6);
}

function assertPlaced(sent: readonly Message[], { messages, count, placed }: ReturnType<typeof encoded>): void {
  assert.equal(count, sent.length);
  assert.deepEqual(PublishMessagesRequest.decode(messages).messages, sent);
  const special = sent.some((one) => one.dedupeId !== '' || delayMsOf(one) > 0);
  assert.equal(placed !== undefined, special);
  placed?.forEach((place, index) => {
    const one = sent[index];
    assert.ok(one);
    assert.equal(place.dedupeId, one.dedupeId);
    assert.equal(place.delayMs, delayMsOf(one));
    assert.deepEqual(PublishMessagesRequest.decode(messages.subarray(place.start, place.end)).messages, [one]);
  });
}

/** What a refused batch is told. */
function refusal(bytes: Buffer): MusterError {
  try {
    readPublishRequest(bytes);
  } catch (error) {
    assert.ok(error instanceof MusterError, `not a failure on purpose: ${String(error)}`);
    assert.equal(error.code, 'invalid');
    return error;
  }
  throw new Error('it was taken, and was meant to be refused');
}

/** What a refused message is told, alone in its batch. */
function refusalOf(fields: MessageFields): MusterError {
  return refusal(fieldsOf(fields));
}

function raw(write: (writer: BinaryWriter) => BinaryWriter): Uint8Array {
  return write(new BinaryWriter()).finish();
}

describe('a batch that is published', () => {
  it('keeps any messages as they were encoded, and says what each asked for', () => {
    fc.assert(
      fc.property(anyMessages, text, (sent, topic) => {
        const read = readPublishRequest(request(sent, topic));
        assert.equal(read.topic, topic);
        assertPlaced(sent, read.encoded);
      }),
      { numRuns: 300 },
    );
  });

  it('is the same on a stream', () => {
    fc.assert(
      fc.property(anyMessages, fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (sent, batch) => {
        const read = readPublishFrame(frame(sent, batch));
        assert.ok(read.kind === 'batch' && !(read.encoded instanceof MusterError));
        assert.equal(read.batch, batch);
        assertPlaced(sent, read.encoded);
      }),
      { numRuns: 300 },
    );
  });

  it('is not copied when its messages lie together', () => {
    const bytes = request([message('a'), message('b')]);
    const { messages } = readPublishRequest(bytes).encoded;
    assert.equal(messages.buffer, bytes.buffer);
    assert.equal(messages.byteOffset, bytes.byteOffset);
  });

  it('is gathered where other fields lie between its messages, which are left out', () => {
    const unknown = raw((writer) => writer.tag(99, WireType.LengthDelimited).string('unknown'));
    const topic = raw((writer) => writer.tag(2, WireType.LengthDelimited).string('orders'));
    const pieces = [
      unknown,
      fieldsOf('a', 'b'),
      topic,
      fieldsOf({ payload: Buffer.from('c'), dedupeId: 'd' }),
      unknown,
    ];
    const read = readPublishRequest(Buffer.concat([...pieces, fieldsOf('e')]));
    assert.equal(read.topic, 'orders');
    assert.deepEqual(payloads(read.encoded.messages), ['a', 'b', 'c', 'e']);
    const { placed = [], messages } = read.encoded;
    assert.deepEqual(
      placed.map(({ start, end }) => payloads(messages.subarray(start, end))),
      [['a'], ['b'], ['c'], ['e']],
    );
  });

  it('may hold fields of messages that this version does not know', () => {
    const odd = raw((writer) =>
      writer
        .tag(1, WireType.LengthDelimited)
        .bytes(Buffer.from('x'))
        .tag(77, WireType.Bit64)
        .fixed64(7)
        .tag(78, WireType.Varint)
        .int64(-1)
        .tag(2, WireType.LengthDelimited)
        .bytes(raw((entry) => entry.tag(1, WireType.LengthDelimited).string('a').tag(9, WireType.Varint).uint32(1)))
        .tag(5, WireType.LengthDelimited)
        .bytes(raw((entry) => entry.tag(7, WireType.Bit32).fixed32(1).tag(1, WireType.LengthDelimited).string('?'))),
    );
    const { encoded: batch } = readPublishRequest(withMessages(odd));
    assert.equal(batch.count, 1);
    assert.equal(batch.placed, undefined);
    assert.deepEqual(payloads(batch.messages), ['x']);
  });

  it('rounds a delay up to whole milliseconds', () => {
    assert.equal(encoded({ deliverAfter: { seconds: 0, nanos: 1 } }).placed?.[0]?.delayMs, 1);
    assert.equal(encoded({ deliverAfter: { seconds: 0, nanos: 0 } }).placed, undefined);
  });
});

describe('limits of a batch', () => {
  it('takes 10,000 messages and no more', () => {
    const most = Array.from({ length: BATCH_MESSAGES_MAX }, () => message(''));
    assert.equal(readPublishRequest(request(most)).encoded.count, BATCH_MESSAGES_MAX);
    assert.equal(refusal(request([...most, message('')])).reason, 'TOO_LARGE');
  });

  it('takes 1 MiB, encoded, and no more', () => {
    const fits = fieldsOf({ payload: Buffer.alloc(BATCH_BYTES_MAX - 8) });
    assert.equal(fits.length, BATCH_BYTES_MAX);
    assert.equal(readPublishRequest(fits).encoded.count, 1);
    const { reason, message: says } = refusal(fieldsOf({ payload: Buffer.alloc(BATCH_BYTES_MAX - 7) }));
    assert.equal(reason, 'TOO_LARGE');
    assert.match(says, /1048577 bytes, and at most 1048576 bytes/);
  });

  it('takes dedupe ids of 128 bytes and keys of 1 KiB, counted in bytes', () => {
    assert.equal(encoded({ dedupeId: 'é'.repeat(64), key: 'k'.repeat(1024) }).count, 1);
    assert.deepEqual(refusalOf({ dedupeId: `${'é'.repeat(64)}.` }).fields, [
      { field: 'messages.dedupe_id', description: 'at most 128 bytes' },
    ]);
    assert.match(refusalOf({ key: 'k'.repeat(1025) }).message, /key of a message has 1025 bytes/);
  });

  it('takes delays of 30 days and no more, and none below zero', () => {
    assert.equal(encoded({ deliverAfter: { seconds: 30 * DAY_S, nanos: 0 } }).placed?.[0]?.delayMs, 30 * DAY_S * 1000);
    assert.match(refusalOf({ deliverAfter: { seconds: 30 * DAY_S, nanos: 1 } }).message, /longer than 30 days/);
    assert.match(refusalOf({ deliverAfter: { seconds: 0, nanos: -1 } }).message, /too large/);
    assert.match(refusalOf({ deliverAfter: { seconds: -1, nanos: 0 } }).message, /too large/);
  });
});

describe('a batch that is refused', () => {
  const NOT_TEXT = Buffer.from([0xc3, 0x28]);

  it('is one without messages', () => {
    assert.match(refusal(Buffer.alloc(0)).message, /has no messages: send at least one/);
    assert.match(refusal(request([])).message, /has no messages/);
  });

  it('is one that a subscriber could not decode', () => {
    const entry = (field: number): Uint8Array =>
      raw((writer) => writer.tag(field, WireType.LengthDelimited).bytes(NOT_TEXT));
    const bad: Record<string, Uint8Array> = {
      'key is not UTF-8': entry(3),
      'dedupe_id is not UTF-8': entry(4),
      'an attribute is not UTF-8': raw((writer) => writer.tag(2, WireType.LengthDelimited).bytes(entry(2))),
      'field 1 has wire type 0': raw((writer) => writer.tag(1, WireType.Varint).uint32(1)),
      'field 2 has wire type 5': raw((writer) => writer.tag(2, WireType.Bit32).fixed32(1)),
      'field 3 has wire type 0': raw((writer) => writer.tag(3, WireType.Varint).uint32(1)),
      'field 5 has wire type 1': raw((writer) => writer.tag(5, WireType.Bit64).fixed64(1)),
      'deliver_after is not a duration': raw((writer) =>
        writer.tag(5, WireType.LengthDelimited).bytes(raw((inner) => inner.tag(1, WireType.Bit64).fixed64(1))),
      ),
      'it ends too early': Buffer.from([10, 5, 1]),
      'wire type 3': Buffer.from([8 * 9 + 3]),
    };
    for (const [says, bytes] of Object.entries(bad)) {
      const { reason, message: told } = refusal(withMessages(bytes));
      assert.equal(reason, 'MALFORMED');
      assert.ok(told.includes(says), `${told}: does not say ${says}`);
    }
  });

  it('is never anything but invalid, whatever the bytes are', () => {
    fc.assert(
      fc.property(anyMessages, fc.nat(), fc.nat(255), (sent, at, byte) => {
        for (const bytes of [request(sent), frame(sent, 7)]) {
          bytes[at % bytes.length] = byte;
          for (const read of [readPublishRequest, readPublishFrame]) {
            try {
              read(bytes);
            } catch (error) {
              assert.ok(error instanceof MusterError && error.code === 'invalid', String(error));
            }
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('is never anything but invalid for noise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (noise) => {
        for (const read of [readPublishRequest, readPublishFrame]) {
          try {
            read(Buffer.from(noise));
          } catch (error) {
            assert.ok(error instanceof MusterError && error.code === 'invalid', String(error));
          }
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('holds nothing that was taken and cannot be decoded', () => {
    fc.assert(
      fc.property(anyMessages, fc.nat(), fc.nat(255), (sent, at, byte) => {
        const bytes = request(sent);
        bytes[at % bytes.length] = byte;
        let batch;
        try {
          batch = readPublishRequest(bytes).encoded;
        } catch {
          return;
        }
        assert.equal(PublishMessagesRequest.decode(batch.messages).messages.length, batch.count);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('a frame of a publishing stream', () => {
  const good = Message.encode(message('good')).finish();
  const bad = Buffer.from([8, 1]);

  function batchOf(bytes: Buffer): { batch: number; encoded: unknown } {
    const read = readPublishFrame(bytes);
    assert.ok(read.kind === 'batch');
    return read;
  }

  it('names a batch that is refused, wherever its number and its bad message stand', () => {
    for (const numberFirst of [true, false]) {
      for (const messages of [[bad], [bad, good, good], [good, bad, good], [good, good, bad], [bad, bad, good]]) {
        const { batch, encoded: failure } = batchOf(frameWith(1234, numberFirst, ...messages));
        assert.equal(batch, 1234);
        assert.ok(failure instanceof MusterError);
        assert.match(failure.message, /field 1 has wire type 0/);
      }
    }
  });

  it('names a batch that is empty or too large', () => {
    const empty = batchOf(frameWith(5, true));
    assert.equal(empty.batch, 5);
    assert.ok(empty.encoded instanceof MusterError);
    assert.match(empty.encoded.message, /no messages/);
    const large = batchOf(frame([message({ payload: Buffer.alloc(BATCH_BYTES_MAX) })], 6));
    assert.equal(large.batch, 6);
    assert.ok(large.encoded instanceof MusterError && large.encoded.reason === 'TOO_LARGE');
  });

  it('ends the stream when a batch has no number, or is not whole', () => {
    assert.throws(() => readPublishFrame(frame([message('a')], 0)), { code: 'invalid', message: /has no number/ });
    const cut = Buffer.from(raw((writer) => writer.tag(2, WireType.LengthDelimited).bytes(Buffer.from([10, 9, 1]))));
    assert.throws(() => readPublishFrame(cut), { code: 'invalid', message: /ends too early/ });
    const number = Buffer.from(raw((writer) => writer.tag(2, WireType.LengthDelimited).bytes(Buffer.from([8, 1]))));
    assert.throws(() => readPublishFrame(number), { code: 'invalid', message: /field 1 has wire type 0/ });
  });

  it('opens a stream', () => {
    const value = { $case: 'open' as const, value: { topic: 'orders', producer: 'p-1' } };
    const bytes = Buffer.from(PublishStreamRequest.encode({ frame: value }).finish());
    assert.deepEqual(readPublishFrame(bytes), { kind: 'open', topic: 'orders', producer: 'p-1' });
  });

  it('that opens is invalid when it is not what it should be', () => {
    const opens: Uint8Array[] = [
      Buffer.from([10, 5, 65]),
      Buffer.from([10, 2, 0xc3, 0x28]),
      Buffer.from([18, 2, 0xc3, 0x28]),
      Buffer.from([8 * 9 + 6]),
    ];
    for (const open of opens) {
      const bytes = Buffer.from(raw((writer) => writer.tag(1, WireType.LengthDelimited).bytes(open)));
      assert.throws(() => readPublishFrame(bytes), { name: 'MusterError', code: 'invalid' });
    }
  });

  it('may be nothing, or something this version does not know', () => {
    assert.deepEqual(readPublishFrame(Buffer.alloc(0)), { kind: 'none' });
    const unknown = Buffer.from(raw((writer) => writer.tag(9, WireType.Varint).uint32(1)));
    assert.deepEqual(readPublishFrame(unknown), { kind: 'none' });
  });
});
