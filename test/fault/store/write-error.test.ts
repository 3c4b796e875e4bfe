import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { has, seedOf, startWriter, temporaryDirectory } from './support.js';
import { judge } from './workload.js';

it('stops at the first fdatasync that fails with EIO, and has kept every acknowledged write', async (t) => {
  if (!has('strace')) {
    t.skip('needs strace');
    return;
  }
  const seed = seedOf(t);
  const random = seededRandom(seed);
  for (let round = 0; round < 4; round += 1) {
    const path = join(await temporaryDirectory(t), 'data');
    const when = randomBetween(random, 5, 60);
    const under = [
      'strace',
      '-f',
      '-qq',
      '-o',
      '/dev/null',
      '-e',
      'trace=fdatasync',
      '-e',
      `inject=fdatasync:error=EIO:when=${when}`,
    ];
    const writer = startWriter({ path, seed, batches: 300, under });
    assert.equal(await writer.ended, 'failed unavailable stopped', `fdatasync ${when}`);
    const store = await openLevelStore({ path });
    await judge(store, seed, writer.acknowledged);
    await store.close();
    t.diagnostic(`fdatasync ${when} failed after ${writer.count()} acknowledged writes`);
  }
});
