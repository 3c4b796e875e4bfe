import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { PublishStreamRequest } from '../../../../generated/muster/v1/queue.js';
import { asMessage, encodedBytes, type Content } from '../../../../src/client/queue/message.js';
import { OutgoingBatch } from '../../../../src/client/queue/outgoing-batch.js';
import { isCode } from '../../../../src/kit/errors.js';
import { fromDuration } from '../../../../src/wire/time.js';

function batchOf(contents: readonly Content[]): OutgoingBatch {
  const batch = new OutgoingBatch(Buffer.alloc(16));
  for (const content of contents) batch.add(asMessage(content), encodedBytes(asMessage(content)));
  return batch;
}

function decoded(frame: Buffer) {
  const { frame: value } = PublishStreamRequest.decode(frame);
  assert.equal(value?.$case, 'batch');
  return value.value;
}

/** A generated decoder of JavaScript takes no attribute of this name: it would be the object's prototype. */
const readable = (name: string): boolean => name !== '__proto__';

const content = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.uint8Array({ maxLength: 300 }),
  fc.record(
    {
      payload: fc.oneof(fc.string({ unit: 'grapheme' }), fc.uint8Array()),
      attributes: fc.dictionary(fc.string({ unit: 'grapheme' }).filter(readable), fc.string({ unit: 'grapheme' })),
      key: fc.string({ unit: 'grapheme', maxLength: 20 }),
      dedupeId: fc.string({ maxLength: 100 }),
      deliverAfterMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2_592_000_000 }), fc.constant(1.5)),
    },
    { requiredKeys: ['payload'] },
  ),
);

describe('an encoded batch', () => {
  it('is what the contract decodes, whatever the messages are', () => {
    const history = fc.property(
      fc.array(content, { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      (contents, number) => {
        const batch = batchOf(contents);
        const { messages, batch: told } = decoded(batch.frame(number));
        assert.equal(told, number);
        assert.equal(batch.count, contents.length);
        assert.deepEqual(
          messages.map((message) => ({
            payload: message.payload.toString('hex'),
            attributes: { ...message.attributes },
            key: message.key,
            dedupeId: message.dedupeId,
            deliverAfterMs: fromDuration(message.deliverAfter) ?? 0,
          })),
          contents.map(asMessage).map((message) => ({
            payload: Buffer.from(message.payload as string).toString('hex'),
            attributes: { ...message.attributes },
            key: message.key ?? '',
            dedupeId: message.dedupeId ?? '',
            deliverAfterMs: message.deliverAfterMs ?? 0,
          })),
        );
      },
    );
    fc.assert(history, { numRuns: 300 });
  });

  it('may be framed again under another number', () => {
    const batch = batchOf(['a', 'b']);
    assert.equal(decoded(batch.frame(1)).batch, 1);
    const again = decoded(batch.frame(2 ** 40));
    assert.equal(again.batch, 2 ** 40);
    assert.deepEqual(again.messages.map(String).length, 2);
    assert.equal(decoded(batch.frame(3)).messages[1]?.payload.toString(), 'b');
  });

  it('refuses, before anything is sent, the message that would have the whole batch refused', () => {
    const bad: readonly Content[] = [
      Buffer.alloc(1024 * 1024),
      { payload: 'a', dedupeId: 'x'.repeat(129) },
      { payload: 'a', key: 'x'.repeat(1025) },
      { payload: 'a', deliverAfterMs: -1 },
      { payload: 'a', deliverAfterMs: 2_592_000_001 },
      { payload: 'a', deliverAfterMs: NaN },
    ];
    for (const one of bad) {
      assert.throws(
        () => encodedBytes(asMessage(one)),
        (error: unknown) => isCode(error, 'invalid'),
      );
    }
  });

  it('refuses what is no message, naming the field, from programs that are not type-checked', () => {
    const bad: readonly (readonly [unknown, string])[] = [
      [42, 'message'],
      [null, 'message'],
      [undefined, 'message'],
      [['a'], 'message'],
      [{ body: 'x' }, 'payload'],
      [{ payload: 'a', dedupID: 'x' }, 'dedupID'],
      [{ payload: { a: 1 } }, 'payload'],
      [{ payload: { length: 5 } }, 'payload'],
      [{ payload: new ArrayBuffer(4) }, 'payload'],
      [{ payload: new DataView(new ArrayBuffer(4)) }, 'payload'],
      [{ payload: Uint16Array.of(300) }, 'payload'],
      [new Uint16Array(2), 'payload'],
      [{ payload: 'a', attributes: { a: 1 } }, 'attributes.a'],
      [{ payload: 'a', attributes: { a: undefined } }, 'attributes.a'],
      [{ payload: 'a', attributes: 'a=1' }, 'attributes'],
      [{ payload: 'a', attributes: { ['__proto__']: 'x' } }, 'attributes.__proto__'],
      [{ payload: 'a', key: 7 }, 'key'],
      [{ payload: 'a', dedupeId: null }, 'dedupeId'],
      [{ payload: 'a', deliverAfterMs: '5' }, 'deliverAfterMs'],
    ];
    for (const [one, field] of bad) {
      assert.throws(
        () => encodedBytes(asMessage(one as Content)),
        (error: unknown) => isCode(error, 'invalid') && error.fields[0]?.field === field,
        field,
      );
    }
  });
});
