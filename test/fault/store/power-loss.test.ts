import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { LOSSES, STRACE, TracedDisk, parseTrace, type Event } from './disk-trace.js';
import { has, seedOf, startWriter, temporaryDirectory } from './support.js';
import { acknowledge, judge, type Acknowledgements } from './workload.js';

const IMAGES = 90;
/** Enough to fill several of the writer's write buffers, so that tables are written and logs replaced. */
const BATCHES = 80;
const RUNS = 2;

/** Two runs of the writer, the second one over what the first has left. */
async function record(directory: string, path: string, seed: number): Promise<Event[]> {
  const events: Event[] = [];
  for (let run = 0; run < RUNS; run += 1) {
    const trace = join(directory, `trace-${run}`);
    const writer = startWriter({ path, seed, batches: BATCHES, under: [...STRACE, '-o', trace] });
    assert.equal(await writer.ended, 'done');
    events.push(...parseTrace(await readFile(trace, 'utf8')));
  }
  return events;
}

/** Loses power at `IMAGES` instants and says which images do not hold every acknowledged write. */
async function losePower(t: TestContext, ignore: (event: Event) => boolean): Promise<string[]> {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  const directory = await temporaryDirectory(t);
  const path = join(directory, 'data');
  const events = await record(directory, path, seed);
  const instants = new Set(Array.from({ length: IMAGES }, () => randomBetween(random, 0, events.length)));
  const disk = new TracedDisk(path);
  const acknowledged: Acknowledgements = new Map();
  const failures: string[] = [];
  for (const [instant, event] of events.entries()) {
    if (!ignore(event)) disk.apply(event);
    const said = event.at === 'said' ? /^ack (\d+) (\d+)/.exec(event.text) : null;
    if (said) acknowledge(acknowledged, Number(said[1]), Number(said[2]));
    if (!instants.has(instant)) continue;
    const loss = LOSSES[randomBetween(random, 0, LOSSES.length)] ?? 'cut';
    const image = join(directory, `image-${instant}`);
    await disk.image(image, loss, random);
    const failure = await problemOf(image, seed, acknowledged);
    if (failure !== undefined) failures.push(`${loss} at ${instant} of ${events.length}: ${failure}`);
    await rm(image, { recursive: true, force: true });
  }
  t.diagnostic(`${instants.size} power losses in ${events.length} events; ${failures.length} images lost something`);
  assert.equal(
    [...acknowledged.values()].reduce((sum, n) => sum + n, 0),
    RUNS * BATCHES * acknowledged.size,
  );
  return failures;
}

async function problemOf(path: string, seed: number, acknowledged: Acknowledgements): Promise<string | undefined> {
  try {
    // What was running is not any more: the machine lost power.
    await rm(join(path, 'lock'), { force: true });
    const store = await openLevelStore({ path });
    try {
      await judge(store, seed, acknowledged);
      return undefined;
    } finally {
      await store.close();
    }
  } catch (error) {
    return String(error);
  }
}

it('has every acknowledged write after a power loss at any instant', { timeout: 300_000 }, async (t) => {
  if (!has('strace')) {
    t.skip('needs strace');
    return;
  }
  assert.deepEqual(await losePower(t, () => false), []);
});

it(
  'would lose acknowledged writes if the log were not synced: this scenario can tell',
  { timeout: 300_000 },
  async (t) => {
    if (!has('strace')) {
      t.skip('needs strace');
      return;
    }
    const failures = await losePower(t, (event) => event.at === 'sync_done' && event.path.endsWith('.log'));
    assert.ok(failures.length > IMAGES / 4, `only ${failures.length} of ${IMAGES} images lost something`);
  },
);
