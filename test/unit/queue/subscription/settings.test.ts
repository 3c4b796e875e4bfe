import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../../src/kit/errors.js';
import { backoffMs, subscriptionSettings, type WantedSettings } from '../../../../src/queue/subscription/settings.js';

/** The fields that are refused. */
function refused(wanted: WantedSettings): string[] {
  try {
    subscriptionSettings(wanted);
    return [];
  } catch (error) {
    assert.ok(error instanceof MusterError && error.code === 'invalid');
    return error.fields.map(({ field }) => field);
  }
}

describe('settings of a subscription', () => {
  it('have defaults', () => {
    assert.deepEqual(subscriptionSettings({}), {
      start: { at: 'latest' },
      leaseMs: 30_000,
      maxAttempts: 0,
      backoff: { initialMs: 1000, maxMs: 300_000, multiplier: 2 },
      ordered: false,
      expireAfterIdleMs: 0,
      paused: false,
    });
  });

  it('keep what was asked for', () => {
    const wanted = {
      start: { at: 'sequence', sequence: 12 } as const,
      leaseMs: 43_200_000,
      maxAttempts: 5,
      backoff: { initialMs: 0, maxMs: 0, multiplier: 1 },
      ordered: true,
      expireAfterIdleMs: 1000,
      paused: true,
    };
    assert.deepEqual(subscriptionSettings(wanted), wanted);
  });

  it('fit a backoff of which one end was given', () => {
    assert.deepEqual(subscriptionSettings({ backoff: { maxMs: 200 } }).backoff.initialMs, 200);
    assert.deepEqual(subscriptionSettings({ backoff: { initialMs: 3_600_000 } }).backoff.maxMs, 3_600_000);
  });

  it('out of bounds are refused by name', () => {
    assert.deepEqual(refused({ leaseMs: 999 }), ['lease']);
    assert.deepEqual(refused({ leaseMs: 43_200_001 }), ['lease']);
    assert.deepEqual(refused({ maxAttempts: -1 }), ['max_attempts']);
    assert.deepEqual(refused({ maxAttempts: 1.5 }), ['max_attempts']);
    assert.deepEqual(refused({ backoff: { initialMs: 500, maxMs: 400 } }), ['backoff.initial']);
    assert.deepEqual(refused({ backoff: { initialMs: -1 } }), ['backoff.initial']);
    assert.deepEqual(refused({ backoff: { maxMs: 86_400_001 } }), ['backoff.max']);
    assert.deepEqual(refused({ backoff: { multiplier: 0.5 } }), ['backoff.multiplier']);
    assert.deepEqual(refused({ backoff: { multiplier: NaN } }), ['backoff.multiplier']);
    assert.deepEqual(refused({ expireAfterIdleMs: 10 }), ['expire_after_idle']);
    assert.deepEqual(refused({ start: { at: 'sequence', sequence: -1 } }), ['start.sequence']);
    assert.deepEqual(refused({ leaseMs: NaN, maxAttempts: -1 }), ['lease', 'max_attempts']);
  });
});

it('a backoff grows up to its end', () => {
  const backoff = { initialMs: 1000, maxMs: 300_000, multiplier: 2 };
  assert.deepEqual(
    [1, 2, 3, 9, 10, 5000].map((attempts) => backoffMs(backoff, attempts)),
    [1000, 2000, 4000, 256_000, 300_000, 300_000],
  );
  assert.equal(backoffMs({ initialMs: 0, maxMs: 0, multiplier: 1000 }, 5000), 0);
});
