/**
 * A release of 100 MB in 10,000 files deployed to 10 agents on this machine, in turns with `curl | tar xz` of the same archive from the same
 * machine into as many directories at once: once as it is, and once with a `sync` behind it, since an agent reports only what is on disk.
 * Memory of the agents meanwhile, and how long the service was down in an upgrade.
 * Run after `npm run build`: node --import tsx bench/deploy.ts [--agents N] [--files N] [--mib N] [--rounds N]
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Site } from '../test/support/site.js';
import { mebibytes, quantile, row, rssOf } from './measure.js';
import { command, memoryDuring, option, timed } from './runs.js';

const MIB = 1024 * 1024;
const SERVICE = 'shop';

const agentCount = option('agents', 10);
const files = option('files', 10_000);
const totalBytes = option('mib', 95) * MIB;
const rounds = option('rounds', 3);
const run = promisify(execFile);

const manifest = (version: string): string => `name: ${SERVICE}
version: ${version}
command: [sleep, "100000"]
start: { settle: 100ms }
releases: { keep: 3 }
`;

/** Half of each file is noise and half compresses well, as with code and assets. */
async function makeTree(root: string): Promise<void> {
  const size = Math.floor(totalBytes / files);
  const text = Buffer.from('export function handle(request, response) { return response.end("well"); }\n'.repeat(400));
  for (let index = 0; index < files; index += 1) {
    const folder = join(root, `part-${Math.floor(index / 100)}`);
    if (index % 100 === 0) await mkdir(folder, { recursive: true });
    const half = Math.floor(size / 2);
    await writeFile(
      join(folder, `file-${index}.js`),
      Buffer.concat([randomBytes(half), text.subarray(0, size - half)]),
    );
  }
}

/**
 * `curl | tar xz` of the archive into a directory of its own for each agent, all at once. Nothing is removed before the end of the bench: ext4 gives
 * no inode away again within half a minute, and looks past each of so many that were freed when it makes a file (ten times slower, measured), which
 * would be told of whoever comes next.
 */
async function plainly(root: string, url: string, synced: boolean): Promise<number> {
  await mkdir(root);
  const script = 'mkdir -p "$1" && curl -sf "$2" | tar xz -C "$1"' + (synced ? ' && sync -f "$1"' : '');
  const took = await timed(() =>
    Promise.all(
      Array.from({ length: agentCount }, (_, index) => run('sh', ['-c', script, 'sh', join(root, String(index)), url])),
    ),
  );
  return took;
}

interface Report {
  readonly targets: readonly { readonly deploy?: Deployed }[];
}

interface Deployed {
  readonly downtime?: Duration;
  readonly steps: readonly { readonly step: string; readonly took?: Duration }[];
}

interface Duration {
  readonly seconds?: number;
  readonly nanos?: number;
}

const msOf = ({ seconds = 0, nanos = 0 }: Duration): number => seconds * 1000 + nanos / 1e6;

const site = await Site.start();
try {
  const tree = join(site.directory, 'tree');
  await makeTree(tree);
  for (let index = 0; index < agentCount; index += 1) await site.addAgent(`m-${index}`);
  const pids = site.agents.map((agent) => agent.process.pid);
  const idle = Math.max(...pids.map(rssOf));

  const archive = join(site.directory, 'plain.tar.gz');
  await run('tar', ['czf', archive, '-C', tree, '.']);
  const server = createServer((_request, response) => {
    createReadStream(archive).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}/`;

  const plain: number[] = [];
  const synced: number[] = [];
  const ours: number[] = [];
  const downtimes: number[] = [];
  const starts: number[] = [];
  let memory = 0;
  for (let round = 0; round < rounds; round += 1) {
    const version = `1.0.${round}`;
    await writeFile(join(tree, 'muster.yaml'), manifest(version));
    await writeFile(join(tree, 'new.bin'), randomBytes(1000));
    await command(site, 'release', 'push', tree);
    plain.push(await plainly(join(site.directory, `plain-${round}`), url, false));
    synced.push(await plainly(join(site.directory, `synced-${round}`), url, true));
    const deploy = async (): Promise<void> => {
      ours.push(
        await timed(() =>
          command(site, 'deploy', SERVICE, version, '--on', 'machine=m-*', '--batch', String(agentCount)),
        ),
      );
    };
    memory = Math.max(memory, await memoryDuring(pids, deploy));
    if (round === 0) continue;
    const { operations } = (await site.json('ops')) as { operations: readonly { readonly id: string }[] };
    const { targets } = (await site.json('ops', operations[0]?.id ?? '')) as Report;
    for (const { deploy: report } of targets) {
      downtimes.push(msOf(report?.downtime ?? {}));
      starts.push(msOf(report?.steps.find(({ step }) => step === 'DEPLOY_STEP_START')?.took ?? {}));
    }
  }
  server.close();
  const median = (values: readonly number[]): number => quantile(values, 0.5);
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
  row(`${files} files, ${mebibytes(totalBytes)}, ${agentCount} at once: curl | tar xz`, seconds(median(plain)));
  row('  the same, and on disk (sync)', seconds(median(synced)));
  row('  muster deploy, until the last one is verified', seconds(median(ours)));
  row('  of curl | tar xz', (median(ours) / median(plain)).toFixed(2), '1.5');
  row('  of the same on disk', (median(ours) / median(synced)).toFixed(2));
  row('  memory of an agent, at most', mebibytes(memory), 'under 120 MB');
  row('  memory of an agent before', mebibytes(idle));
  const beside = downtimes.map((downtime, index) => downtime - (starts[index] ?? 0));
  row('  downtime of the service, median', `${median(downtimes).toFixed(0)} ms`);
  row('  the same without its own start, median', `${median(beside).toFixed(0)} ms`, 'under 300 ms');
  row('  the same without its own start, longest', `${Math.max(...beside).toFixed(0)} ms`, 'under 300 ms');
} finally {
  await site.close();
}
