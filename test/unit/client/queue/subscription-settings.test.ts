import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkedSettings, type SubscriptionSettings } from '../../../../src/client/queue/subscription-settings.js';
import { isCode } from '../../../../src/kit/errors.js';

describe('settings of a subscription to be made', () => {
  it('are taken as they are', () => {
    const time = new Date(0);
    const backoff = { initialMs: 1, maxMs: 60_000, multiplier: 1.5 };
    const starts = ['earliest', 'latest', { sequence: 0 }, { time }] as const;
    for (const start of starts) {
      const settings = { start, leaseMs: 1_000, maxAttempts: 0, backoff, expireAfterIdleMs: 0, ordered: true };
      assert.deepEqual(checkedSettings(settings), settings);
    }
    assert.deepEqual(checkedSettings({}), {});
  });

  it('that cannot be sent are refused by name', () => {
    const bad: readonly (readonly [unknown, string])[] = [
      [{ start: 'yesterday' }, 'create.start'],
      [{ start: null }, 'create.start'],
      [{ start: { sequence: -1 } }, 'create.start'],
      [{ start: { sequence: '1' } }, 'create.start'],
      [{ start: { time: '2026-01-01' } }, 'create.start'],
      [{ start: { time: new Date(NaN) } }, 'create.start'],
      [{ leaseMs: 10 }, 'create.leaseMs'],
      [{ leaseMs: '30s' }, 'create.leaseMs'],
      [{ maxAttempts: -1 }, 'create.maxAttempts'],
      [{ backoff: { initialMs: NaN } }, 'create.backoff.initialMs'],
      [{ expireAfterIdleMs: Infinity }, 'create.expireAfterIdleMs'],
    ];
    for (const [settings, field] of bad) {
      assert.throws(
        () => checkedSettings(settings as SubscriptionSettings),
        (error: unknown) => isCode(error, 'invalid') && error.fields[0]?.field === field,
        field,
      );
    }
  });
});
