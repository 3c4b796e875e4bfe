import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { freshSeed, randomBetween, seededRandom, type Random } from '../../../../src/kit/random.js';
import type { DeployEnd } from '../../../../src/agent/deploy/deploy.js';
import type { Deploys } from '../../../../src/agent/deploy/deploys.js';
import type { DeployOrder } from '../../../../src/model/release.js';
import type { Store } from '../../../../src/store/port.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { assertWhole, CHECKED, KillPoints, marking, VARIANTS, type Variant } from '../../../support/deploy-kills.js';
import { FakeMachine, newBench, newWorld, openDeploys, type Bench, type World } from '../../../support/deploying.js';

/**
 * A deploy is killed at every point at which it writes or changes anything, and again at points by chance in the processes after. The disk
 * takes the write at which a process is killed, or not.
 */

const seed = Number(process.env['SEED'] ?? freshSeed());
/** More points than any deploy has. */
const ENDLESS = 1_000_000;

interface Round {
  readonly variant: Variant;
  readonly killAt: number;
  readonly random: Random;
}

interface Scene {
  readonly bench: Bench;
  readonly world: World;
  readonly store: Store;
  readonly before: DeployOrder;
  readonly target: DeployOrder;
}

/** What is there before the deploy. */
async function setScene(variant: Variant): Promise<Scene> {
  const bench = await newBench(true);
  const world = newWorld();
  const store = await openMemoryStore();
  const { rollback = false, stopped = false, behaves } = variant;
  const manifest = `${CHECKED}${variant.hook === true ? '\nhooks: { install: [hook] }' : ''}`;
  const before = await bench.shelf.release({ version: '1.0.0', manifest });
  const target = await bench.shelf.release({ version: '2.0.0', behaves: rollback ? 'good' : behaves, manifest });
  const deploys = await openDeploys(bench, store, new FakeMachine(world));
  const earlier = [...(rollback ? [target] : []), ...(variant.before ? [before] : [])];
  for (const [n, one] of earlier.entries()) {
    assert.equal((await deploys.deploy(`e-${n}`, one, () => undefined)).outcome, 'SUCCEEDED');
  }
  if (rollback) world.turned['2.0.0'] = behaves;
  if (stopped) {
    Reflect.deleteProperty(world.running, 'orders');
    world.wanted['orders'] = false;
  }
  world.trace.length = 0;
  return { bench, world, store, before, target };
}

/** Whether the deploy ended before the point came. */
async function killedAt({ variant, killAt, random }: Round): Promise<boolean> {
  const scene = await setScene(variant);
  const { bench, world, store, target } = scene;
  const heard = marking(world);
  const begin = (deploys: Deploys): Promise<DeployEnd> =>
    variant.rollback === true
      ? deploys.rollBack('c-2', 'orders', { version: '2.0.0', release: undefined }, heard)
      : deploys.deploy('c-2', target, heard);
  const live = async (points: KillPoints): Promise<DeployEnd | undefined> => {
    const machine = new FakeMachine(world, () => points.pass());
    const deploys = await openDeploys(bench, points.over(store, random), machine);
    // Without an entry nothing has happened: the command begins anew.
    const work = deploys.find('c-2') ? deploys.resume('c-2', heard) : begin(deploys);
    return Promise.race([work, points.killed.then(() => undefined)]);
  };
  try {
    let end = await live(new KillPoints(killAt));
    const unharmed = end !== undefined;
    while (!end) end = await live(new KillPoints(random.next() < 0.5 ? ENDLESS : randomBetween(random, 1, 12)));
    await assertWhole({ ...scene, variant, before: variant.before ? scene.before : undefined, end });
    return unharmed;
  } finally {
    await bench.clean();
  }
}

describe(`a deploy whose agent is killed at each of its points (SEED=${seed})`, () => {
  for (const variant of VARIANTS) {
    it(variant.name, { timeout: 300_000 }, async (t) => {
      const random = seededRandom(seed);
      let killAt = 1;
      for (; ; killAt += 1) {
        try {
          if (await killedAt({ variant, killAt, random })) break;
        } catch (error) {
          throw new Error(`killed at point ${killAt} (SEED=${seed})`, { cause: error });
        }
      }
      t.diagnostic(`${killAt - 1} points`);
      assert.ok(killAt > 6, 'a deploy has points');
    });
  }
});
