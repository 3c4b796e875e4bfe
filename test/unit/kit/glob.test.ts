import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { matchesGlob } from '../../../src/kit/glob.js';

describe('a pattern with stars', () => {
  it('matches the whole text, a star standing for any characters or none', () => {
    const cases: [pattern: string, text: string, matches: boolean][] = [
      ['', '', true],
      ['', 'a', false],
      ['*', '', true],
      ['*', 'anything', true],
      ['a*', 'a', true],
      ['a*', 'ba', false],
      ['*a', 'ba', true],
      ['a*a', 'a', false],
      ['a*a', 'aa', true],
      ['a*b*c', 'a-b-b-c', true],
      ['a*b*c', 'a-c-b', false],
      ['**', 'x', true],
      ['a.c', 'abc', false],
      ['[a]', 'a', false],
    ];
    for (const [pattern, text, matches] of cases)
      assert.equal(matchesGlob(pattern, text), matches, `${pattern} ${text}`);
  });

  it('takes no time over many stars that nearly match', () => {
    const startedMs = performance.now();
    assert.equal(matchesGlob(`${'*a'.repeat(5000)}*b`, 'a'.repeat(20_000)), false);
    assert.ok(performance.now() - startedMs < 1000);
  });
});
