import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { planRollout, type Rollout, type RolloutTarget, type Step } from '../../../../src/center/operations/rollout.js';
import { ACTION_STRATEGY, type Strategy } from '../../../../src/center/operations/strategy.js';
import type { Outcome } from '../../../../src/model/instance.js';

const NOW = 1_000_000;

function target(name: string, outcome: Outcome, facts: Partial<RolloutTarget> = {}): RolloutTarget {
  const sent = outcome !== 'PENDING' && outcome !== 'QUEUED';
  return {
    id: name,
    name,
    outcome,
    canary: false,
    connected: true,
    settled: outcome === 'SUCCEEDED' || outcome === 'FAILED' || outcome === 'EXPIRED' || outcome === 'CANCELLED',
    orderedMs: sent ? NOW - 1000 : undefined,
    queuedUntilMs: undefined,
    unknownSinceMs: outcome === 'UNKNOWN' ? NOW - 1000 : undefined,
    cancelling: false,
    recallable: outcome !== 'STARTED',
    problem: undefined,
    illness: undefined,
    awaySinceMs: undefined,
    ...facts,
  };
}

function rollout(
  targets: readonly RolloutTarget[],
  { strategy, ...facts }: Partial<Omit<Rollout, 'strategy'>> & { readonly strategy?: Partial<Strategy> } = {},
): Rollout {
  return {
    startedMs: NOW - 5000,
    paused: false,
    stop: undefined,
    bakeUntilMs: undefined,
    patienceMs: 30_000,
    ...facts,
    targets,
    strategy: { ...ACTION_STRATEGY, ...strategy },
  };
}

function words(step: Step): string {
  if (step.kind === 'stop') return `stop ${step.stop.cause}`;
  return 'target' in step ? `${step.kind} ${step.target}` : step.kind;
}

function steps(...given: Parameters<typeof rollout>): string[] {
  return planRollout(rollout(...given), NOW).steps.map(words);
}

const batch = (count: number) => ({ batch: { kind: 'count', count } as const });
const budget = (count: number) => ({ budget: { kind: 'count', count } as const });

