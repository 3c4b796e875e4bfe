import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BatchView } from '../../../src/queue/batch.js';
import { fieldsOf, payloads, stored, view } from '../../support/queue-parts.js';

const anyMessages = fc.array(
  fc.record({
    payload: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    key: fc.string({ maxLength: 4 }),
  }),
  { minLength: 1, maxLength: 30 },
);

describe('a stored batch', () => {
  it('says where each message lies, how large it is, and what its key is', () => {
    fc.assert(
      fc.property(anyMessages, fc.integer({ min: 1, max: 1_000_000 }), fc.nat(), fc.nat(), (messages, first, a, b) => {
        const batch = view(first, ...messages);
        const low = Math.min(a % messages.length, b % messages.length);
        const high = Math.max(a % messages.length, b % messages.length);
        const expected = fieldsOf(...messages.slice(low, high + 1));
        assert.deepEqual(batch.slice(first + low, first + high), expected);
        assert.equal(batch.sizes.bytesOf(first + low, first + high), expected.length);
        assert.equal(batch.keyOf(first + low), messages[low]?.key);
        assert.equal(batch.keyOf(first + high), messages[high]?.key);
      }),
    );
  });

  it('knows its place', () => {
    const batch = view(7, 'a', 'b', 'c');
    assert.deepEqual([batch.firstSequence, batch.count, batch.until, batch.publishedMs], [7, 3, 10, 1000]);
    assert.equal(batch.keyOf(99), '');
  });

  it('is not copied, whole or in part', () => {
    const of = stored(1, 'a', 'b');
    const batch = new BatchView(of);
    assert.equal(batch.slice(1, 2), of.messages);
    assert.equal(batch.slice(2, 2).buffer, of.messages.buffer);
    assert.deepEqual(payloads(batch.slice(2, 2)), ['b']);
  });

  it('does not keep its messages in memory through its sizes', () => {
    const { sizes } = view(1, 'abc', 'd');
    assert.equal(sizes.bytesOf(1, 1), fieldsOf('abc').length);
    assert.ok(!Object.values(sizes).some((value) => Buffer.isBuffer(value)));
  });

  it('is damaged when it does not hold as many messages as it should', () => {
    for (const count of [1, 3]) {
      const batch = new BatchView({ ...stored(40, 'a', 'b'), count });
      assert.throws(() => batch.sizes, { code: 'data_loss', reason: 'DATA_DAMAGED', metadata: { sequence: '40' } });
      assert.throws(() => batch.slice(40, 40 + count - 2), { code: 'data_loss' });
    }
  });

  it('is damaged when what it holds are no messages', () => {
    const batch = new BatchView({ ...stored(40, 'a'), messages: Buffer.from([10, 200, 1]) });
    assert.throws(() => batch.sizes, { code: 'data_loss', reason: 'DATA_DAMAGED' });
  });
});
