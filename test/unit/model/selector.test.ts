import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { MusterError } from '../../../src/kit/errors.js';
import {
  assertLabels,
  formatSelector,
  matches,
  parseSelector,
  requireKnown,
  type Selectable,
} from '../../../src/model/selector.js';

const web: Selectable = { id: 'm-1', name: 'web-1', labels: { role: 'web', zone: 'a', env: 'prod' } };
const database: Selectable = { id: 'm-2', name: 'db.example', labels: { role: 'db' } };

function selects(text: string, machine: Selectable): boolean {
  return matches(parseSelector(text), machine);
}

describe('selector', () => {
  it('selects by every form of the grammar', () => {
    const cases: [text: string, web: boolean, database: boolean][] = [
      ['', true, true],
      ['  ', true, true],
      ['role=web', true, false],
      ['role==web', true, false],
      ['role!=web', false, true],
      ['zone!=b', true, true],
      ['role=web,zone!=b,env in (prod,stage),machine=web-*', true, false],
      ['env in (stage)', false, false],
      ['env not in (stage, test)', true, true],
      ['env notin (prod)', false, true],
      ['zone', true, false],
      ['!zone', false, true],
      ['machine=m-2', false, true],
      ['machine=*.example', false, true],
      ['machine in (web-*, db*)', true, true],
      ['role=w*b', true, false],
      ['role = web , zone = a', true, false],
      ['role=', false, false],
      ['innings=1', false, false],
    ];
    for (const [text, first, second] of cases) {
      assert.deepEqual([selects(text, web), selects(text, database)], [first, second], text);
    }
  });

  it('says where it is wrong and what it expected', () => {
    const cases: [text: string, column: number, expected: string][] = [
      ['role=web,', 10, 'a label'],
      ['=web', 1, 'a label'],
      ['env in prod', 8, '"(" after in'],
      ['env in (prod', 13, '"," or ")"'],
      ['env not (prod)', 9, '"in" after not'],
      ['role=web zone=a', 10, '"," or the end'],
      ['role=web;zone', 9, '"," or the end'],
    ];
    for (const [text, column, expected] of cases) {
      assert.throws(
        () => parseSelector(text),
        (error: unknown) =>
          error instanceof MusterError &&
          error.code === 'invalid' &&
          error.message.includes(`column ${column}: expected ${expected}`),
        text,
      );
    }
  });

  it('refuses what is too long', () => {
    assert.throws(() => parseSelector(`a=${'b'.repeat(5000)}`), /at most 4096/);
  });

  it('names the nearest label or machine when nothing has the one asked for', () => {
    const machines = [web, database];
    const known = (text: string): void => {
      requireKnown(parseSelector(text), machines);
    };
    known('role=web,machine=web-1,machine=nothing*');
    assert.throws(() => {
      known('rol=web');
    }, /no machine has the label "rol"\. Did you mean "role"\?/);
    assert.throws(() => {
      known('machine=web-2');
    }, /no machine "web-2"\. Did you mean "web-1"\?/);
    for (const text of ['zzzzzz=1', 'machine=zzzzzz']) {
      assert.throws(() => {
        known(text);
      }, /"zzzzzz"\. See "muster machines" for what there is\.$/);
    }
    requireKnown(parseSelector('rol=web'), []);
  });

  it('is not confused by the prototype of objects', () => {
    assert.equal(selects('constructor', web), false);
    assert.equal(selects('!toString', web), true);
    assert.throws(() => {
      assertLabels(JSON.parse('{"__proto__":"x"}') as Record<string, string>);
    }, /reserved/);
  });

  it('refuses labels that a selector could not name', () => {
    assertLabels({ role: 'web', 'example.com/zone': 'a:b' });
    for (const labels of [
      { machine: 'x' },
      { 'a b': 'x' },
      { a: 'x y' },
      { a: '*' },
      { '': 'x' },
      { a: 'x'.repeat(200) },
    ]) {
      assert.throws(() => {
        assertLabels(labels);
      }, MusterError);
    }
  });

  const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,6}[A-Za-z0-9]$/);
  const value = fc.stringMatching(/^[A-Za-z0-9._*-]{0,8}$/);
  const term = fc.record(
    {
      key: name,
      negated: fc.boolean(),
      values: fc.option(fc.array(value, { minLength: 1, maxLength: 3 }), { nil: undefined }),
    },
    { noNullPrototype: true },
  );

  it('reads back what it writes', () => {
    fc.assert(
      fc.property(fc.array(term, { maxLength: 4 }), (terms) => {
        assert.deepEqual(parseSelector(formatSelector({ terms })).terms, terms);
      }),
    );
  });

  it('matches a pattern as a regular expression would', () => {
    const text = fc.stringMatching(/^[ab]{0,8}$/);
    const pattern = fc.stringMatching(/^[ab*]{0,6}$/);
    fc.assert(
      fc.property(pattern, text, (glob, actual) => {
        const expected = new RegExp(`^${glob.replaceAll('*', '.*')}$`).test(actual);
        const selector = { terms: [{ key: 'k', negated: false, values: [glob] }] };
        assert.equal(matches(selector, { id: '', name: '', labels: { k: actual } }), expected);
      }),
      { numRuns: 2000 },
    );
  });

  it('never throws anything but a MusterError', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), (text) => {
        try {
          parseSelector(text);
        } catch (error) {
          assert.ok(error instanceof MusterError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('answers a pattern full of stars at once', () => {
    assert.equal(selects(`role=${'*a'.repeat(1000)}b`, { ...web, labels: { role: 'a'.repeat(100_000) } }), false);
  });
});