describe('a rollout', () => {
  it('orders as many as the batch has places, in order, and refills it as outcomes arrive', () => {
    const [a, b, c] = ['a', 'b', 'c'].map((name) => target(name, 'PENDING'));
    assert.ok(a && b && c);
    assert.deepEqual(steps([a, b, c], { strategy: batch(2) }), ['order a', 'order b']);
    assert.deepEqual(steps([target('a', 'STARTED'), target('b', 'SUCCEEDED'), c], { strategy: batch(2) }), ['order c']);
    assert.deepEqual(steps([target('a', 'STARTED'), target('b', 'DELIVERED'), c], { strategy: batch(2) }), []);
  });

  it('counts what was lost a moment ago as under way, and frees its place when patience or its time is over', () => {
    const waiting = target('b', 'PENDING');
    const lost = (sinceMs: number, orderedMs = sinceMs): RolloutTarget =>
      target('a', 'UNKNOWN', { unknownSinceMs: NOW - sinceMs, orderedMs: NOW - orderedMs });
    assert.deepEqual(steps([lost(29_999), waiting], { strategy: batch(1) }), []);
    assert.deepEqual(steps([lost(30_000), waiting], { strategy: batch(1) }), ['order b']);
    assert.deepEqual(steps([lost(1000, 600_000), waiting], { strategy: batch(1) }), ['order b']);
    assert.deepEqual(steps([target('a', 'UNKNOWN', { settled: true }), waiting], { strategy: batch(1) }), ['order b']);
  });

  it('lets who is away wait without taking a place, until it is back or its time is over', () => {
    const away = { connected: false };
    const waits = { ...away, queuedUntilMs: NOW + 1 };
    assert.deepEqual(steps([target('a', 'PENDING', away), target('b', 'PENDING')], { strategy: batch(1) }), [
      'queue a',
      'order b',
    ]);
    assert.deepEqual(steps([target('a', 'QUEUED', waits), target('b', 'STARTED')]), []);
    assert.deepEqual(steps([target('a', 'QUEUED', { ...waits, connected: true })]), ['order a']);
    assert.deepEqual(steps([target('a', 'QUEUED', { ...waits, queuedUntilMs: NOW }), target('b', 'STARTED')]), [
      'expire a',
    ]);
    const back = { connected: true, queuedUntilMs: NOW - 1 };
    assert.deepEqual(steps([target('a', 'QUEUED', back), target('b', 'STARTED')], { strategy: batch(1) }), []);
    assert.equal(planRollout(rollout([target('a', 'QUEUED', waits)]), NOW).wakeMs, NOW + 1);
  });

  it('fails a target that cannot be ordered, without a place', () => {
    const old = target('a', 'PENDING', { problem: 'its agent is too old' });
    assert.deepEqual(steps([old, target('b', 'PENDING')], { strategy: { ...batch(1), ...budget(1) } }), [
      'refuse a',
      'order b',
    ]);
  });

  it('gives up a target that takes too long', () => {
    const slow = target('a', 'STARTED', { orderedMs: NOW - ACTION_STRATEGY.targetTimeoutMs });
    const [step] = planRollout(rollout([slow]), NOW).steps;
    assert.ok(step?.kind === 'give up');
    assert.equal(step.why, 'it did not end within 10m; its agent will say how it ends');
  });

  it('stops when more failed than the budget bears, and tells failed from out of reach', () => {
    const failed = [target('a', 'FAILED'), target('b', 'PENDING')];
    assert.deepEqual(steps(failed), ['stop budget']);
    assert.deepEqual(steps(failed, { strategy: budget(1) }), ['order b']);
    const gone = [target('a', 'EXPIRED'), target('b', 'UNKNOWN', { settled: true }), target('c', 'PENDING')];
    assert.deepEqual(steps(gone), ['order c'], 'what is out of reach has not failed');
    const strategy = { unreachableBudget: { kind: 'count', count: 1 } } as const;
    const [stop] = planRollout(rollout(gone, { strategy }), NOW).steps;
    assert.ok(stop?.kind === 'stop');
    assert.equal(stop.stop.message, '2 of 3 targets are out of reach, more than the budget of 1');
    assert.deepEqual(steps(failed, { paused: true }), ['stop budget'], 'also in a pause');
  });

  it('waits for all canaries, and stops when one does not succeed', () => {
    const others = [target('c', 'PENDING'), target('d', 'PENDING')];
    const canary = (name: string, outcome: Outcome): RolloutTarget => target(name, outcome, { canary: true });
    assert.deepEqual(steps([canary('a', 'PENDING'), ...others]), ['order a']);
    assert.deepEqual(steps([canary('a', 'SUCCEEDED'), canary('b', 'STARTED'), ...others]), []);
    assert.deepEqual(steps([canary('a', 'SUCCEEDED'), ...others]), ['order c', 'order d']);
    for (const outcome of ['FAILED', 'EXPIRED', 'CANCELLED'] as const) {
      assert.deepEqual(steps([canary('a', outcome), ...others], { strategy: budget(9) }), ['stop canary'], outcome);
    }
  });

  it('looks at the canaries for the time of the bake, stops when one is ill, and waits for one that cannot be seen', () => {
    const strategy = { bakeMs: 60_000, canary: 1 };
    const other = target('b', 'PENDING');
    const canary = (facts: Partial<RolloutTarget> = {}): RolloutTarget =>
      target('a', 'SUCCEEDED', { canary: true, ...facts });
    assert.deepEqual(planRollout(rollout([canary(), other], { strategy }), NOW).steps, [
      { kind: 'bake', untilMs: NOW + 60_000 },
    ]);
    assert.deepEqual(steps([canary(), other], { strategy, bakeUntilMs: NOW + 1 }), []);
    assert.deepEqual(steps([canary()], { strategy, bakeUntilMs: NOW + 1 }), [], 'it has not ended');
    assert.deepEqual(steps([canary(), other], { strategy, bakeUntilMs: NOW }), ['order b']);
    const ill = canary({ illness: 'it is FATAL' });
    assert.deepEqual(steps([ill, other], { strategy, bakeUntilMs: NOW + 1 }), ['stop canary']);
    assert.deepEqual(steps([canary({ awaySinceMs: NOW - 1 }), other], { strategy, bakeUntilMs: NOW }), []);
    assert.deepEqual(steps([canary({ awaySinceMs: NOW - 30_000 }), other], { strategy, bakeUntilMs: NOW }), [
      'stop canary',
    ]);
    const begun = [ill, target('b', 'STARTED'), target('c', 'PENDING')];
    assert.deepEqual(steps(begun, { strategy, bakeUntilMs: NOW }), ['order c'], 'the canaries have done their duty');
  });

  it('orders nothing in a pause, though what is due is done', () => {
    const late = target('b', 'QUEUED', { connected: false, queuedUntilMs: NOW });
    assert.deepEqual(steps([target('a', 'PENDING'), late], { paused: true }), ['expire b']);
    assert.equal(planRollout(rollout([target('a', 'PENDING')], { paused: true }), NOW).wakeMs, NOW - 5000 + 86_400_000);
  });

  it('after a stop spares what waits and takes back what is lost; a person takes back what is under way too', () => {
    const targets = [
      target('waits', 'PENDING'),
      target('queued', 'QUEUED', { connected: false, queuedUntilMs: NOW + 1 }),
      target('sent', 'DELIVERED'),
      target('runs', 'STARTED'),
      target('lost', 'UNKNOWN'),
      target('lost running', 'UNKNOWN', { recallable: false }),
      target('asked', 'DELIVERED', { cancelling: true }),
    ];
    const stop = (cause: 'budget' | 'cancelled') => ({ stop: { cause, message: 'enough' } });
    const spared = ['cancel waits', 'cancel queued', 'cancel lost'];
    assert.deepEqual(steps(targets, stop('budget')).sort(), [...spared].sort());
    assert.deepEqual(steps(targets, stop('cancelled')).sort(), [...spared, 'cancel sent'].sort());
    assert.deepEqual(steps([target('runs', 'STARTED')], stop('cancelled')), [], 'it is waited for');
  });

  it('stops at its deadline unless all is over', () => {
    const facts = { startedMs: NOW - ACTION_STRATEGY.timeoutMs };
    assert.deepEqual(steps([target('a', 'STARTED')], facts), ['stop deadline']);
    assert.deepEqual(steps([target('a', 'PENDING')], { ...facts, paused: true }), ['stop deadline']);
    assert.deepEqual(steps([target('a', 'SUCCEEDED')], facts), ['end']);
  });

  it('ends when nothing waits and nothing is under way; what may not have started is cancelled first', () => {
    assert.deepEqual(steps([target('a', 'SUCCEEDED'), target('b', 'CANCELLED')]), ['end']);
    const lost = { unknownSinceMs: NOW - 30_000 };
    assert.deepEqual(steps([target('a', 'UNKNOWN', lost)]), ['cancel a']);
    assert.deepEqual(steps([target('a', 'UNKNOWN', { ...lost, cancelling: true })]), ['end']);
    assert.deepEqual(steps([target('a', 'UNKNOWN', { ...lost, recallable: false })]), ['end']);
  });
});
