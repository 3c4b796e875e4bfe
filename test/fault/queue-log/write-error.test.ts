import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { openQueueLog } from '../../../src/queue/log/leveldb-log.js';
import { has, seedOf, startWriter, temporaryDirectory } from '../store/support.js';
import { judge } from './workload.js';

const WRITER = join(import.meta.dirname, 'writer');
const ROUNDS = 4;

it(
  'stops at the first fdatasync that fails with EIO, and has kept every acknowledged commit',
  { timeout: 300_000 },
  async (t) => {
    if (!has('strace')) {
      t.skip('needs strace');
      return;
    }
    const seed = seedOf(t);
    const random = seededRandom(seed);
    for (let round = 0; round < ROUNDS; round += 1) {
      const path = join(await temporaryDirectory(t), 'data');
      const when = randomBetween(random, 5, 60);
      const inject = `inject=fdatasync:error=EIO:when=${when}`;
      const under = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fdatasync', '-e', inject];
      const writer = startWriter({ path, seed, batches: 300, under, program: WRITER });
      assert.equal(await writer.ended, 'failed unavailable LOG_FAILED stopped', `fdatasync ${when}`);
      const log = await openQueueLog({ path });
      const found = await judge(log, seed, writer.acknowledged.get(0) ?? 0);
      await log.close();
      t.diagnostic(`fdatasync ${when} failed after ${writer.count()} acknowledged commits, ${found} are stored`);
    }
  },
);
