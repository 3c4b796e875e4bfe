import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Verdict } from '../../../../src/agent/probes/answer.js';
import { NOT_RUN, stand, type Standing, type Thresholds } from '../../../../src/agent/probes/threshold.js';
import type { Health } from '../../../../src/model/instance.js';

const verdicts = fc.array(fc.constantFrom<Verdict>('pass', 'warn', 'fail'), { maxLength: 40 });
const thresholds = fc.record({ failures: fc.integer({ min: 1, max: 5 }), successes: fc.integer({ min: 1, max: 5 }) });

function healths(results: readonly Verdict[], limits: Thresholds): Health[] {
  const seen: Health[] = [];
  let standing: Standing = NOT_RUN;
  for (const verdict of results) {
    standing = stand(standing, verdict, limits);
    seen.push(standing.health);
  }
  return seen;
}

/** Results at the end that are like `wanted`. */
function run(results: readonly Verdict[], wanted: (verdict: Verdict) => boolean): number {
  let length = 0;
  while (length < results.length && wanted(results[results.length - 1 - length] ?? 'fail')) length += 1;
  return length;
}

describe('thresholds', () => {
  it('failures are WARNING until there are enough in a row, then CRITICAL until enough passes in a row', () => {
    assert.deepEqual(
      healths(['pass', 'fail', 'fail', 'fail', 'pass', 'fail', 'pass', 'pass'], { failures: 3, successes: 2 }),
      ['PASSING', 'WARNING', 'WARNING', 'CRITICAL', 'CRITICAL', 'CRITICAL', 'CRITICAL', 'PASSING'],
    );
  });

  it('a first pass needs no second one', () => {
    assert.deepEqual(healths(['pass'], { failures: 3, successes: 5 }), ['PASSING']);
  });

  it("the service's own warning is WARNING at once, and no failure", () => {
    assert.deepEqual(healths(['fail', 'fail', 'warn', 'fail', 'warn', 'pass'], { failures: 3, successes: 1 }), [
      'WARNING',
      'WARNING',
      'WARNING',
      'WARNING',
      'WARNING',
      'PASSING',
    ]);
  });

  it('CRITICAL comes exactly with enough failures in a row, and leaves exactly with enough results that are none', () => {
    fc.assert(
      fc.property(verdicts, thresholds, (results, limits) => {
        let critical = false;
        const seen = healths(results, limits);
        for (const [index, health] of seen.entries()) {
          const sofar = results.slice(0, index + 1);
          if (run(sofar, (verdict) => verdict === 'fail') >= limits.failures) critical = true;
          if (run(sofar, (verdict) => verdict !== 'fail') >= limits.successes) critical = false;
          assert.equal(health === 'CRITICAL', critical, `after ${sofar.join(' ')}`);
        }
      }),
    );
  });

  it('PASSING is only said after a pass, never UNKNOWN after a result', () => {
    fc.assert(
      fc.property(verdicts, thresholds, (results, limits) => {
        for (const [index, health] of healths(results, limits).entries()) {
          assert.notEqual(health, 'UNKNOWN');
          if (health === 'PASSING') assert.equal(results[index], 'pass');
        }
      }),
    );
  });

  it('any state is left by enough passes, and comes to CRITICAL by enough failures', () => {
    fc.assert(
      fc.property(verdicts, thresholds, (results, limits) => {
        const passes = Array.from({ length: limits.successes }, (): Verdict => 'pass');
        const failures = Array.from({ length: limits.failures }, (): Verdict => 'fail');
        assert.equal(healths([...results, ...passes], limits).at(-1), 'PASSING');
        assert.equal(healths([...results, ...failures], limits).at(-1), 'CRITICAL');
      }),
    );
  });

  it('the streak counts results like the last one', () => {
    let standing = NOT_RUN;
    const streaks = (['pass', 'pass', 'fail', 'pass'] as const).map((verdict) => {
      standing = stand(standing, verdict, { failures: 3, successes: 1 });
      return standing.streak;
    });
    assert.deepEqual(streaks, [1, 2, 1, 1]);
  });
});
