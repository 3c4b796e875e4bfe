/** A process that writes to a queue's log until it is killed: `writer.ts PATH SEED COMMITS [unsynced]`. Prints `ack 0 N`, `failed CODE` or `done`. */
import { writeSync } from 'node:fs';
import { isCode } from '../../../src/kit/errors.js';
import { openQueueLog } from '../../../src/queue/log/leveldb-log.js';
import { Workload, commitOf } from './workload.js';

const [path = '', seed = '', commits = '', how = ''] = process.argv.slice(2);
const log = await openQueueLog({
  path,
  writeBufferBytes: 64 * 1024,
  freeSpaceFloorBytes: 0,
  sync: how !== 'unsynced',
}).catch((error: unknown) => {
  writeSync(1, `refused ${isCode(error) ? error.code : 'unknown'}\n`);
  process.exit(1);
});

async function write(): Promise<void> {
  const workload = new Workload(Number(seed));
  const before = commitOf(await log.load());
  while (workload.number < before) workload.step();
  while (workload.number < before + Number(commits)) {
    const { changes, trims } = workload.step();
    await log.commit(changes);
    writeSync(1, `ack 0 ${workload.number}\n`);
    for (const trim of trims) await log.trim(trim);
    if (workload.number % 40 === 0) await log.compact();
  }
}

try {
  await write();
  await log.close();
  writeSync(1, 'done\n');
} catch (failure) {
  await log.failed;
  // A log that failed must not acknowledge anything again.
  const again = await Promise.allSettled(Array.from({ length: 20 }, () => log.commit([])));
  const refused = again.every((result) => result.status === 'rejected' && isCode(result.reason, 'unavailable'));
  const code = isCode(failure) ? `${failure.code} ${failure.reason ?? ''}` : String(failure);
  writeSync(1, `failed ${code} ${refused ? 'stopped' : 'STILL WRITING'}\n`);
}
