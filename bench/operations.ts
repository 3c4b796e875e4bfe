/**
 * A restart over many simulated agents, each with its own mTLS session: the CPU time of the center for each target beside as many single commands in the same run,
 * and the same restart with the center killed -9 half way: it must end, with nobody ordered twice.
 * Run after `npm run build`: node --import tsx bench/operations.ts [--agents 500] [--rounds 3]
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import {
  CenterService,
  type Operation,
  RunCommandRequest,
  StartOperationRequest,
} from '../generated/muster/v1/center.js';
import { sleep, systemClock } from '../src/kit/clock.js';
import { mapBounded } from '../src/kit/tasks.js';
import { createClient, openChannel } from '../src/rpc/client.js';
import type { Client } from '../src/rpc/types.js';
import { Site } from '../test/support/site.js';
import { waitFor } from '../test/support/waiting.js';
import { cpuSecondsOf, quantile, row } from './measure.js';

function option(name: string, standard: number): number {
  const at = process.argv.indexOf(`--${name}`);
  return at > 0 ? Number(process.argv[at + 1]) : standard;
}

const agents = option('agents', 500);
const rounds = option('rounds', 3);
const DEADLINE_MS = 180_000;
const SERVICE = 'orders';
const REST_MS = 4000;

/** The simulated agents, in a process of their own. */
class Fleet {
  readonly #process: ChildProcess;
  last: Record<string, number> = {};

  constructor(site: Site) {
    const script = fileURLToPath(new URL('./fleet-agents.ts', import.meta.url));
    const args = [site.socket, String(site.center.ready['address']), String(agents), SERVICE];
    const child = spawn(process.execPath, ['--import', 'tsx', script, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.last = { ...this.last, ...(JSON.parse(line) as Record<string, number>) };
    });
    this.#process = child;
  }

  get started(): number {
    return this.last['started'] ?? 0;
  }

  allLive(): Promise<boolean> {
    return waitFor('all agents to be there', () => this.last['live'] === agents, DEADLINE_MS);
  }

  async end(): Promise<void> {
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
  }
}

async function withCenter<T>(site: Site, work: (center: Client<typeof CenterService>) => Promise<T>): Promise<T> {
  const channel = openChannel({ address: `unix:${site.socket}` });
  try {
    return await work(createClient(CenterService, channel));
  } finally {
    channel.close();
  }
}

const site = await Site.start();

/** CPU milliseconds of the center that `work` costs beside what rest costs, for each agent. */
async function costOf(idleShare: number, work: () => Promise<void>): Promise<number> {
  await sleep(systemClock, REST_MS);
  const before = cpuSecondsOf(site.center.pid);
  const beganMs = systemClock.monotonic();
  await work();
  await sleep(systemClock, 500);
  const elapsed = (systemClock.monotonic() - beganMs) / 1000;
  return ((cpuSecondsOf(site.center.pid) - before - elapsed * idleShare) / agents) * 1000;
}

async function idleShare(): Promise<number> {
  await sleep(systemClock, REST_MS);
  const before = cpuSecondsOf(site.center.pid);
  const beganMs = systemClock.monotonic();
  await sleep(systemClock, 10_000);
  return (cpuSecondsOf(site.center.pid) - before) / ((systemClock.monotonic() - beganMs) / 1000);
}

function begin(): Promise<string> {
  const request = StartOperationRequest.fromPartial({
    action: 'ACTION_RESTART',
    service: SERVICE,
    strategy: { batch: '10%' },
  });
  return withCenter(site, async (center) => (await center.startOperation(request)).id);
}

function ended(id: string): Promise<Operation> {
  return withCenter(site, (center) =>
    waitFor(
      'the operation to end',
      async () => {
        const operation = await center.getOperation({ id });
        return operation.ended !== undefined && operation;
      },
      DEADLINE_MS,
    ),
  );
}

function assertDone({ counts, state, message }: Operation): void {
  if (counts?.succeeded !== agents) throw new Error(`${state} ${message}: ${JSON.stringify(counts)}`);
}

async function singly(fleet: Fleet): Promise<void> {
  const wanted = fleet.started + agents;
  await withCenter(site, async (center) => {
    const names = Array.from({ length: agents }, (_, index) => `bench-${index}`);
    await mapBounded(names, Math.ceil(agents / 10), async (machine) => {
      await center.runCommand(RunCommandRequest.fromPartial({ machine, service: SERVICE, action: 'ACTION_RESTART' }));
    });
  });
  await waitFor('all commands to run', () => fleet.started >= wanted, DEADLINE_MS);
}

async function killedHalfWay(fleet: Fleet): Promise<{ readonly tookMs: number; readonly orders: number }> {
  const earlier = fleet.started;
  const beganMs = systemClock.monotonic();
  const id = await begin();
  await waitFor('half of it', () => fleet.started >= earlier + agents / 2, DEADLINE_MS);
  await site.center.end('SIGKILL');
  await site.center.start();
  assertDone(await ended(id));
  await sleep(systemClock, 1000);
  return { tookMs: systemClock.monotonic() - beganMs, orders: fleet.started - earlier };
}

try {
  const fleet = new Fleet(site);
  await waitFor('all agents to have joined', () => fleet.last['joined'] === agents, DEADLINE_MS);
  await fleet.allLive();
  const idle = await idleShare();
  const single: number[] = [];
  const engine: number[] = [];
  const seconds: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    single.push(await costOf(idle, () => singly(fleet)));
    engine.push(
      await costOf(idle, async () => {
        const beganMs = systemClock.monotonic();
        assertDone(await ended(await begin()));
        seconds.push((systemClock.monotonic() - beganMs) / 1000);
      }),
    );
  }
  const [alone, target] = [quantile(single, 0.5), quantile(engine, 0.5)];
  row(`center at rest, ${agents} agents: CPU`, `${(idle * 100).toFixed(1)} %`);
  row('single command: CPU of the center', `${alone.toFixed(2)} ms`);
  row('target of a restart, batch 10%: CPU of the center', `${target.toFixed(2)} ms`, 'under 5 ms');
  row('of that, the engine', `${(target - alone).toFixed(2)} ms`);
  row(`restart over ${agents} agents, batch 10%: takes`, `${quantile(seconds, 0.5).toFixed(1)} s`);
  const killed = await killedHalfWay(fleet);
  row('the same, center killed -9 half way: takes', `${(killed.tookMs / 1000).toFixed(1)} s`);
  row('restarts ordered then', String(killed.orders), String(agents));
  row('commands started twice', String(fleet.last['twice'] ?? 0), '0');
  await fleet.end();
} finally {
  await site.close();
}
