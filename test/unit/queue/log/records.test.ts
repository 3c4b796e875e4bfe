import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isCode } from '../../../../src/kit/errors.js';
import { FormatError, PackedReader, PackedWriter, readU64, writeU64 } from '../../../../src/queue/log/bytes.js';
import { batchKey, describeKey, keyOf, readKey, spanOf } from '../../../../src/queue/log/keys.js';
import type { CursorRecord, DeadLetterRecord, ProducerAck, ProducerRecord } from '../../../../src/queue/log/port.js';
import {
  decodeBatch,
  decodeBounds,
  decodeCursor,
  decodeDelayedSummary,
  decodeLetter,
  decodeNumber,
  decodeProducer,
  decodeRetry,
  decodeSubscription,
  decodeTopic,
  encodeBatchHeader,
  encodeBounds,
  encodeCursor,
  encodeDelayedSummary,
  encodeJson,
  encodeLetterHeader,
  encodeNumber,
  encodeProducer,
  encodeRetry,
} from '../../../../src/queue/log/records.js';
import { topicRecord } from '../../../support/queue-log.js';

const number = fc.maxSafeNat();
const half = fc.nat({ max: 2 ** 31 - 1 });
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const id = fc.integer({ min: 0, max: 2 ** 32 - 1 });

const texts = fc.string({ unit: 'grapheme' });

/** As an object literal makes it: fast-check also makes objects without a prototype. */
function plain<T extends object>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return arbitrary.map((value) => ({ ...value }));
}

/** Rising ranges above a floor, as steps. */
const cursor: fc.Arbitrary<CursorRecord> = fc
  .record({
    floor: half,
    dropped: number,
    steps: fc.array(fc.record({ gap: fc.integer({ min: 1, max: 1e6 }), length: fc.integer({ min: 1, max: 1e6 }) })),
  })
  .map(({ floor, dropped, steps }) => {
    let at = floor;
    const settled = steps.map(({ gap, length }) => {
      const from = at + gap;
      at = from + length;
      return { from, until: at };
    });
    return { floor, dropped, settled };
  });

const producer: fc.Arbitrary<ProducerRecord> = fc
  .record({
    seenMs: number,
    steps: fc.array(
      fc.record({ batch: fc.nat({ max: 1e6 }), step: fc.nat({ max: 1e6 }), count: half, none: fc.boolean() }),
      {
        maxLength: 64,
      },
    ),
  })
  .map(({ seenMs, steps }) => {
    let batch = 0;
    let newest = 0;
    const acks = steps.map((step): ProducerAck => {
      batch += step.batch;
      if (step.none) return { batch, firstSequence: 0, count: 0 };
      newest += step.step + 1;
      return { batch, firstSequence: newest, count: step.count };
    });
    return { producer: 'p', seenMs, acks };
  });

const letter: fc.Arbitrary<DeadLetterRecord> = plain(
  fc.record({
    sequence: number,
    message: bytes,
    publishedMs: number,
    diedMs: number,
    attempts: half,
    reason: texts,
    replayed: fc.boolean(),
  }),
);

