/**
 * Searching 1 GiB (or `--mib N`) of a web server's log through an agent beside plain grep over the same files, in turns: as rotated files,
 * as one log that is still written, and compressed. Memory of the agent and the longest wait for another answer of it meanwhile.
 * Run after `npm run build`: node --import tsx bench/grep.ts [--mib N] [--rounds N]
 */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentService } from '../generated/muster/v1/agent.js';
import { LogSearch } from '../generated/muster/v1/types.js';
import { sleep, systemClock } from '../src/kit/clock.js';
import { seededRandom } from '../src/kit/random.js';
import { createClient, openChannel } from '../src/rpc/client.js';
import type { Client } from '../src/rpc/types.js';
import { Site, type TestAgent } from '../test/support/site.js';
import { mebibytes, quantile, row, rssOf } from './measure.js';
import { option } from './runs.js';

const MIB = 1024 * 1024;
const FILE_BYTES = 50 * MIB;
/** In a few of a million lines. */
const PATTERN = '/orders/1337 ';
const SAMPLE_MS = 20;

const totalBytes = option('mib', 1024) * MIB;
const rounds = option('rounds', 3);

/** So many bytes of an access log in nginx's usual format. */
function accessLog(bytes: number): Buffer {
  const random = seededRandom(1);
  const any = (below: number): number => Math.floor(random.next() * below);
  const agents = [
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36',
    'curl/8.5.0',
    'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1)',
  ];
  const pages = ['orders', 'items', 'users', 'cart', 'static/app.js', 'search'];
  const lines: string[] = [];
  let length = 0;
  for (let seconds = 0; length < bytes; seconds += random.next() / 60) {
    const at = new Date(Date.UTC(2026, 4, 1) + Math.floor(seconds) * 1000).toISOString();
    const time = `01/May/2026:${at.slice(11, 19)} +0000`;
    const address = `10.${any(256)}.${any(256)}.${any(256)}`;
    const path = `/${pages[any(6)] ?? ''}/${any(20_000)}`;
    const line = `${address} - - [${time}] "GET ${path} HTTP/1.1" 200 ${any(50_000)} "https://example.com/" "${agents[any(3)] ?? ''}"\n`;
    lines.push(line);
    length += line.length;
  }
  return Buffer.from(lines.join(''));
}

interface Shape {
  readonly service: string;
  readonly what: string;
  readonly files: readonly string[];
  readonly compressed: boolean;
}

const manifest = (name: string, files: string): string => `name: ${name}
version: 1.0.0
command: [sleep, "100000"]
logs: { files: ["${files}"], max_size: 4GB, keep: 1000, max_age: 3650d }
`;

/** Files are in place before the service is declared, so that the agent compresses none of them meanwhile. */
function fill(agent: TestAgent, service: string, names: readonly string[], block: Buffer): readonly string[] {
  const root = join(agent.data, 'logs', service);
  mkdirSync(root, { recursive: true });
  return names.map((name, index) => {
    const path = join(root, name);
    const file = openSync(path, 'w');
    const bytes = names.length === 1 ? totalBytes : Math.min(FILE_BYTES, totalBytes - index * FILE_BYTES);
    for (let left = bytes; left > 0; left -= block.length)
      writeSync(file, block.subarray(0, Math.min(left, block.length)));
    closeSync(file);
    return path;
  });
}

function shapes(agent: TestAgent): Shape[] {
  const block = accessLog(FILE_BYTES);
  const count = Math.ceil(totalBytes / FILE_BYTES);
  // The newest rotated file of a log stays plain: one of each of many logs.
  const rotated = Array.from({ length: count }, (_, index) => `access-${String(index).padStart(3, '0')}.log.000001`);
  const packed = Array.from({ length: count }, (_, index) => `access.log.${String(index + 1).padStart(6, '0')}`);
  const size = mebibytes(totalBytes);
  const all = [
    {
      service: 'rotated',
      what: `${count} rotated files, ${size}`,
      files: fill(agent, 'rotated', rotated, block),
      compressed: false,
    },
    { service: 'live', what: `one log, ${size}`, files: fill(agent, 'live', ['access.log'], block), compressed: false },
    {
      service: 'packed',
      what: `${count} compressed files, ${size}`,
      files: fill(agent, 'packed', packed, block),
      compressed: true,
    },
  ];
  return all.map((shape) => {
    if (!shape.compressed) return shape;
    execFileSync('nice', ['gzip', '-1', ...shape.files]);
    return { ...shape, files: shape.files.map((path) => `${path}.gz`) };
  });
}

