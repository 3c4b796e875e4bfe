import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cutEnd, cutStart, keptOutput } from '../../../../src/agent/probes/answer.js';

const text = fc.string({ unit: 'grapheme', maxLength: 60 });

test('text is cut between characters, at the end and at the start, and never more than one character short', () => {
  fc.assert(
    fc.property(text, fc.integer({ min: 0, max: 80 }), (whole, bytesMax) => {
      const bytes = Buffer.from(whole);
      const head = cutEnd(bytes, bytesMax);
      const tail = cutStart(bytes, bytesMax);
      for (const part of [head, tail]) {
        assert.ok(part.length <= bytesMax);
        assert.ok(part.length > Math.min(bytes.length, bytesMax) - 4);
        assert.ok(Buffer.from(part.toString()).equals(part), 'well-formed');
      }
      assert.ok(whole.startsWith(head.toString()));
      assert.ok(whole.endsWith(tail.toString()));
    }),
  );
});

test('bytes that are no UTF-8 are cut too', () => {
  const garbage = Buffer.alloc(100, 0x80);
  assert.ok(cutEnd(garbage, 10).length <= 10);
  assert.ok(cutStart(garbage, 10).length <= 10);
});

test('kept output is at most 4 KiB, without blank lines at its end', () => {
  assert.equal(keptOutput('fine\n\n'), 'fine');
  const kept = keptOutput(`a${'é'.repeat(5000)}`);
  assert.equal(Buffer.byteLength(kept), 4095);
  assert.ok(kept.endsWith('é'));
});
