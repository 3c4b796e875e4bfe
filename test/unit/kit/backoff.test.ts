import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Backoff } from '../../../src/kit/backoff.js';
import { seededRandom } from '../../../src/kit/random.js';

const almostOne = { next: () => 0.999_999 };

test('the bound grows by the multiplier up to the maximum', () => {
  const backoff = new Backoff({ initialMs: 100, maxMs: 1000, multiplier: 2 }, almostOne);
  const delays = Array.from({ length: 6 }, () => Math.round(backoff.next()));
  assert.deepEqual(delays, [100, 200, 400, 800, 1000, 1000]);
  assert.equal(backoff.attempt, 6);
});

test('the first delay is already jittered, down to nothing', () => {
  const backoff = new Backoff({ initialMs: 100, maxMs: 1000, multiplier: 2 }, { next: () => 0 });
  assert.equal(backoff.next(), 0);
});

test('reset begins again at the initial bound', () => {
  const backoff = new Backoff({ initialMs: 100, maxMs: 1000, multiplier: 3 }, almostOne);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.attempt, 0);
  assert.equal(Math.round(backoff.next()), 100);
});

test('every delay is below its bound, however many attempts', () => {
  fc.assert(
    fc.property(
      fc.record({
        initialMs: fc.integer({ min: 1, max: 10_000 }),
        maxMs: fc.integer({ min: 1, max: 600_000 }),
        multiplier: fc.double({ min: 1, max: 10, noNaN: true }),
      }),
      fc.integer(),
      (options, seed) => {
        const backoff = new Backoff(options, seededRandom(seed));
        for (let attempt = 0; attempt < 2000; attempt += 1) {
          const delayMs = backoff.next();
          assert.ok(delayMs >= 0 && delayMs < options.maxMs, `attempt ${attempt}: ${delayMs}`);
        }
      },
    ),
    { numRuns: 20 },
  );
});
