import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { openQueueLog } from '../../../src/queue/log/leveldb-log.js';
import { LOSSES, STRACE, TracedDisk, parseTrace, type Event } from '../store/disk-trace.js';
import { has, seedOf, startWriter, temporaryDirectory } from '../store/support.js';
import { judge } from './workload.js';

/** Power losses; MUSTER_LOG_IMAGES asks for more of them. */
const IMAGES = Number(process.env['MUSTER_LOG_IMAGES'] ?? 20);
/** About every third of them loses something. */
const IMAGES_UNSYNCED = 60;
/** Enough to fill several of the writer's write buffers, so that tables are written and logs replaced. */
const COMMITS = 120;
const RUNS = 2;
const WRITER = join(import.meta.dirname, 'writer');

/** Two runs of the writer, the second one over what the first has left. */
async function record(
  directory: string,
  path: string,
  writer: { seed: number; more: readonly string[] },
): Promise<Event[]> {
  const events: Event[] = [];
  for (let run = 0; run < RUNS; run += 1) {
    const trace = join(directory, `trace-${run}`);
    const under = [...STRACE, '-o', trace];
    const { ended } = startWriter({ path, batches: COMMITS, program: WRITER, under, ...writer });
    assert.equal(await ended, 'done');
    events.push(...parseTrace(await readFile(trace, 'utf8')));
  }
  return events;
}

/** Loses power at `images` instants and says which images do not hold exactly what was acknowledged, or a little more. */
async function losePower(t: TestContext, images: number, more: readonly string[]): Promise<string[]> {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  const directory = await temporaryDirectory(t);
  const path = join(directory, 'data');
  const events = await record(directory, path, { seed, more });
  const instants = new Set(Array.from({ length: images }, () => randomBetween(random, 0, events.length)));
  const disk = new TracedDisk(path);
  let acknowledged = 0;
  const failures: string[] = [];
  for (const [instant, event] of events.entries()) {
    disk.apply(event);
    const said = event.at === 'said' ? /^ack 0 (\d+)/.exec(event.text) : null;
    if (said) acknowledged = Number(said[1]);
    if (!instants.has(instant)) continue;
    const loss = LOSSES[randomBetween(random, 0, LOSSES.length)] ?? 'cut';
    const image = join(directory, `image-${instant}`);
    await disk.image(image, loss, random);
    const failure = await problemOf(image, seed, acknowledged);
    if (failure !== undefined) failures.push(`${loss} at ${instant} of ${events.length}: ${failure}`);
    await rm(image, { recursive: true, force: true });
  }
  t.diagnostic(`${instants.size} power losses in ${events.length} events; ${failures.length} images lost something`);
  assert.equal(acknowledged, RUNS * COMMITS);
  return failures;
}

async function problemOf(path: string, seed: number, acknowledged: number): Promise<string | undefined> {
  try {
    // What was running is not any more: the machine lost power.
    await rm(join(path, 'lock'), { force: true });
    const log = await openQueueLog({ path });
    try {
      await judge(log, seed, acknowledged);
      return undefined;
    } finally {
      await log.close();
    }
  } catch (error) {
    return String(error);
  }
}

it('has exactly what was acknowledged after a power loss at any instant', { timeout: 1_800_000 }, async (t) => {
  if (!has('strace')) {
    t.skip('needs strace');
    return;
  }
  assert.deepEqual(await losePower(t, IMAGES, []), []);
});

it(
  'would lose acknowledged commits if they were not synced: this scenario can tell',
  { timeout: 1_800_000 },
  async (t) => {
    if (!has('strace')) {
      t.skip('needs strace');
      return;
    }
    const failures = await losePower(t, IMAGES_UNSYNCED, ['unsynced']);
    assert.ok(
      failures.length > IMAGES_UNSYNCED / 20,
      `only ${failures.length} of ${IMAGES_UNSYNCED} images lost something`,
    );
  },
);
