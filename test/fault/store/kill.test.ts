import assert from 'node:assert/strict';
import { it } from 'node:test';
import { join } from 'node:path';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { seedOf, startWriter, temporaryDirectory } from './support.js';
import { judge, type Acknowledgements } from './workload.js';

const KILLS = 30;

it(
  'loses no acknowledged write in 30 kills under load, one after another on the same data',
  { timeout: 600_000 },
  async (t) => {
    const path = join(await temporaryDirectory(t), 'data');
    const seed = seedOf(t);
    const random = seededRandom(seed);
    const acknowledged: Acknowledgements = new Map();
    let total = 0;
    for (let kill = 0; kill < KILLS; kill += 1) {
      const writer = startWriter({ path, seed, batches: 1_000_000 });
      await writer.reached(randomBetween(random, 1, 150));
      writer.child.kill('SIGKILL');
      assert.equal(await writer.ended, '', 'the writer ended by itself');
      total += writer.count();
      for (const [lane, n] of writer.acknowledged) acknowledged.set(lane, n);
      const store = await openLevelStore({ path });
      await judge(store, seed, acknowledged);
      await store.close();
    }
    t.diagnostic(`${total} acknowledged writes, ${KILLS} kills`);
  },
);
