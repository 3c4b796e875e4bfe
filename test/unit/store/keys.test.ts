import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { compareKeys, inRange } from '../../../src/store/keys.js';

it('orders keys as their UTF-8 bytes', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
      assert.equal(Math.sign(compareKeys(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)));
    }),
    { numRuns: 2000 },
  );
  assert.ok(compareKeys('\u{10000}', '\uffff') > 0);
  assert.ok(compareKeys('\uffff', '\u{10000}') < 0);
});

it('holds all bounds of a range', () => {
  assert.ok(inRange('b', {}));
  assert.ok(inRange('ab', { prefix: 'a', after: 'aa', before: 'ac' }));
  assert.ok(!inRange('ab', { after: 'ab' }));
  assert.ok(!inRange('ab', { before: 'ab' }));
});
