import { createHash } from 'node:crypto';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';

/** The archive of that number of a run: the same for the same seed. */
export function archiveOf(seed: number, index: number): { digest: string; bytes: Buffer } {
  const random = seededRandom((seed ^ (index * 2654435761)) >>> 0);
  const bytes = Buffer.alloc(randomBetween(random, 20_000, 60_000));
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = randomBetween(random, 0, 256);
  return { digest: createHash('sha256').update(bytes).digest('hex'), bytes };
}
