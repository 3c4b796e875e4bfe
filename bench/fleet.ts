/**
 * A center with many simulated agents on loopback, each with its own mTLS connection: memory per agent, CPU at the heartbeat interval, and the time until all are
 * back after the center was killed with -9. A bare grpc-js server with as many mTLS streams and beats is measured in the same run.
 * Run after `npm run build`: node --import tsx bench/fleet.ts [--agents 1000] [--seconds 30]
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { sleep, systemClock } from '../src/kit/clock.js';
import { waitFor } from '../test/support/waiting.js';
import { Site } from '../test/support/site.js';
import { createAuthority } from '../test/support/certificates.js';
import { cpuSecondsOf, mebibytes, row, rssOf } from './measure.js';

function option(name: string, standard: number): number {
  const at = process.argv.indexOf(`--${name}`);
  return at > 0 ? Number(process.argv[at + 1]) : standard;
}

const agents = option('agents', 1000);
const seconds = option('seconds', 30);
const DEADLINE_MS = 180_000;

/** A helper process that prints one JSON object a line; the newest is kept. */
class Helper {
  readonly process: ChildProcess;
  last: Record<string, number> = {};

  constructor(script: string, args: readonly string[]) {
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', fileURLToPath(new URL(script, import.meta.url)), ...args],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.last = { ...this.last, ...(JSON.parse(line) as Record<string, number>) };
    });
    this.process = child;
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  until(name: string, value: number): Promise<number> {
    return waitFor(`${name} to be ${value}`, () => (this.last[name] ?? 0) >= value && this.last[name], DEADLINE_MS);
  }

  async end(): Promise<void> {
    this.process.kill('SIGKILL');
    await once(this.process, 'exit');
  }
}

interface Figures {
  readonly bytesPerAgent: number;
  readonly cpuPercent: number;
  readonly connectCpuMs: number;
}

/** Memory and CPU of the server process `pid` while `agents` clients rest. `before` was taken without clients. */
async function atRest(pid: number, before: { readonly rss: number; readonly cpu: number }): Promise<Figures> {
  const connectCpuMs = ((cpuSecondsOf(pid) - before.cpu) / agents) * 1000;
  await sleep(systemClock, 5000);
  const cpu = cpuSecondsOf(pid);
  const beganMs = systemClock.monotonic();
  await sleep(systemClock, seconds * 1000);
  const elapsed = (systemClock.monotonic() - beganMs) / 1000;
  return {
    bytesPerAgent: (rssOf(pid) - before.rss) / agents,
    cpuPercent: ((cpuSecondsOf(pid) - cpu) / elapsed) * 100,
    connectCpuMs,
  };
}

async function bare(directory: string): Promise<Figures> {
  const authority = await createAuthority('bare');
  const leaf = await authority.issue({ principal: { kind: 'center', name: 'bare' } });
  const file = join(directory, 'bare.json');
  await writeFile(
    file,
    JSON.stringify({
      ca: leaf.caPem,
      certificate: leaf.certificatePem,
      key: leaf.privateKeyPem.reveal(),
      serverName: 'center.muster',
    }),
  );
  const server = new Helper('./fleet-bare.ts', ['server', file]);
  const port = await server.until('port', 1);
  const before = { rss: rssOf(server.pid), cpu: cpuSecondsOf(server.pid) };
  const clients = new Helper('./fleet-bare.ts', ['clients', file, `127.0.0.1:${port}`, String(agents), '10000']);
  await clients.until('live', agents);
  const figures = await atRest(server.pid, before);
  await clients.end();
  await server.end();
  return figures;
}

const site = await Site.start();
try {
  const limit = await bare(site.directory);
  row(`bare grpc-js mTLS, ${agents} streams: memory per stream`, `${(limit.bytesPerAgent / 1024).toFixed(0)} KiB`);
  row('bare: CPU at a 200-byte beat every 10 s', `${limit.cpuPercent.toFixed(1)} %`);
  row('bare: CPU per connection made', `${limit.connectCpuMs.toFixed(1)} ms`);

  const fleet = new Helper('./fleet-agents.ts', [site.socket, String(site.center.ready['address']), String(agents)]);
  await fleet.until('joined', agents);
  // What joining left behind is not the price of a connection.
  await site.center.end('SIGTERM');
  await site.center.start();
  const before = { rss: rssOf(site.center.pid), cpu: cpuSecondsOf(site.center.pid) };
  await fleet.until('live', agents);
  const figures = await atRest(site.center.pid, before);
  row(`center, ${agents} agents: memory per agent`, `${(figures.bytesPerAgent / 1024).toFixed(0)} KiB`, 'under 100 KB');
  row('center: memory per agent against bare', (figures.bytesPerAgent / limit.bytesPerAgent).toFixed(2));
  row('center: CPU at its heartbeat interval', `${figures.cpuPercent.toFixed(1)} %`, 'under 5 % of a core');
  row('center: CPU against bare', (figures.cpuPercent / limit.cpuPercent).toFixed(2));
  row('center: CPU per connection made', `${figures.connectCpuMs.toFixed(1)} ms`);
  row('center: memory in all', mebibytes(rssOf(site.center.pid)));

  const missedBefore = fleet.last['missed'] ?? 0;
  await site.center.end('SIGKILL');
  const killedMs = systemClock.monotonic();
  await site.center.start();
  const answersMs = systemClock.monotonic();
  await waitFor(
    'all agents to be back',
    async () => {
      const status = (await site.json('status').catch(() => undefined)) as { machinesOnline?: number } | undefined;
      return status?.machinesOnline === agents || (fleet.last['live'] === agents && status !== undefined);
    },
    DEADLINE_MS,
  );
  row('center killed -9 and started: answers after', `${((answersMs - killedMs) / 1000).toFixed(1)} s`);
  row('all agents back after', `${((systemClock.monotonic() - killedMs) / 1000).toFixed(1)} s`, 'within 20 s');
  row('beats late by an interval', String((fleet.last['missed'] ?? 0) - missedBefore), '0');
  await fleet.end();
} finally {
  await site.close();
}
