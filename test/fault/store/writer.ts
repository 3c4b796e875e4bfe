/** A process that writes until it is killed: `writer.ts PATH SEED BATCHES`. Prints `ack LANE N`, `failed CODE`, `refused CODE` or `done`. */
import { writeSync } from 'node:fs';
import { isCode } from '../../../src/kit/errors.js';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { LANES, batchOf, laneEnd } from './workload.js';

const [path = '', seed = '', batches = ''] = process.argv.slice(2);
const store = await openLevelStore({ path, writeBufferBytes: 64 * 1024, freeSpaceFloorBytes: 0 }).catch(
  (error: unknown) => {
    writeSync(1, `refused ${isCode(error) ? error.code : 'unknown'}\n`);
    process.exit(1);
  },
);

async function run(lane: number): Promise<void> {
  const start = await laneEnd(store, lane);
  for (let n = start + 1; n <= start + Number(batches); n += 1) {
    await store.write(batchOf(Number(seed), lane, n));
    writeSync(1, `ack ${lane} ${n}\n`);
  }
}

const results = await Promise.allSettled(Array.from({ length: LANES }, (_, lane) => run(lane)));
const failure = results.find((result) => result.status === 'rejected');
if (failure) {
  await store.failed;
  // A store that failed must not acknowledge anything again.
  const again = await Promise.allSettled(Array.from({ length: 20 }, (_, lane) => store.write(batchOf(0, lane, 1))));
  const refused = again.every((result) => result.status === 'rejected' && isCode(result.reason, 'unavailable'));
  writeSync(
    1,
    `failed ${isCode(failure.reason) ? failure.reason.code : 'unknown'} ${refused ? 'stopped' : 'STILL WRITING'}\n`,
  );
} else {
  await store.close();
  writeSync(1, 'done\n');
}
