import assert from 'node:assert/strict';
import { it } from 'node:test';
import { join } from 'node:path';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { seedOf, startWriter, temporaryDirectory } from './support.js';
import { judge, type Acknowledgements } from './workload.js';

const KILLS = Number(process.env['MUSTER_STORE_KILLS'] ?? 15);

it(
  `loses no acknowledged write in ${KILLS} kills under load, one after another on the same data`,
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

it('lets one of several processes that start at once have the directory, also over the lock of a killed one', async (t) => {
  const path = join(await temporaryDirectory(t), 'data');
  const seed = seedOf(t);
  const acknowledged: Acknowledgements = new Map();
  for (let round = 0; round < 6; round += 1) {
    const writers = Array.from({ length: 4 }, () => startWriter({ path, seed, batches: 1_000_000 }));
    // The losers end by themselves; the winner writes until it is killed.
    const ends = writers.map((writer) => writer.ended);
    const refused = new Set<number>();
    ends.forEach((end, index) => void end.then(() => refused.add(index)));
    while (refused.size < writers.length - 1) await Promise.race(ends.filter((_, index) => !refused.has(index)));
    const winner = writers.find((_, index) => !refused.has(index));
    await winner?.reached(20);
    winner?.child.kill('SIGKILL');
    const lasts = await Promise.all(ends);
    assert.equal(lasts.filter((last) => last === 'refused precondition').length, writers.length - 1, lasts.join());
    const started = writers.filter((writer) => writer.count() > 0);
    assert.deepEqual(started, [winner], 'several processes wrote');
    for (const [lane, n] of started[0]?.acknowledged ?? []) acknowledged.set(lane, n);
  }
  const store = await openLevelStore({ path });
  await judge(store, seed, acknowledged);
  await store.close();
});
