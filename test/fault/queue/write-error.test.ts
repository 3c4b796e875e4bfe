import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { MusterError } from '../../../src/kit/errors.js';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { QueueProcess } from '../../support/queue-process.js';
import { has, seedOf } from '../store/support.js';
import { OneByOne } from './one-by-one.js';

const ROUNDS = 3;
const MESSAGES_MAX = 1000;
/** The start takes some of them. */
const WHEN: readonly [number, number] = [25, 80];

it('stops at the first fdatasync that fails with EIO, says so, and started again has all that was acknowledged', async (t) => {
  if (!has('strace')) {
    t.skip('needs strace');
    return;
  }
  const seed = seedOf(t);
  const random = seededRandom(seed);
  for (let round = 0; round < ROUNDS; round += 1) {
    const when = randomBetween(random, ...WHEN);
    // -D: the queue is the process that is started, and strace its child.
    const trace = ['strace', '-D', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fdatasync'];
    const prefix = [...trace, '-e', `inject=fdatasync:error=EIO:when=${when}`];
    const queue = await QueueProcess.make(t, { prefix });
    await queue.start();
    const one = new OneByOne(randomBetween(random, 0, 2 ** 32));
    let failure: MusterError | undefined;
    const connected = queue.connect();
    await one.setUp(connected.client);
    for (let n = 0; n < MESSAGES_MAX && !failure; n += 1) failure = await one.publish(connected.client, 50);
    connected.close();
    assert.equal(failure?.code, 'unavailable', String(failure));
    assert.equal(failure.reason, 'LOG_FAILED', String(failure));
    assert.equal(await queue.over(), 1);
    assert.match(queue.said(), /check the disk, then restart the process/);
    const again = await QueueProcess.make(t, { data: queue.data });
    await again.start();
    assert.deepEqual(await again.ask((client) => one.finish(client)), []);
    t.diagnostic(`fdatasync ${when} failed after ${one.judge.acknowledged.size} acknowledged messages`);
    await again.kill();
  }
});
