import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { freshSeed, seededRandom } from '../../../src/kit/random.js';
import { openMemoryStore } from '../../../src/store/memory.js';
import { OperationsWorld } from '../../support/operations-world.js';

/** Kills of the center and of agents together. */
const KILLS = Number(process.env['MUSTER_OPERATION_MODEL_KILLS'] ?? 300);
const STEPS = 120;

interface Tally {
  center: number;
  agents: number;
  operations: number;
  succeeded: number;
  putBack: number;
}

async function run(seed: number, tally: Tally): Promise<void> {
  const world = new OperationsWorld(await openMemoryStore(), seededRandom(seed));
  for (let step = 0; step < STEPS; step += 1) await world.step();
  const operations = await world.rest();
  world.judge(operations);
  tally.center += world.kills.center;
  tally.agents += world.kills.agents;
  tally.putBack += world.putBack;
  for (const { counts } of operations.ledger.list()) {
    tally.operations += 1;
    tally.succeeded += counts.SUCCEEDED;
  }
}

describe('operations of a center that is killed in the middle of its writes, over agents that are killed too', () => {
  it(`lose no target, start none twice, take turns and end (${KILLS} seeded kills)`, async (t) => {
    const first = Number(process.env['SEED'] ?? freshSeed());
    const tally: Tally = { center: 0, agents: 0, operations: 0, succeeded: 0, putBack: 0 };
    for (let index = 0; tally.center + tally.agents < KILLS; index += 1) {
      const seed = (first + index) >>> 0;
      try {
        await run(seed, tally);
      } catch (error) {
        const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
        throw new Error(`seed ${seed} fails; run it alone with SEED=${seed}: ${why}`, { cause: error });
      }
    }
    t.diagnostic(JSON.stringify(tally));
    assert.ok(tally.operations > KILLS / 50 && tally.succeeded > KILLS / 10, `the runs did too little`);
    assert.ok(tally.putBack > 0, 'nothing was put back');
    assert.ok(tally.center > KILLS / 5 && tally.agents > KILLS / 5, 'too few kills of one kind');
  });
});
