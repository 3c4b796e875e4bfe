/** A process that takes uploads which break off and go on: `writer.ts PATH SEED ARCHIVES`. Prints `part N OFFSET`, `whole N` or `done`. */
import { writeSync } from 'node:fs';
import { Archives } from '../../../src/center/releases/archives.js';
import { systemClock } from '../../../src/kit/clock.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { archiveOf } from './archives-workload.js';

const [path = '', seed = '', count = ''] = process.argv.slice(2);
const directory = path;
const archives = await Archives.open({ directory, clock: systemClock, logger: silentLogger });

async function* pieces(bytes: Buffer, offset: number, end: number): AsyncGenerator<Uint8Array> {
  for (let at = offset; at < end; at += 4096) {
    await Promise.resolve();
    yield bytes.subarray(at, Math.min(end, at + 4096));
  }
}

async function upload(index: number): Promise<void> {
  const { digest, bytes } = archiveOf(Number(seed), index);
  const random = seededRandom(Number(seed) + index);
  for (;;) {
    const { offset, complete } = archives.uploaded(digest);
    if (complete) break;
    const end = Math.min(bytes.length, offset + randomBetween(random, 1, bytes.length / 2));
    const answer = await archives.receive({ digest, sizeBytes: bytes.length, offset }, pieces(bytes, offset, end));
    writeSync(1, answer.complete ? `whole ${index}\n` : `part ${index} ${answer.offset}\n`);
  }
}

await Promise.all(Array.from({ length: Number(count) }, (_, index) => upload(index)));
writeSync(1, 'done\n');