describe('what is written is read back', () => {
  it('numbers', () => {
    fc.assert(
      fc.property(number, (value) => {
        assert.equal(decodeNumber(encodeNumber(value)), value);
        const word = Buffer.alloc(8);
        writeU64(word, value, 0);
        assert.equal(readU64(word, 0), value);
      }),
    );
    for (const value of [0, 127, 128, 16_383, 16_384, 2 ** 32, 2 ** 49 - 1, 2 ** 49, Number.MAX_SAFE_INTEGER]) {
      assert.equal(decodeNumber(encodeNumber(value)), value);
    }
  });

  it('texts', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), (a, b) => {
        const reader = new PackedReader(new PackedWriter().text(a).text(b).done());
        assert.deepEqual([reader.text(), reader.text()], [a, b]);
        reader.end();
      }),
    );
  });

  it('batches', () => {
    const batches = fc.record({
      firstSequence: half.map((before) => before + 1),
      count: fc.integer({ min: 1, max: 10_000 }),
      publishedMs: number,
      offset: number,
      messages: bytes,
    });
    fc.assert(
      fc.property(plain(batches), (batch) => {
        const value = Buffer.concat([encodeBatchHeader(batch), batch.messages]);
        assert.deepEqual(decodeBatch(batch.firstSequence + batch.count - 1, value), batch);
      }),
    );
  });

  it('cursors', () => {
    fc.assert(
      fc.property(cursor, (record) => {
        assert.deepEqual(decodeCursor(encodeCursor(record)), record);
      }),
    );
  });

  it('a cursor with as many ranges as a subscription can have', () => {
    const settled = Array.from({ length: 32_768 }, (_, n) => ({ from: 1e12 + 2 * n + 1, until: 1e12 + 2 * n + 2 }));
    const value = encodeCursor({ floor: 1e12, settled, dropped: 0 });
    assert.equal(decodeCursor(value).settled.length, settled.length);
    assert.ok(value.length < 3 * settled.length, `${value.length} bytes`);
  });

  it('producers', () => {
    fc.assert(
      fc.property(producer, (record) => {
        assert.deepEqual(decodeProducer('p', encodeProducer(record)), record);
      }),
    );
  });

  it('dead letters', () => {
    fc.assert(
      fc.property(letter, (record) => {
        assert.deepEqual(
          decodeLetter(record.sequence, Buffer.concat([encodeLetterHeader(record), record.message])),
          record,
        );
      }),
    );
  });

  it('bounds, retries and the count of delayed messages', () => {
    const numbers = fc.tuple(half, half, half, half, number);
    fc.assert(
      fc.property(numbers, ([head, stored, headOffset, bytesStored, rest]) => {
        const bounds = {
          head,
          headOffset,
          next: head + stored,
          nextOffset: headOffset + bytesStored,
          newestMs: rest,
          nextSubscriptionId: stored,
        };
        assert.deepEqual(decodeBounds(encodeBounds(bounds)), bounds);
        const retry = { attempts: head, notBeforeMs: rest };
        assert.deepEqual(decodeRetry(encodeRetry(retry)), retry);
        const delayed = { count: stored, nextNumber: rest };
        assert.deepEqual(decodeDelayedSummary(encodeDelayedSummary(delayed)), delayed);
      }),
    );
  });

  it('keys, which are ordered as what they name', () => {
    fc.assert(
      fc.property(fc.tuple(id, number), fc.tuple(id, number), texts, ([topicA, a], [topicB, b], text) => {
        const order = Buffer.compare(batchKey(topicA, a), batchKey(topicB, b));
        assert.equal(Math.sign(order), Math.sign(topicA - topicB || a - b));
        const key = keyOf('dedupe', { ids: [topicA], numbers: [a], text });
        assert.deepEqual(readKey(key, { ids: 1, numbers: 1, text: true }), { ids: [topicA], numbers: [a], text });
      }),
    );
  });
});

describe('spans', () => {
  it('hold all keys of a topic and no other', () => {
    fc.assert(
      fc.property(id, id, number, (topic, other, sequence) => {
        const { from, until } = spanOf('batch', [topic]);
        const key = batchKey(other, sequence);
        const inside = Buffer.compare(key, from) >= 0 && Buffer.compare(key, until) < 0;
        assert.equal(inside, topic === other);
      }),
    );
    const { from, until } = spanOf('batch', [2 ** 32 - 1]);
    assert.ok(Buffer.compare(from, until) < 0);
    assert.ok(Buffer.compare(until, keyOf('batch', {})) > 0);
  });
});

