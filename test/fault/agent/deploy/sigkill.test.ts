import assert from 'node:assert/strict';
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import type { CommandStatus } from '../../../../src/agent/commands/journal.js';
import { directoryName } from '../../../../src/agent/deploy/places.js';
import { sleep, systemClock } from '../../../../src/kit/clock.js';
import { freshSeed, randomBetween, seededRandom, type Random } from '../../../../src/kit/random.js';
import { DEPLOY_STEPS, type DeployOrder } from '../../../../src/model/release.js';
import type { DeployHostInput } from '../../../support/deploy-host.js';
import { CHECKED } from '../../../support/deploy-kills.js';
import { onDisk, Shelf, type Behaviour, type World } from '../../../support/deploying.js';
import { programArgs } from '../../../support/program.js';
import { waitFor } from '../../../support/waiting.js';

const KILLS = Number(process.env['MUSTER_DEPLOY_KILLS'] ?? 8);
/** Machines that are deployed to side by side: much of a deploy is to wait. */
const LANES = 4;
const HOST = join(import.meta.dirname, '../../../support/deploy-host');
const seed = Number(process.env['SEED'] ?? freshSeed());
const UNDO_PLACES: readonly string[] = ['-STOP', '-SWITCH', '-START', '-VERIFY'];
/** Where a deploy is killed: when it tells that it is at a step; then at instants by chance, after one of the steps or after the order. */
const PLACES: readonly string[] = [...DEPLOY_STEPS, ...UNDO_PLACES];
const LONGEST_MS = 250;
const LONGEST_IN_STEP_MS = 40;
const END_MS = 40_000;
const BEHAVIOURS: readonly Behaviour[] = [
  'good',
  'good',
  'verify-fails',
  'good',
  'start-fails',
  'stop-hangs',
  'unhealthy',
  'hook-fails',
];

/** One life of the agent. */
class Host {
  readonly child: ChildProcessWithoutNullStreams;
  readonly heard: CommandStatus[] = [];
  readonly ready: Promise<void>;
  onPlace: (place: string) => void = () => undefined;
  #errors = '';

  constructor(directory: string) {
    this.child = spawn(process.execPath, programArgs(HOST, directory));
    this.child.stdin.on('error', () => undefined);
    this.child.stderr.on('data', (chunk: Buffer) => (this.#errors += chunk.toString()));
    this.ready = new Promise((resolve, reject) => {
      this.child.on('exit', (code) => {
        if (code) reject(new Error(`the host ended with ${code}: ${this.#errors}`));
      });
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        const parsed = JSON.parse(line) as CommandStatus | { readonly ready: true };
        if ('ready' in parsed) resolve();
        else this.#hear(parsed);
      });
    });
  }

  #hear(status: CommandStatus): void {
    this.heard.push(status);
    const last = status.result.deploy?.steps.at(-1);
    if (last?.outcome === 'RUNNING') this.onPlace(`${last.undo ? '-' : ''}${last.step}`);
  }

  write(input: DeployHostInput): void {
    if (this.child.stdin.writable) this.child.stdin.write(`${JSON.stringify(input)}\n`);
  }

  ended(command: string): CommandStatus | undefined {
    return this.heard.find((status) => status.command === command && status.endedMs !== undefined);
  }

  async kill(): Promise<void> {
    const closed = once(this.child, 'close');
    this.child.kill('SIGKILL');
    await closed;
  }
}

interface Plan {
  readonly target: DeployOrder;
  readonly behaves: Behaviour;
  /** A step to kill it after; undefined: after the order. */
  readonly place: string | undefined;
  readonly afterMs: number;
}

async function planOf(n: number, shelf: Shelf, random: Random): Promise<Plan> {
  const chosen = BEHAVIOURS[Math.floor(random.next() * BEHAVIOURS.length)] ?? 'good';
  const behaves = UNDO_PLACES.includes(listedPlace(n) ?? '') ? 'verify-fails' : chosen;
  const hook = behaves === 'hook-fails' || n % 3 === 0 ? '\nhooks: { install: [hook] }' : '';
  const target = await shelf.release({ version: `${n}.0.0`, behaves, manifest: `${CHECKED}${hook}` });
  return { target, behaves, ...instantOf(n, behaves, random) };
}

/** Each of them once, first; which come first is by chance, for runs of fewer. */
function listedPlace(n: number): string | undefined {
  return n < PLACES.length ? PLACES[(n + seed) % PLACES.length] : undefined;
}

function instantOf(n: number, behaves: Behaviour, random: Random): Pick<Plan, 'place' | 'afterMs'> {
  const listed = listedPlace(n);
  if (listed !== undefined) return { place: listed, afterMs: 0 };
  if (random.next() < 0.3) return { place: undefined, afterMs: randomBetween(random, 0, LONGEST_MS) };
  const undone = ['verify-fails', 'start-fails', 'unhealthy'].includes(behaves);
  const places = undone ? PLACES : DEPLOY_STEPS;
  const place = places[randomBetween(random, 0, places.length)];
  return { place, afterMs: randomBetween(random, 0, LONGEST_IN_STEP_MS) };
}

interface Round {
  readonly n: number;
  readonly directory: string;
  readonly target: DeployOrder;
  readonly place: string | undefined;
  readonly afterMs: number;
}

