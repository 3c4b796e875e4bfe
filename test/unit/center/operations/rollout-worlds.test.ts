import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { planRollout } from '../../../../src/center/operations/rollout.js';
import { ACTION_STRATEGY, type Amount, type Strategy } from '../../../../src/center/operations/strategy.js';
import { freshSeed, seededRandom } from '../../../../src/kit/random.js';
import { OUTCOMES } from '../../../../src/model/instance.js';
import { RolloutWorld, type Fate } from '../../../support/rollout-world.js';

const WORLDS = Number(process.env['MUSTER_ROLLOUT_WORLDS'] ?? 10_000);
const EVENTS = 25;
const HANGS_MS = 1e9;

const amount = (least: number): fc.Arbitrary<Amount> =>
  fc.oneof(
    fc.integer({ min: least, max: 4 }).map((count): Amount => ({ kind: 'count', count })),
    fc.integer({ min: least, max: 100 }).map((percent): Amount => ({ kind: 'percent', percent })),
  );

const strategies: fc.Arbitrary<Strategy> = fc
  .record({
    batch: amount(1),
    canary: fc.integer({ min: 0, max: 3 }),
    bakeMs: fc.constantFrom(0, 0, 300),
    budget: amount(0),
    unreachableBudget: amount(0),
    targetTimeoutMs: fc.constantFrom(500, 5000),
    timeoutMs: fc.constantFrom(1500, 50_000, 50_000),
    queueForMs: fc.constantFrom(50, 700),
  })
  .map((wish) => ({ ...ACTION_STRATEGY, ...wish, bakeMs: wish.canary === 0 ? 0 : wish.bakeMs }));

const fates: fc.Arbitrary<Fate> = fc.record({
  end: fc.constantFrom('SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED', 'FAILED', 'UNKNOWN'),
  startsInMs: fc.constantFrom(0, 10, 200, 900),
  lastsMs: fc.constantFrom(0, 20, 300, HANGS_MS),
  connected: fc.constantFrom(true, true, true, false),
  tooOld: fc.constantFrom(false, false, false, false, false, true),
});

const worlds = fc.record({
  strategy: strategies,
  patienceMs: fc.constantFrom(100, 1000),
  fates: fc.array(fates, { minLength: 1, maxLength: 8 }),
  seed: fc.integer({ min: 0, max: 2 ** 31 }),
});

/** Plans and takes steps until only time or somebody can bring more. */
function follow(world: RolloutWorld): number | undefined {
  for (let plans = 0; plans < 10; plans += 1) {
    const plan = planRollout(world.view(), world.nowMs);
    world.judge(plan);
    if (plan.steps.length === 0) return plan.wakeMs;
    const before = world.print();
    for (const step of plan.steps) world.take(step);
    if (world.ended) return undefined;
    assert.notEqual(world.print(), before, `steps that change nothing: ${JSON.stringify(plan.steps)}`);
  }
  throw new Error('it plans again and again');
}

/** Nothing more happens by chance: time, the agents and the people's last decisions bring it to its end. */
function bringToEnd(world: RolloutWorld): void {
  world.paused = false;
  const most = 20 + 10 * world.machines.length;
  for (let rounds = 0; rounds < most; rounds += 1) {
    const wakeMs = follow(world);
    if (world.ended) return;
    const next = Math.min(wakeMs ?? Infinity, world.nextAgentMs() ?? Infinity);
    assert.ok(Number.isFinite(next), 'nothing will ever bring it to its end');
    world.pass(Math.max(0, next - world.nowMs));
  }
  throw new Error(`it has not ended after ${most} rounds`);
}

describe('a rollout in simulated worlds', () => {
  it(`keeps its promises and comes to its end (${WORLDS} worlds)`, () => {
    const seed = Number(process.env['SEED'] ?? freshSeed()) | 0;
    const ends = { succeeded: 0, stopped: 0, baked: 0 };
    fc.assert(
      fc.property(worlds, ({ strategy, patienceMs, fates: all, seed: chance }) => {
        const random = seededRandom(chance);
        const world = new RolloutWorld({ strategy, patienceMs, fates: all, random });
        follow(world);
        for (let event = 0; event < EVENTS && !world.ended; event += 1) {
          world.happen();
          follow(world);
        }
        if (!world.ended) bringToEnd(world);
        ends.succeeded += world.count('SUCCEEDED') === all.length ? 1 : 0;
        ends.stopped += world.stop ? 1 : 0;
        ends.baked += world.bakeUntilMs === undefined ? 0 : 1;
        assert.equal(
          OUTCOMES.reduce((sum, outcome) => sum + world.count(outcome), 0),
          all.length,
        );
        // Whatever comes back after the end is not sent again.
        for (const machine of world.machines) world.find(machine);
      }),
      { numRuns: WORLDS, seed, includeErrorInReport: true },
    );
    for (const [what, count] of Object.entries(ends)) assert.ok(count > WORLDS / 100, `only ${count} worlds ${what}`);
  });
});
