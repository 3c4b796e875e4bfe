import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { cutOffset } from '../../../../src/agent/logs/cut.js';
import { nextNumber, planCompression, planRemovals, rotatedAmong } from '../../../../src/agent/logs/housekeeping.js';
import { LINE_BYTES_MAX, LineSplitter, type Line } from '../../../../src/agent/logs/lines.js';
import { isMark, markOf, padMark, parseRotated, rotatedName } from '../../../../src/agent/logs/names.js';
import { fits } from '../../../../src/agent/logs/position.js';

describe('names of log files', () => {
  it('of rotated files are read back', () => {
    assert.deepEqual(parseRotated(rotatedName('a/orders.log', 17)), {
      name: 'a/orders.log.000017',
      of: 'a/orders.log',
      number: 17,
      compressed: false,
    });
    assert.equal(parseRotated('orders.log.000017.gz')?.compressed, true);
    assert.equal(parseRotated('orders.log'), undefined);
    assert.equal(parseRotated('orders.log.1'), undefined);
  });

  it('of marks fill exactly what they replace', () => {
    const mark = markOf('orders.log.000017');
    for (const bytes of [mark.length + 1, 4096, 4200]) {
      const line = padMark(mark, bytes);
      assert.equal(line.length, bytes);
      assert.equal(line.indexOf('\n'), bytes - 1);
      assert.ok(isMark(line.toString()));
    }
    assert.ok(!isMark('[muster] something the service said'));
  });
});

describe('a place to cut', () => {
  it('is whole blocks, and leaves room for the mark before the end', () => {
    fc.assert(
      fc.property(fc.nat(1e9), fc.integer({ min: 40, max: 300 }), (end, mark) => {
        const cut = cutOffset(end, mark, 4096);
        assert.equal(cut % 4096, 0);
        assert.ok(cut === 0 || (end - cut >= mark && end - cut < 4096 + mark));
      }),
    );
  });
});

describe('what is kept', () => {
  const files = (...names: string[]) => rotatedAmong(names.map((name, index) => ({ name, bytes: 100, atMs: index })));

  it('is the newest of each file, not too old, and no more than the service may have', () => {
    const rotated = files('a.log.000001.gz', 'a.log.000002.gz', 'a.log.000003', 'b.log.000001');
    const plan = (keep: number, maxAgeMs: number, serviceBytesMax: number): string[] =>
      planRemovals(rotated, 50, { keep, maxAgeMs, serviceBytesMax }, 4).map(({ file, why }) => `${file.name} ${why}`);
    assert.deepEqual(plan(2, 100, 1e9), ['a.log.000001.gz keep']);
    assert.deepEqual(plan(9, 2, 1e9).sort(), ['a.log.000001.gz max_age', 'a.log.000002.gz max_age']);
    assert.deepEqual(plan(9, 100, 250), ['a.log.000001.gz service cap', 'a.log.000002.gz service cap']);
    assert.equal(nextNumber(rotated, 'a.log'), 4);
    assert.equal(nextNumber(rotated, 'c.log'), 1);
  });

  it('is compressed but for the newest of each file', () => {
    const names = planCompression(files('a.log.000001', 'a.log.000002', 'a.log.000003', 'b.log.000001')).map(
      ({ name }) => name,
    );
    assert.deepEqual(names, ['a.log.000001', 'a.log.000002']);
  });
});

describe('lines', () => {
  it('are the same however the bytes come', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'grapheme' }).filter((line) => !line.includes('\n'))),
        fc.integer({ min: 1, max: 9 }),
        (lines, size) => {
          const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
          const splitter = new LineSplitter();
          const seen: Line[] = [];
          for (let at = 0; at < bytes.length; at += size)
            seen.push(...splitter.push(bytes.subarray(at, at + size), 100 + at));
          assert.deepEqual(
            seen.map(({ text }) => text),
            lines,
          );
          // Where a line ends, the next one begins, whatever was read when.
          let end = 100;
          for (const [index, line] of lines.entries()) {
            end += Buffer.byteLength(line) + 1;
            assert.equal(seen[index]?.end, end);
            assert.ok(fits(seen[index].check, bytes.subarray(0, end - 100)));
          }
        },
      ),
    );
  });

  it('that never end are handed on in pieces', () => {
    const splitter = new LineSplitter();
    const seen = splitter.push(Buffer.alloc(LINE_BYTES_MAX * 2 + 1, 'x'), 0);
    assert.deepEqual(
      seen.map(({ text, end }) => [text.length, end]),
      [
        [LINE_BYTES_MAX, LINE_BYTES_MAX],
        [LINE_BYTES_MAX, 2 * LINE_BYTES_MAX],
      ],
    );
    assert.deepEqual(
      splitter.rest().map(({ text, end }) => [text, end]),
      [['x', LINE_BYTES_MAX * 2 + 1]],
    );
    assert.deepEqual(splitter.rest(), []);
  });
});