function plainGrep({ files, compressed }: Shape): { readonly count: number; readonly tookMs: number } {
  const began = systemClock.monotonic();
  const script = compressed
    ? 'gzip -dc -- "$@" | grep -a -F -c -e "$pattern"'
    : 'grep -a -F -c -h -e "$pattern" -- "$@"';
  const output = execFileSync('sh', ['-c', script, 'sh', ...files], {
    env: { PATH: process.env['PATH'], LC_ALL: 'C', pattern: PATTERN },
    encoding: 'utf8',
  });
  const count = output
    .trim()
    .split('\n')
    .reduce((sum, line) => sum + Number(line), 0);
  return { count, tookMs: systemClock.monotonic() - began };
}

interface Measured {
  readonly count: number;
  readonly tookMs: number;
  readonly memory: number;
  readonly waitMs: number;
}

async function musterSearch(client: Client<typeof AgentService>, agent: TestAgent, service: string): Promise<Measured> {
  const { pid } = agent.process;
  const over = new AbortController();
  let memory = 0;
  let waitMs = 0;
  const watching = (async () => {
    while (!over.signal.aborted) {
      const asked = systemClock.monotonic();
      await client.getAgent({});
      waitMs = Math.max(waitMs, systemClock.monotonic() - asked);
      memory = Math.max(memory, rssOf(pid));
      await sleep(systemClock, SAMPLE_MS);
    }
  })();
  const began = systemClock.monotonic();
  let count = 0;
  const search = LogSearch.create({ pattern: PATTERN, maxLines: 100_000 });
  for await (const { hits, report } of client.searchLocalLogs({ service, search })) {
    count += hits.length;
    if (report && report.limits.length > 0)
      throw new Error(`cut short: ${report.limits.join()} ${report.problems.join()}`);
  }
  const tookMs = systemClock.monotonic() - began;
  over.abort();
  await watching;
  return { count, tookMs, memory, waitMs };
}

const median = (values: readonly number[]): number => quantile(values, 0.5);

async function measure(client: Client<typeof AgentService>, agent: TestAgent, shape: Shape): Promise<void> {
  const idle = rssOf(agent.process.pid);
  plainGrep(shape);
  const plain: number[] = [];
  const ours: Measured[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const { count, tookMs } = plainGrep(shape);
    const measured = await musterSearch(client, agent, shape.service);
    if (measured.count !== count) throw new Error(`${measured.count} lines found, grep finds ${count}`);
    plain.push(tookMs);
    ours.push(measured);
  }
  const took = median(ours.map(({ tookMs }) => tookMs));
  const speed = (ms: number): string => `${(totalBytes / MIB / (ms / 1000)).toFixed(0)} MiB/s`;
  row(`${shape.what}: grep`, speed(median(plain)));
  row(`${shape.what}: muster`, speed(took));
  row(`${shape.what}: of grep's speed`, (median(plain) / took).toFixed(2), '0.8');
  row(
    '  memory of the agent above idle',
    mebibytes(Math.max(...ours.map(({ memory }) => memory)) - idle),
    'under 60 MiB',
  );
  row('  longest wait for another answer meanwhile', `${median(ours.map(({ waitMs }) => waitMs)).toFixed(0)} ms`);
}

const site = await Site.start();
try {
  const agent = await site.addAgent('search');
  const all = shapes(agent);
  const channel = openChannel({ address: `unix:${agent.socket}` });
  const client = createClient(AgentService, channel);
  for (const shape of all) {
    await agent.declare(
      shape.service,
      manifest(shape.service, shape.service === 'rotated' ? 'access-*.log' : 'access.log'),
    );
    await site.instance(shape.service, 'RUNNING', (one) => one.state === 'SERVICE_STATE_RUNNING');
    const there = await readdir(join(agent.data, 'logs', shape.service));
    if (there.filter((name) => name.startsWith('access')).length !== shape.files.length) throw new Error(there.join());
  }
  await sleep(systemClock, 5000);
  for (const shape of all) await measure(client, agent, shape);
  channel.close();
} finally {
  await site.close();
}
