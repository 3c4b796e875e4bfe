import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Archives } from '../../../src/center/releases/archives.js';
import { systemClock } from '../../../src/kit/clock.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { failureOf } from '../../support/rpc.js';
import { LOSSES, parseTrace, STRACE, TracedDisk, type Event } from '../store/disk-trace.js';
import { has, seedOf, smallDisk, startWriter, temporaryDirectory } from '../store/support.js';
import { archiveOf } from './archives-workload.js';

const IMAGES = Number(process.env['MUSTER_ARCHIVE_POWER_LOSSES'] ?? 50);
const ARCHIVES = 6;
const PROGRAM = join(import.meta.dirname, 'writer');

/** What the writer said is durable: bytes of parts, by number; whole ones have all. */
type Promised = Map<number, number>;

function listen(promised: Promised, seed: number, text: string): void {
  const [word, index, offset] = text.trim().split(' ');
  if (word === 'part') promised.set(Number(index), Number(offset));
  if (word === 'whole') promised.set(Number(index), archiveOf(seed, Number(index)).bytes.length);
}

/** What an image does not hold that was promised, or holds that is wrong; undefined: nothing. */
async function problemOf(directory: string, seed: number, promised: Promised): Promise<string | undefined> {
  await mkdir(directory, { recursive: true });
  const archives = await Archives.open({ directory, clock: systemClock, logger: silentLogger });
  for (const digest of archives.digests()) {
    const bytes = await readFile(join(directory, digest.slice(0, 2), `${digest}.tar.gz`));
    if (createHash('sha256').update(bytes).digest('hex') !== digest) return `${digest} is whole by its name alone`;
  }
  for (const [index, sizeBytes] of promised) {
    const { digest, bytes } = archiveOf(seed, index);
    const { offset, complete } = archives.uploaded(digest);
    if (offset < sizeBytes) return `archive ${index} has ${offset} bytes of ${sizeBytes} that were promised`;
    if (sizeBytes === bytes.length && !complete) return `archive ${index} was whole and is not`;
    if (complete) continue;
    const part = await readFile(join(directory, digest.slice(0, 2), `${digest}.part`));
    if (!part.subarray(0, sizeBytes).equals(bytes.subarray(0, sizeBytes))) return `archive ${index} has other bytes`;
  }
  return undefined;
}

async function losePower(t: TestContext, ignore: (event: Event) => boolean): Promise<string[]> {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  const directory = await temporaryDirectory(t);
  const path = join(directory, 'data');
  const trace = join(directory, 'trace');
  const under = [...STRACE, '-o', trace];
  assert.equal(await startWriter({ path, seed, batches: ARCHIVES, under, program: PROGRAM }).ended, 'done');
  const events = parseTrace(await readFile(trace, 'utf8'));
  const touching = [...events.keys()].filter((at) => {
    const event = events[at];
    return event?.at === 'said' || event?.path.startsWith(path) === true;
  });
  const instants = new Set(Array.from({ length: IMAGES }, () => touching[randomBetween(random, 0, touching.length)]));
  const disk = new TracedDisk(path);
  const promised: Promised = new Map();
  const failures: string[] = [];
  for (const [instant, event] of events.entries()) {
    if (!ignore(event)) disk.apply(event);
    if (event.at === 'said') listen(promised, seed, event.text);
    if (!instants.has(instant)) continue;
    const loss = LOSSES[randomBetween(random, 0, LOSSES.length)] ?? 'cut';
    const image = join(directory, `image-${instant}`);
    await disk.image(image, loss, random);
    const failure = await problemOf(image, seed, promised);
    if (failure !== undefined) failures.push(`${loss} at ${instant} of ${events.length}: ${failure}`);
    await rm(image, { recursive: true, force: true });
  }
  t.diagnostic(`${instants.size} power losses in ${touching.length} events; ${failures.length} images are wrong`);
  assert.equal(promised.size, ARCHIVES);
  return failures;
}

describe('archives of a center that loses power while they are uploaded', () => {
  it('have every byte that was acknowledged, and are whole where they say so', { timeout: 300_000 }, async (t) => {
    if (!has('strace')) {
      t.skip('needs strace');
      return;
    }
    assert.deepEqual(await losePower(t, () => false), []);
  });

  it('would not, were the parts not synced: this scenario can tell', { timeout: 300_000 }, async (t) => {
    if (!has('strace')) {
      t.skip('needs strace');
      return;
    }
    const failures = await losePower(t, (event) => event.at === 'sync_done' && event.path.endsWith('.part'));
    assert.ok(failures.length > IMAGES / 4, `only ${failures.length} of ${IMAGES} images were wrong`);
  });
});

describe('a disk that fills up under an upload', () => {
  it('is said, keeps what came, and the upload goes on once there is room', async (t) => {
    const disk = await smallDisk(t);
    if (disk === undefined) return;
    const directory = join(disk, 'artifacts');
    const clock = systemClock;
    const free = (): Promise<number> => Promise.resolve(1024 ** 4);
    const archives = await Archives.open({ directory, clock, logger: silentLogger, freeBytes: free });
    const bytes = Buffer.alloc(2_500_000, 7);
    const digest = createHash('sha256').update(bytes).digest('hex');
    const ballast = join(disk, 'ballast');
    await writeFile(ballast, Buffer.alloc(1_500_000));
    const chunks = async function* (offset: number): AsyncGenerator<Uint8Array> {
      for (let at = offset; at < bytes.length; at += 100_000) {
        await Promise.resolve();
        yield bytes.subarray(at, at + 100_000);
      }
    };
    const order = { digest, sizeBytes: bytes.length };
    const refusal = await failureOf(archives.receive({ ...order, offset: 0 }, chunks(0)));
    assert.deepEqual([refusal.code, refusal.reason], ['exhausted', 'DISK_FULL']);
    const { offset } = archives.uploaded(digest);
    assert.ok(offset > 1_000_000 && offset < bytes.length, `${offset} bytes were kept`);
    await rm(ballast);
    assert.equal((await archives.receive({ ...order, offset }, chunks(offset))).complete, true);
  });
});
