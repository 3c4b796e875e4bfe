import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { inert, inertLine } from '../../../src/cli/inert.js';
import { ago, clockTime, enumWord, Output, renderTable } from '../../../src/cli/output.js';
import { fakeIo } from '../../support/io.js';

describe('text from others', () => {
  it('shows what would act on a terminal instead of doing it', () => {
    assert.equal(inert('\u001b[31mred\u0007'), '\\x1b[31mred\\x07');
    assert.equal(inert('abc\u202edef\u2066'), 'abc\\u202edef\\u2066');
    assert.equal(inert('a\tb\nc'), 'a\tb\nc');
    assert.equal(inertLine('a\nb'), 'a b');
  });

  it('never lets a control or bidi character through', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        assert.doesNotMatch(inertLine(text), /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
      }),
    );
  });
});

describe('lines', () => {
  it('are inert, whoever wrote their parts', async () => {
    const io = fakeIo({ home: '/nowhere' });
    const output = new Output(io, {});
    await output.line('a\u001b[2Jb\u202ec\nd');
    await output.note('x\u0007');
    assert.equal(io.written(), 'a\\x1b[2Jb\\u202ec\nd\n');
    assert.equal(io.complained(), 'x\\x07\n');
  });
});

describe('tables', () => {
  it('align, and show an empty cell as a dash', () => {
    const text = renderTable(
      [
        { name: 'a', count: '1' },
        { name: 'long', count: '' },
      ],
      [
        { heading: 'NAME', text: (row) => row.name },
        { heading: 'COUNT', text: (row) => row.count, right: true },
      ],
    );
    const plain = text.replaceAll(/\u001b\[\d+m/g, '');
    assert.equal(plain, 'NAME  COUNT\na         1\nlong      -\n');
  });

  it('keep a hostile cell on its line', () => {
    const text = renderTable([{ name: 'x\u001b[2J\ny' }], [{ heading: 'NAME', text: (row) => row.name }]);
    assert.match(text, /x\\x1b\[2J y/);
  });
});

describe('times and words', () => {
  it('says how long ago', () => {
    assert.equal(ago(new Date(1000), 201_000), '3m 20s');
    assert.equal(ago(undefined, 5), '-');
    assert.equal(ago(new Date(9000), 1000), '0ms');
  });

  it('shows the time today and the date before', () => {
    const now = new Date(2026, 10, 23, 14, 2, 9);
    assert.equal(clockTime(now, now.getTime()), '14:02:09');
    assert.equal(clockTime(new Date(2026, 10, 20, 9, 5), now.getTime()), '2026-11-20 09:05');
  });

  it('takes the last word of an enum', () => {
    assert.equal(enumWord('SERVICE_STATE', 'SERVICE_STATE_RUNNING'), 'RUNNING');
    assert.equal(enumWord('SERVICE_STATE', 'UNRECOGNIZED'), 'UNRECOGNIZED');
  });
});
