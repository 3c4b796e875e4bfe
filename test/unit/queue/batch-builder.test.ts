import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BatchBuilder } from '../../../src/queue/batch-builder.js';
import type { Change } from '../../../src/queue/log/port.js';
import { encoded, fieldsOf, payloads } from '../../support/queue-parts.js';

const KIB = 1024;

function builder(more: Partial<ConstructorParameters<typeof BatchBuilder>[0]> = {}): BatchBuilder {
  return new BatchBuilder({
    topicId: 3,
    tail: { next: 100, offset: 5000 },
    publishedMs: 1_000_000,
    nextDelayedNumber: 8,
    window: 77,
    known: new Map(),
    ...more,
  });
}

function of<Kind extends Change['kind']>(kind: Kind, changes: readonly Change[]): Extract<Change, { kind: Kind }>[] {
  return changes.filter((change): change is Extract<Change, { kind: Kind }> => change.kind === kind);
}

const PLAIN = { duplicates: [], delayed: 0, repeated: false };

describe('giving messages their places', () => {
  it('counts sequences and bytes on from the tail, and puts small batches together', () => {
    const build = builder();
    assert.deepEqual(build.add(encoded('a', 'b')), { firstSequence: 100, count: 2, ...PLAIN });
    assert.deepEqual(build.add(encoded('c')), { firstSequence: 102, count: 1, ...PLAIN });
    const messages = fieldsOf('a', 'b', 'c');
    const batch = { firstSequence: 100, count: 3, publishedMs: 1_000_000, offset: 5000, messages };
    assert.deepEqual(build.finish(), { batches: [batch], changes: [{ kind: 'batch', topicId: 3, batch }] });
    assert.deepEqual(build.tail, { next: 103, offset: 5000 + messages.length });
  });

  it('puts no more than 64 KiB together, and leaves a larger batch whole', () => {
    const build = builder();
    const half = encoded({ payload: Buffer.alloc(33 * KIB) });
    const large = encoded({ payload: Buffer.alloc(200 * KIB) });
    for (const one of [half, half, large, half, encoded('x')]) build.add(one);
    const { batches } = build.finish();
    assert.deepEqual(
      batches.map(({ firstSequence, count }) => [firstSequence, count]),
      [
        [100, 1],
        [101, 1],
        [102, 1],
        [103, 2],
      ],
    );
    assert.equal(batches[2]?.messages, large.messages);
  });

  it('leaves no gap and loses no byte, whatever comes', () => {
    const anyBatch = fc.array(fc.integer({ min: 0, max: 40 * KIB }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(anyBatch, { maxLength: 12 }), (sizes) => {
        const build = builder();
        const sent = sizes.map((batch) => encoded(...batch.map((size) => ({ payload: Buffer.alloc(size, 1) }))));
        for (const one of sent) build.add(one);
        const { batches } = build.finish();
        let { next, offset } = { next: 100, offset: 5000 };
        for (const batch of batches) {
          assert.deepEqual([batch.firstSequence, batch.offset], [next, offset]);
          next += batch.count;
          offset += batch.messages.length;
        }
        assert.deepEqual(build.tail, { next, offset });
        const all = Buffer.concat(batches.map(({ messages }) => messages));
        assert.deepEqual(all, Buffer.concat(sent.map(({ messages }) => messages)));
      }),
      { numRuns: 50 },
    );
  });

  it('stores nothing when nothing came', () => {
    assert.deepEqual(builder().finish(), { batches: [], changes: [] });
  });

  it('does not store what is known, and says what its sequence is', () => {
    const build = builder({ known: new Map([['old', 42]]) });
    const published = build.add(encoded({ payload: Buffer.from('a'), dedupeId: 'old' }, 'b', { dedupeId: 'new' }));
    assert.deepEqual(published, { ...PLAIN, firstSequence: 100, count: 2, duplicates: [{ index: 0, sequence: 42 }] });
    const { batches, changes } = build.finish();
    assert.deepEqual(
      batches.map(({ messages }) => payloads(messages)),
      [['b', '']],
    );
    assert.deepEqual(of('dedupe', changes), [{ kind: 'dedupe', topicId: 3, window: 77, id: 'new', sequence: 101 }]);
  });

  it('finds duplicates inside a batch, and between batches of a group', () => {
    const build = builder();
    const twice = build.add(encoded({ dedupeId: 'x' }, { dedupeId: 'x' }));
    assert.deepEqual(twice.duplicates, [{ index: 1, sequence: 100 }]);
    const again = build.add(encoded({ dedupeId: 'x' }));
    assert.deepEqual(again, { ...PLAIN, firstSequence: 0, count: 0, duplicates: [{ index: 0, sequence: 100 }] });
    assert.equal(of('dedupe', build.finish().changes).length, 1);
    assert.equal(build.tail.next, 101);
  });

  it('stores delayed messages for later, without a sequence', () => {
    const build = builder();
    const later = { payload: Buffer.from('later'), deliverAfter: { seconds: 5, nanos: 0 } };
    const published = build.add(encoded(later, 'now', { ...later, dedupeId: 'd' }, { dedupeId: 'd' }));
    assert.deepEqual(published, {
      firstSequence: 100,
      count: 1,
      duplicates: [{ index: 3, sequence: 0 }],
      delayed: 2,
      repeated: false,
    });
    const { changes } = build.finish();
    assert.deepEqual(
      of('delayed', changes).map(({ dueMs, number, message }) => [dueMs, number, message && payloads(message)]),
      [
        [1_005_000, 8, ['later']],
        [1_005_000, 9, ['later']],
      ],
    );
    assert.deepEqual(
      of('dedupe', changes).map(({ id, sequence }) => [id, sequence]),
      [['d', 0]],
    );
    assert.deepEqual([build.delayed, build.nextDelayedNumber], [2, 10]);
  });

  it('lets delayed messages that are due enter as they were', () => {
    const build = builder();
    build.addDue([fieldsOf({ payload: Buffer.from('x'), deliverAfter: { seconds: 5, nanos: 0 } }), fieldsOf('y')]);
    build.add(encoded('z'));
    const { batches } = build.finish();
    assert.deepEqual(
      batches.map(({ messages }) => payloads(messages)),
      [['x', 'y', 'z']],
    );
    assert.equal(build.delayed, 0);
  });
});
