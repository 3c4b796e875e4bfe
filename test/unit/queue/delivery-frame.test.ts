import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SubscribeResponse } from '../../../generated/muster/v1/queue.js';
import { encodeDeliveries, serializeDeliveries } from '../../../src/queue/delivery-frame.js';
import { fieldsOf, message } from '../../support/queue-parts.js';

const anyRun = fc.record({
  firstSequence: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })),
  attempt: fc.integer({ min: 1, max: 1_000_000 }),
  publishedMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 4_000_000_000_000 })),
  texts: fc.array(fc.string({ maxLength: 300 }), { minLength: 1, maxLength: 12 }),
});

describe('a frame of deliveries', () => {
  it('is what the contract says, for anybody who decodes it', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
        fc.array(anyRun, { minLength: 1, maxLength: 6 }),
        (firstDelivery, runs) => {
          const bytes = encodeDeliveries(
            firstDelivery,
            runs.map(({ texts, ...run }) => ({ ...run, count: texts.length, messages: fieldsOf(...texts) })),
          );
          assert.deepEqual(SubscribeResponse.decode(bytes), {
            frame: {
              $case: 'deliveries',
              value: {
                firstDelivery,
                messages: runs.flatMap(({ texts }) => texts.map((text) => message(text))),
                runs: runs.map(({ firstSequence, attempt, publishedMs, texts }) => ({
                  firstSequence,
                  count: texts.length,
                  attempt,
                  published: new Date(publishedMs),
                })),
              },
            },
          });
        },
      ),
    );
  });

  it('is exactly as long as was reckoned', () => {
    fc.assert(
      fc.property(fc.array(anyRun, { minLength: 1, maxLength: 3 }), (runs) => {
        const framed = runs.map(({ texts, ...run }) => ({ ...run, count: texts.length, messages: fieldsOf(...texts) }));
        const bytes = encodeDeliveries(1, framed);
        assert.deepEqual(
          Buffer.from(SubscribeResponse.encode(SubscribeResponse.decode(bytes)).finish()).length,
          bytes.length,
        );
      }),
    );
  });

  it('writes itself behind what the transport puts before it, large or small', () => {
    for (const length of [10, 100_000]) {
      const messages = fieldsOf('x'.repeat(length), 'y');
      const runs = [{ firstSequence: 7, count: 2, attempt: 1, publishedMs: 1000, messages }];
      const expected = encodeDeliveries(3, runs);
      const serialized = serializeDeliveries(3, runs);
      const target = Buffer.alloc(serialized.byteLength + 5);
      serialized.copy(target, 5);
      assert.deepEqual(target, Buffer.concat([Buffer.alloc(5), expected]));
    }
  });
});
