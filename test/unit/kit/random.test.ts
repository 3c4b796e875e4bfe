import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { freshSeed, randomBetween, seededRandom, systemRandom } from '../../../src/kit/random.js';

const draw = (seed: number, count: number): number[] => {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => random.next());
};

describe('random', () => {
  it('repeats for a seed and differs between seeds', () => {
    assert.deepEqual(draw(42, 50), draw(42, 50));
    assert.notDeepEqual(draw(42, 50), draw(43, 50));
  });

  it('is mulberry32: the first values of seed 1 are the published ones', () => {
    assert.deepEqual(
      draw(1, 3).map((value) => Math.floor(value * 2 ** 32)),
      [2_693_262_067, 11_749_833, 2_265_367_787],
    );
  });

  it('stays in [0, 1), spread evenly', () => {
    for (const random of [systemRandom, seededRandom(7)]) {
      let sum = 0;
      for (let count = 0; count < 2000; count += 1) {
        const value = random.next();
        assert.ok(value >= 0 && value < 1);
        sum += value;
      }
      assert.ok(Math.abs(sum / 2000 - 0.5) < 0.05, `mean ${sum / 2000}`);
    }
  });

  it('randomBetween keeps its bounds', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.integer({ min: 0, max: 1000 }),
        fc.integer({ min: 1, max: 1000 }),
        (seed, low, span) => {
          const value = randomBetween(seededRandom(seed), low, low + span);
          assert.ok(Number.isInteger(value) && value >= low && value < low + span);
        },
      ),
    );
  });

  it('freshSeed gives 32-bit numbers that differ', () => {
    const seeds = new Set(Array.from({ length: 20 }, freshSeed));
    assert.ok(seeds.size > 15);
    for (const seed of seeds) assert.ok(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32);
  });
});
