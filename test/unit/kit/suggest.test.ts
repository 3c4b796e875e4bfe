import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { didYouMean, nearest } from '../../../src/kit/suggest.js';

const known = ['greeter', 'gateway', 'queue', 'web-1'];

describe('nearest', () => {
  for (const [typed, name] of [
    ['greeter', 'greeter'],
    ['greter', 'greeter'],
    ['greeetr', 'greeter'],
    ['qeuue', 'queue'],
    ['GATEWAY', 'gateway'],
    ['web1', 'web-1'],
  ] as const) {
    it(`takes ${typed} for ${name}`, () => {
      assert.equal(nearest(typed, known), name);
    });
  }

  it('says nothing where nothing is near', () => {
    assert.equal(nearest('database', known), undefined);
    assert.equal(nearest('greeter', []), undefined);
    assert.equal(nearest('', known), undefined);
  });

  it('does not look at what nobody would type, however near', () => {
    const long = 'x'.repeat(101);
    assert.equal(nearest(long, [long]), undefined);
    assert.equal(nearest('x'.repeat(100), ['x'.repeat(99)]), 'x'.repeat(99));
  });

  it('looks at the first names alone where there are very many', () => {
    const many = Array.from({ length: 5000 }, (_, index) => `topic-${10_000 + index}`);
    assert.equal(nearest('gateway', [...many, 'gateway']), undefined);
  });

  it('takes the nearest of several, the first of equals', () => {
    assert.equal(nearest('web-2', ['web-11', 'web-1']), 'web-1');
    assert.equal(nearest('web-3', ['web-1', 'web-2']), 'web-1');
  });
});

describe('didYouMean', () => {
  it('is a sentence to append, or nothing', () => {
    assert.equal(didYouMean('greter', known), ' Did you mean "greeter"?');
    assert.equal(didYouMean('database', known), '');
  });
});