describe('bytes that were never written', () => {
  const decoders: readonly [string, Buffer, (value: Buffer) => unknown][] = [
    [
      'batch',
      Buffer.concat([
        encodeBatchHeader({ firstSequence: 5, count: 2, publishedMs: 9, offset: 7, messages: Buffer.alloc(0) }),
      ]),
      (value) => decodeBatch(6, value),
    ],
    ['cursor', encodeCursor({ floor: 300, dropped: 2, settled: [{ from: 302, until: 500 }] }), decodeCursor],
    [
      'producer',
      encodeProducer({ producer: 'p', seenMs: 1e12, acks: [{ batch: 300, firstSequence: 4000, count: 3 }] }),
      (value) => decodeProducer('p', value),
    ],
    [
      'bounds',
      encodeBounds({ head: 300, headOffset: 1000, next: 400, nextOffset: 2000, newestMs: 1e12, nextSubscriptionId: 3 }),
      decodeBounds,
    ],
    ['retry', encodeRetry({ attempts: 300, notBeforeMs: 1e12 }), decodeRetry],
    ['number', encodeNumber(1e12), decodeNumber],
    ['topic', encodeJson(topicRecord(3)), (value) => decodeTopic(3, value)],
  ];

  it('are refused when they are cut', () => {
    for (const [what, value, decode] of decoders) {
      for (let length = 0; length < value.length; length += 1) {
        assert.throws(() => decode(value.subarray(0, length)), FormatError, `${what} cut to ${length} bytes`);
      }
    }
  });

  it('are refused when something follows that was never written', () => {
    for (const [what, value, decode] of decoders) {
      if (what === 'batch') continue;
      assert.throws(() => decode(Buffer.concat([value, Buffer.from([1])])), FormatError, what);
    }
  });

  it('give a value or a refusal, whatever they are', () => {
    fc.assert(
      fc.property(bytes, (value) => {
        for (const [what, , decode] of decoders) {
          try {
            decode(value);
          } catch (error) {
            assert.ok(error instanceof FormatError, `${what}: ${String(error)}`);
          }
        }
        try {
          decodeLetter(1, value);
        } catch (error) {
          assert.ok(error instanceof FormatError);
        }
      }),
    );
  });

  it('are refused where they do not belong to their key', () => {
    const topic = encodeJson(topicRecord(3));
    assert.throws(() => decodeTopic(4, topic), FormatError);
    assert.throws(() => decodeSubscription(3, 1, topic), FormatError);
    assert.throws(() => decodeTopic(3, Buffer.from('null')), FormatError);
    const header = encodeBatchHeader({
      firstSequence: 1,
      count: 10,
      publishedMs: 0,
      offset: 0,
      messages: Buffer.alloc(0),
    });
    assert.throws(() => decodeBatch(5, header), FormatError);
    assert.throws(() => readKey(batchKey(1, 1), { ids: 2, numbers: 1 }), FormatError);
    assert.throws(() => readU64(Buffer.alloc(8, 255), 0), FormatError);
    assert.throws(() => decodeNumber(Buffer.alloc(9, 255)), FormatError);
    assert.throws(() => new PackedReader(Buffer.from([1, 255])).text(), FormatError);
    assert.throws(() => new PackedReader(Buffer.from([2])).flag(), FormatError);
  });

  it('cannot be written', () => {
    for (const value of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
      assert.throws(
        () => encodeNumber(value),
        (error) => isCode(error, 'internal'),
      );
      assert.throws(
        () => batchKey(1, value),
        (error) => isCode(error, 'internal'),
      );
    }
  });
});

it('keys are described for people', () => {
  assert.equal(describeKey(batchKey(7, 1234)), 'messages of topic 7 up to sequence 1234');
  assert.equal(describeKey(keyOf('global', {})), 'the log itself');
  assert.match(describeKey(keyOf('cursor', { ids: [7, 2] })), /^the position of a subscription of topic 7 \(key 43/);
  assert.equal(describeKey(Buffer.from([0])), '00');
});
