import assert from 'node:assert/strict';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { Deploy, DeployEnd } from '../../src/agent/deploy/deploy.js';
import { Held, type HeldRelease } from '../../src/agent/deploy/held.js';
import { directoryName } from '../../src/agent/deploy/places.js';
import type { Random } from '../../src/kit/random.js';
import type { DeployOrder, ReleaseRef } from '../../src/model/release.js';
import type { Mutation, Store } from '../../src/store/port.js';
import { onDisk, type Bench, type Behaviour, type World } from './deploying.js';

/** A service's verify, and how long tests wait for one that does not come. */
export const CHECKED = 'ports: [{ name: http, port: 80 }]\nverify: { exec: [check], timeout: 150ms }';

/** What is deployed, on what. */
export interface Variant {
  readonly name: string;
  /** The version before is deployed and verified; undefined: there is no such service. */
  readonly before: boolean;
  readonly behaves: Behaviour;
  readonly hook?: boolean;
  readonly stopped?: boolean;
  /** Back to an older one that is on the machine. */
  readonly rollback?: boolean;
}

export const VARIANTS: readonly Variant[] = [
  { name: 'a first deploy', before: false, behaves: 'good' },
  { name: 'a first deploy with a hook', before: false, behaves: 'good', hook: true },
  { name: 'a first deploy whose verify fails', before: false, behaves: 'verify-fails' },
  { name: 'an upgrade', before: true, behaves: 'good' },
  { name: 'an upgrade with a hook', before: true, behaves: 'good', hook: true },
  { name: 'an upgrade whose hook fails', before: true, behaves: 'hook-fails', hook: true },
  { name: 'an upgrade whose verify fails', before: true, behaves: 'verify-fails' },
  { name: 'an upgrade that is not healthy', before: true, behaves: 'unhealthy' },
  { name: 'an upgrade that does not start', before: true, behaves: 'start-fails' },
  { name: 'an upgrade of a stopped service', before: true, behaves: 'good', stopped: true },
  { name: 'a rollback', before: true, behaves: 'good', rollback: true },
  { name: 'a rollback to what is good no more', before: true, behaves: 'verify-fails', rollback: true },
  { name: 'an upgrade that dies while it is verified', before: true, behaves: 'dies-in-verify' },
];

/** Never comes: what a killed process waited for. */
const never = new Promise<never>(() => undefined);

/** Kills a process at the n-th of its points: its writes, and its changes of the world. */
export class KillPoints {
  readonly killed: Promise<void>;
  #left: number;
  #kill: () => void = () => undefined;

  constructor(points: number) {
    this.#left = points;
    this.killed = new Promise((resolve) => {
      this.#kill = resolve;
    });
  }

  get dead(): boolean {
    return this.#left <= 0;
  }

  /** One point is reached; resolves in a process that lives on. */
  async pass(): Promise<void> {
    if (this.dead) return never;
    this.#left -= 1;
    if (this.#left > 0) return;
    this.#kill();
    return never;
  }

  /** A disk under it: the write at which it is killed is there or not, by chance. */
  over(disk: Store, random: Random): Store {
    const write = async (mutations: readonly Mutation[]): Promise<number> => {
      if (this.dead) return never;
      if (this.#left === 1 && random.next() < 0.5) await disk.write(mutations);
      await this.pass();
      return disk.write(mutations);
    };
    return {
      get revision() {
        return disk.revision;
      },
      get: (key) => disk.get(key),
      range: (range) => disk.range(range),
      watch: (prefix, signal) => disk.watch(prefix, signal),
      write,
      failed: never,
      close: () => Promise.resolve(),
    };
  }
}

/** In the trace: from here on the undo is on the disk. */
const UNDONE = 'the undo is on the disk';

/** Marks in the trace when an undo has become durable. */
export function marking(world: Pick<World, 'trace'>): (deploy: Deploy) => void {
  return ({ steps }) => {
    const last = steps.at(-1);
    if (last?.undo && last.outcome === 'RUNNING' && !world.trace.includes(UNDONE)) world.trace.push(UNDONE);
  };
}

export interface Outcome {
  readonly bench: Bench;
  readonly world: World;
  readonly store: Store;
  readonly variant: Variant;
  readonly before: DeployOrder | undefined;
  readonly target: DeployOrder;
  readonly end: DeployEnd;
}

/** What must be true after the one end of a deploy, whatever was killed on the way. */
export async function assertWhole(outcome: Outcome): Promise<void> {
  const { bench, world, store, variant, before, target, end } = outcome;
  const expected = (end.outcome === 'SUCCEEDED' ? target : before)?.release;
  assertRuns(world, expected, variant.stopped === true);
  const { current } = await onDisk(bench.data);
  assert.equal(current, expected ? `releases/${directoryName(expected)}` : '', 'and where people look');
  assert.equal(end.report.current?.digest, expected?.digest, 'and what the report says');
  const held = (await Held.open(store)).of('orders');
  await assertComplete(bench, held.releases);
  if (expected)
    assert.ok(
      held.releases.some(({ ref }) => ref.digest === expected.digest),
      'it is listed',
    );
  if (variant.stopped !== true) assert.equal(held.lastGood, expected?.digest, 'only what was verified is good');
  assertNothingRun(world, target.release.version);
}

function assertRuns(world: World, expected: ReleaseRef | undefined, stopped: boolean): void {
  const source = world.sources['orders'];
  assert.equal(source?.release?.ref.digest, expected?.digest, 'it runs from the right release');
  assert.equal(world.running['orders'], stopped ? undefined : source?.folder, 'and that is what runs');
}

/** What is listed is whole. */
async function assertComplete(bench: Bench, releases: readonly HeldRelease[]): Promise<void> {
  for (const { ref, manifestText } of releases) {
    const directory = join(bench.data, 'services/orders/releases', directoryName(ref));
    const made = manifestText.includes('install:') ? ['made-by-hook'] : [];
    for (const file of ['muster.yaml', 'server.js', ...made]) await access(join(directory, file));
  }
}

function assertNothingRun({ trace }: World, version: string): void {
  const undone = trace.indexOf(UNDONE);
  const after = undone < 0 ? [] : trace.slice(undone);
  const ran = after.filter((what) => what === `start ${version}` || what.endsWith(` of ${version}`));
  assert.deepEqual(ran, [], 'an undo runs nothing of the release that failed');
}
