import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ACTION_STRATEGY,
  BATCH_MAX,
  batchOf,
  budgetOf,
  formatAmount,
  formatOrder,
  readStrategy,
  SEARCH_STRATEGY,
  type StrategyWish,
} from '../../../../src/center/operations/strategy.js';
import { MusterError } from '../../../../src/kit/errors.js';

function refusal(wish: StrategyWish): MusterError {
  try {
    readStrategy(wish, ACTION_STRATEGY);
  } catch (error) {
    assert.ok(error instanceof MusterError);
    return error;
  }
  throw new Error('it was accepted');
}

const fieldsOf = (wish: StrategyWish): string[] => refusal(wish).fields.map(({ field }) => field);

describe('strategy', () => {
  it('takes the defaults for what is not asked for', () => {
    assert.deepEqual(readStrategy({}, ACTION_STRATEGY), ACTION_STRATEGY);
    assert.deepEqual(readStrategy({ batch: '', order: '', bakeMs: 0 }, SEARCH_STRATEGY), SEARCH_STRATEGY);
    assert.deepEqual(ACTION_STRATEGY.budget, { kind: 'count', count: 0 });
    assert.equal(formatAmount(ACTION_STRATEGY.unreachableBudget), '100%');
    assert.equal(formatAmount(SEARCH_STRATEGY.budget), '100%');
  });

  it('reads counts, shares, orders and times', () => {
    const wish = {
      batch: '25%',
      budget: '2',
      unreachableBudget: ' 10% ',
      order: 'label:zone',
      canary: 2,
      bakeMs: 5000,
    };
    const strategy = readStrategy(wish, ACTION_STRATEGY);
    assert.deepEqual(strategy.batch, { kind: 'percent', percent: 25 });
    assert.deepEqual(strategy.budget, { kind: 'count', count: 2 });
    assert.deepEqual(strategy.unreachableBudget, { kind: 'percent', percent: 10 });
    assert.equal(formatOrder(strategy.order), 'label:zone');
    assert.deepEqual([strategy.canary, strategy.bakeMs], [2, 5000]);
    for (const order of ['name', 'random']) {
      assert.equal(formatOrder(readStrategy({ order }, ACTION_STRATEGY).order), order);
    }
  });

  it('names every field that cannot be used, all at once', () => {
    const bad: StrategyWish = {
      batch: '0',
      canary: -1,
      bakeMs: -1,
      budget: '101%',
      unreachableBudget: 'many',
      order: 'size',
      targetTimeoutMs: 25 * 3_600_000,
      timeoutMs: 8 * 24 * 3_600_000,
      queueForMs: Number.NaN,
    };
    const error = refusal(bad);
    assert.equal(error.code, 'invalid');
    assert.equal(error.reason, 'STRATEGY');
    assert.deepEqual(
      error.fields.map(({ field }) => field),
      [
        'batch',
        'canary',
        'bake',
        'budget',
        'unreachable_budget',
        'order',
        'target_timeout',
        'timeout',
        'queue_for',
      ].map((field) => `strategy.${field}`),
    );
    for (const { field } of error.fields) assert.ok(error.message.includes(field), field);
  });

  it('refuses each odd amount, order and canary count by itself', () => {
    for (const batch of ['0', '0%', '-1', '1.5', '101%', '5 %', 'all', '12345678', '٣']) {
      assert.deepEqual(fieldsOf({ batch }), ['strategy.batch'], batch);
    }
    for (const order of ['label:', 'Name', 'zone']) assert.deepEqual(fieldsOf({ order }), ['strategy.order'], order);
    for (const canary of [-1, 0.5, Number.NaN]) assert.deepEqual(fieldsOf({ canary }), ['strategy.canary']);
    assert.deepEqual(fieldsOf({ bakeMs: 1000 }), ['strategy.bake'], 'nothing to bake');
  });

  it('rounds a batch up and a budget down, and keeps a batch between 1 and its bound', () => {
    const percent = (value: number) => ({ kind: 'percent', percent: value }) as const;
    const count = (value: number) => ({ kind: 'count', count: value }) as const;
    assert.deepEqual(
      [batchOf(percent(10), 11), batchOf(percent(1), 3), batchOf(percent(100), 7), batchOf(percent(34), 3)],
      [2, 1, 7, 2],
    );
    assert.equal(batchOf(count(5), 3), 5);
    assert.equal(batchOf(percent(100), 20_000), BATCH_MAX);
    assert.deepEqual(
      [budgetOf(percent(10), 19), budgetOf(percent(0), 5), budgetOf(percent(100), 5), budgetOf(count(3), 2)],
      [1, 0, 5, 3],
    );
  });
});