/** Orders a deploy, kills the agent in it, and lets the next one bring it to its end. Resolves with that, and with what had been told of it. */
async function killedIn({ n, directory, target, place, afterMs }: Round): Promise<readonly CommandStatus[]> {
  const command = `c-${n}`;
  const away = join(directory, 'away');
  const first = new Host(directory);
  await first.ready;
  if (n % 5 === 4) await writeFile(away, '');
  const hit = new Promise<void>((resolve) => {
    first.onPlace = (at) => {
      if (at === place) resolve();
    };
  });
  first.write({ command, deploy: target });
  const over = waitFor(`the end of ${command}`, () => first.ended(command), END_MS).catch(() => undefined);
  const instant = (place === undefined ? Promise.resolve() : hit).then(() => sleep(systemClock, afterMs));
  await Promise.race([instant, over]);
  await first.kill();
  await rm(away, { force: true });
  const second = new Host(directory);
  await second.ready;
  // As the center does with what it has not heard the end of.
  second.write({ command, deploy: target });
  await waitFor(`the end of ${command} after the kill`, () => second.ended(command), END_MS).catch(
    async (error: unknown) => {
      await second.kill();
      throw error;
    },
  );
  second.write({ acknowledge: command });
  const closed = once(second.child, 'close');
  second.child.stdin.end();
  await closed;
  return [...first.heard, ...second.heard].filter(
    (status) => status.command === command && status.endedMs !== undefined,
  );
}

/** However often it is told, it is the same end, and the right one. */
function assertOneEnd(ends: readonly CommandStatus[], behaves: Behaviour): void {
  const told = ends.map(({ outcome, endedMs, message }) => JSON.stringify([outcome, endedMs, message]));
  assert.equal(new Set(told).size, 1, 'one report');
  const goes = behaves === 'good' || behaves === 'stop-hangs';
  const untouched = ends[0]?.message.includes('nothing was changed') === true;
  assert.equal(ends[0]?.outcome, goes && !untouched ? 'SUCCEEDED' : 'FAILED');
}

function brokenIn(round: string, end: CommandStatus | undefined, cause: unknown): Error {
  return new Error(`${round} (SEED=${seed}): ${end?.outcome ?? ''} ${end?.message ?? ''}`, { cause });
}

function kindOf(end: CommandStatus | undefined): string {
  return `${end?.outcome ?? ''}${end?.result.deploy?.rolledBack === true ? ', put back' : ''}`;
}

async function assertSettled(directory: string, expected: DeployOrder | undefined): Promise<void> {
  const world = JSON.parse(
    await readFile(join(directory, 'world.json'), 'utf8').catch(() => '{"sources":{},"running":{}}'),
  ) as World;
  const source = world.sources['orders'];
  assert.equal(source?.release?.ref.digest, expected?.release.digest, 'it runs from the right release');
  assert.equal(world.running['orders'], source?.folder, 'and that is what runs');
  const { current } = await onDisk(join(directory, 'data'));
  assert.equal(current, expected ? `releases/${directoryName(expected.release)}` : '', 'and where people look');
  if (!source || !expected) return;
  assert.equal(
    await readFile(join(source.folder, 'server.js'), 'utf8'),
    `// ${expected.release.version}`,
    'and it is whole',
  );
}

/** Every LANES-th of the rounds, on a machine of its own with chances of its own. Resolves with how the deploys ended. */
async function lane(index: number, directory: string): Promise<readonly string[]> {
  await mkdir(join(directory, 'shelf'), { recursive: true });
  await mkdir(join(directory, 'data', 'services'), { recursive: true });
  const shelf = new Shelf(join(directory, 'shelf'));
  const random = seededRandom((seed + index) >>> 0);
  const kinds: string[] = [];
  let present: DeployOrder | undefined;
  for (let n = index; n < KILLS; n += LANES) {
    const { target, behaves, place, afterMs } = await planOf(n, shelf, random);
    const ends = await killedIn({ n, directory, target, place, afterMs });
    const end = ends[0];
    if (ends.length > 1) kinds.push('told before the kill too');
    try {
      assertOneEnd(ends, behaves);
      if (end?.outcome === 'SUCCEEDED') present = target;
      await assertSettled(directory, present);
    } catch (error) {
      throw brokenIn(`round ${n}, ${behaves}, killed ${afterMs} ms after ${place ?? 'the order'}`, end, error);
    }
    kinds.push(kindOf(end));
  }
  return kinds;
}

test(
  `a deploy has one end and leaves one whole release through ${KILLS} kills (SEED=${seed})`,
  { timeout: 1_800_000 },
  async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'muster-deploys-'));
    t.after(() => rm(directory, { recursive: true, force: true }));
    const lanes = Array.from({ length: LANES }, (_, index) => lane(index, join(directory, `${index}`)));
    // All of them to their end: none may start programs in what is removed.
    const ended = await Promise.allSettled(lanes);
    const counted: Record<string, number> = {};
    for (const one of ended) {
      if (one.status === 'rejected') throw new Error(String(one.reason), { cause: one.reason });
      for (const kind of one.value) counted[kind] = (counted[kind] ?? 0) + 1;
    }
    t.diagnostic(JSON.stringify(counted));
  },
);
