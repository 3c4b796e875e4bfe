/**
 * A backup of 1 GiB (or `--mib N`) through an agent in turns with `tar czf` of the same files, and reading it back (every file's hash compared)
 * beside `gzip -t`. Memory of the agent meanwhile.
 * Run after `npm run build`: node --import tsx bench/backup.ts [--mib N] [--rounds N]
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Site } from '../test/support/site.js';
import { mebibytes, quantile, row, rssOf } from './measure.js';
import { command, memoryDuring, option, timed } from './runs.js';

const MIB = 1024 * 1024;
const SERVICE = 'shop';
const FILE_BYTES = 512 * 1024;

const totalBytes = option('mib', 1024) * MIB;
const rounds = option('rounds', 3);
const run = promisify(execFile);

async function makeTree(root: string): Promise<void> {
  const text = Buffer.from('2026-05-01T10:00:00Z GET /orders/1337 200 1234 "Mozilla/5.0"\n'.repeat(8192)).subarray(
    0,
    FILE_BYTES / 2,
  );
  for (let index = 0; index * FILE_BYTES < totalBytes; index += 1) {
    const folder = join(root, `part-${Math.floor(index / 100)}`);
    if (index % 100 === 0) await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `file-${index}`), Buffer.concat([randomBytes(FILE_BYTES / 2), text]));
  }
}

const site = await Site.start();
try {
  const agent = await site.addAgent('store');
  const shared = join(agent.data, 'services', SERVICE, 'shared');
  await agent.declare(
    SERVICE,
    `name: ${SERVICE}\nversion: 1.0.0\ncommand: [sleep, "100000"]\nbackup: { paths: [data/], keep: { last: 2 } }\n`,
  );
  await site.instance(SERVICE, 'running', ({ state }) => state === 'SERVICE_STATE_RUNNING');
  const data = join(shared, 'data');
  await makeTree(data);
  const idle = rssOf(agent.process.pid);

  const archive = join(site.directory, 'plain.tar.gz');
  const figures = { plain: [] as number[], ours: [] as number[], test: [] as number[], verify: [] as number[] };
  let memory = 0;
  for (let round = 0; round < rounds; round += 1) {
    figures.plain.push(await timed(() => run('tar', ['czf', archive, '-C', shared, 'data'])));
    figures.test.push(await timed(() => run('gzip', ['-t', archive])));
    await rm(archive);
    const all = async (): Promise<void> => {
      figures.ours.push(await timed(() => command(site, 'backup', 'now', SERVICE)));
      figures.verify.push(await timed(() => command(site, 'backup', 'verify', SERVICE)));
    };
    memory = Math.max(memory, await memoryDuring([agent.process.pid], all));
  }
  const median = (values: readonly number[]): number => quantile(values, 0.5);
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
  row(`${mebibytes(totalBytes)}: tar czf`, seconds(median(figures.plain)));
  row('  muster backup now', seconds(median(figures.ours)));
  row('  of tar czf', (median(figures.ours) / median(figures.plain)).toFixed(2));
  row('  gzip -t', seconds(median(figures.test)));
  row('  muster backup verify, every hash', seconds(median(figures.verify)));
  row('  of gzip -t', (median(figures.verify) / median(figures.test)).toFixed(2));
  row('  memory of the agent above idle', mebibytes(memory - idle));
} finally {
  await site.close();
}
