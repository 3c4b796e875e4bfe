import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DOCUMENT_BYTES_MAX, parseConfig } from '../../../src/config/document.js';
import { MusterError } from '../../../src/kit/errors.js';

function mistakesOf(text: string): string[] {
  try {
    parseConfig(text);
  } catch (error) {
    assert.ok(error instanceof MusterError, String(error));
    assert.equal(error.code, 'invalid');
    return error.fields.map((field) => field.description);
  }
  assert.fail('the document was taken');
}

describe('a document', () => {
  it('is YAML or JSON', () => {
    const expected = { greeting: 'Hello', limits: { rps: 10 }, hosts: ['a', null], off: false };
    assert.deepEqual(
      parseConfig('# a comment\ngreeting: Hello\nlimits: { rps: 10 }\nhosts: [a, null]\noff: false\n'),
      expected,
    );
    assert.deepEqual(parseConfig(JSON.stringify(expected)), expected);
  });

  it('may be empty or hold comments alone', () => {
    assert.deepEqual(parseConfig(''), {});
    assert.deepEqual(parseConfig('# nothing yet\n'), {});
  });

  it('is refused with line and column of each mistake', () => {
    assert.match(mistakesOf('a: 1\nb: [1, 2\n')[0] ?? '', /^config:[23]:\d+: /);
    assert.match(mistakesOf('a: 1\na: 2\n')[0] ?? '', /^config:2:1: .*twice/);
    assert.match(mistakesOf('- a\n- b\n')[0] ?? '', /^config:1:1: .*must be a mapping/);
    assert.match(mistakesOf('just text')[0] ?? '', /must be a mapping/);
    const found = mistakesOf('a: .nan\nb:\n  c: [1, .inf]\n  d: 12345678901234567890\n');
    assert.equal(found.length, 3);
    assert.match(found[0] ?? '', /^config:1:4: a: .*not finite/);
    assert.match(found[1] ?? '', /^config:3:10: b\.c\[1\]: .*not finite/);
    assert.match(found[2] ?? '', /^config:4:6: b\.d: .*in quotes/);
  });

  it('is refused where it would change prototypes or break Unicode', () => {
    assert.match(mistakesOf('"__proto__": { a: 1 }')[0] ?? '', /__proto__/);
    assert.match(mistakesOf('{"a": "\\ud800"}')[0] ?? '', /not valid Unicode/);
    assert.match(mistakesOf('{"\\ud800": 1}')[0] ?? '', /not valid Unicode/);
  });

  it('is refused where it is too large', () => {
    assert.throws(() => parseConfig(`a: ${'x'.repeat(DOCUMENT_BYTES_MAX)}`), {
      code: 'invalid',
      reason: 'DOCUMENT_TOO_LARGE',
    });
  });

  it('does not explode by aliases', () => {
    const bomb = ['a: &a [x, x, x, x, x, x, x, x, x, x]', 'b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]'];
    for (let level = 0; level < 6; level += 1) {
      const [from, to] = [String.fromCharCode(98 + level), String.fromCharCode(99 + level)];
      bomb.push(`${to}: &${to} [${Array<string>(10).fill(`*${from}`).join(', ')}]`);
    }
    assert.ok(mistakesOf(bomb.join('\n')).length > 0);
  });
});
