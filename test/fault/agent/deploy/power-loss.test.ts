import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { Deploy } from '../../../../src/agent/deploy/deploy.js';
import type { HeldReleases } from '../../../../src/agent/deploy/held.js';
import { directoryName } from '../../../../src/agent/deploy/places.js';
import { CHECKED } from '../../../support/deploy-kills.js';
import { Shelf } from '../../../support/deploying.js';
import type { DeployOrder, DeployStep } from '../../../../src/model/release.js';
import { parseTrace, STRACE_TREES, type Event } from '../../store/disk-trace.js';
import { has, temporaryDirectory } from '../../store/support.js';
import { DiskTree } from './disk-tree.js';
import { programArgs } from '../../../support/program.js';

const HOST = join(import.meta.dirname, 'recorded-host');

interface Recording {
  readonly root: string;
  readonly events: readonly Event[];
  readonly orders: readonly DeployOrder[];
}

/** Records what three deploys do to the disk and say of their record. */
async function record(t: TestContext): Promise<Recording> {
  const home = await temporaryDirectory(t);
  const root = join(home, 'disk');
  await mkdir(root);
  await mkdir(join(home, 'shelf'));
  const shelf = new Shelf(join(home, 'shelf'));
  const orders = [
    await shelf.release({
      version: '1.0.0',
      manifest: CHECKED,
      files: { 'lib/a.js': 'a 1.0.0', 'lib/deep/b.js': 'b 1.0.0' },
    }),
    await shelf.release({
      version: '2.0.0',
      manifest: `${CHECKED}\nhooks: { install: [hook] }`,
      files: { 'lib/a.js': 'a 2.0.0', 'lib/deep/b.js': 'b 2.0.0' },
      modules: [{ name: 'shared', version: '3.0.0' }],
    }),
    await shelf.release({
      version: '4.0.0',
      behaves: 'verify-fails',
      manifest: CHECKED,
      files: { 'lib/a.js': 'a 4.0.0', 'lib/deep/b.js': 'b 4.0.0' },
    }),
  ];
  await writeFile(join(home, 'orders.json'), JSON.stringify(orders));
  const trace = join(home, 'trace');
  const [program = '', ...options] = STRACE_TREES;
  const argv = [...options, '-o', trace, process.execPath, ...programArgs(HOST), root];
  const child = spawn(program, argv, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, UV_USE_IO_URING: '0' },
  });
  child.stdout.resume();
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 0);
  return { root, orders, events: parseTrace(await readFile(trace, 'utf8')) };
}

/** What the agent's record says. */
interface Recorded {
  readonly held: HeldReleases['releases'];
  readonly deploy: Deploy | undefined;
}

type Puts = readonly { readonly key: string; readonly value?: unknown }[];

function after(recorded: Recorded, puts: Puts): Recorded {
  let { held, deploy } = recorded;
  for (const { key, value } of puts) {
    if (key.startsWith('held-releases/')) held = (value as HeldReleases | undefined)?.releases ?? [];
    if (key.startsWith('deploy/') && value !== undefined) deploy = value as Deploy;
  }
  return { held, deploy };
}

const ORDERS = 'data/services/orders';

/** What is wrong on a disk that lost power while the record said that. */
function problemsOf(disk: DiskTree, { held, deploy }: Recorded): readonly string[] {
  const current = disk.readlink(ORDERS, 'current');
  const links = current === undefined ? [] : brokenFiles(disk, `${ORDERS}/current`, versionIn(current));
  const listed = held.flatMap(({ ref }) => brokenFiles(disk, `${ORDERS}/releases/${directoryName(ref)}`, ref.version));
  return [...listed, ...links, ...(deploy ? [...wrongLink(current, deploy), ...noArchive(disk, deploy)] : [])];
}

function versionIn(link: string): string {
  return link.split('/')[1]?.split('-')[0] ?? '';
}

function wrongLink(current: string | undefined, deploy: Deploy): readonly string[] {
  const allowed = leadsTo(deploy);
  if (allowed.includes(current)) return [];
  return [`current leads to ${current ?? 'nothing'} in ${where(deploy)}, not to ${allowed.join(' or ')}`];
}

/** A later process does not download again what was. */
function noArchive(disk: DiskTree, deploy: Deploy): readonly string[] {
  const { at, to } = deploy;
  if (at.phase !== 'forward' || !['BACKUP', 'MODULES', 'UNPACK'].includes(at.step)) return [];
  const bytes = disk.bytes(`data/cache/artifacts/${to.digest}.tar.gz`);
  const digest = bytes && createHash('sha256').update(bytes).digest('hex');
  return digest === to.digest ? [] : [`the archive is not there in ${where(deploy)}`];
}

function where({ at, to }: Deploy): string {
  return `${to.version} ${at.phase === 'ended' ? 'ended' : `${at.phase} ${at.step}`}`;
}

const BEHIND_SWITCH: readonly DeployStep[] = ['START', 'VERIFY', 'PRUNE'];

/** Where `current` may lead: what is recorded as done is on the disk, what is under way may be. */
function leadsTo({ at, from, to }: Deploy): readonly (string | undefined)[] {
  const old = from && `releases/${directoryName(from)}`;
  const its = `releases/${directoryName(to)}`;
  if (at.phase === 'ended') return [at.outcome === 'SUCCEEDED' ? its : old];
  if (at.step === 'SWITCH' || (at.phase === 'undo' && at.step === 'STOP')) return [old, its];
  const switched = BEHIND_SWITCH.includes(at.step);
  return [switched === (at.phase === 'forward') ? its : old];
}

function brokenFiles(disk: DiskTree, directory: string, version: string): readonly string[] {
  const expected: Record<string, string> = {
    'server.js': `// ${version}`,
    'lib/a.js': `a ${version}`,
    'lib/deep/b.js': `b ${version}`,
    ...(version === '2.0.0' ? { 'made-by-hook': version, 'modules/shared/index.js': '// shared 3.0.0' } : {}),
  };
  return Object.entries(expected).flatMap(([file, text]) => {
    const found = disk.read(`${directory}/${file}`);
    return found === text ? [] : [`${directory}/${file} is ${found === undefined ? 'not there' : `"${found}"`}`];
  });
}

/** The record as it is on its disk for sure, and as it may be. */
class RecordDisk {
  now: Recorded = { held: [], deploy: undefined };
  next: Recorded = this.now;

  hear(line: string): void {
    const [, word = '', text = ''] = /^(\w+) (.*)\n$/.exec(line) ?? [];
    if (word === 'writing') this.next = after(this.now, JSON.parse(text) as Puts);
    if (word === 'wrote') this.now = this.next;
  }
}

/** Loses power after every event. Returns what is wrong, and after how many of them. */
function losePower(
  { root, events }: Recording,
  ignore: (event: Event, recorded: Recorded) => boolean,
): { losses: number; wrong: Map<string, number> } {
  const disk = new DiskTree(root);
  const wrong = new Map<string, number>();
  const record = new RecordDisk();
  const touching = events.filter((event) => event.at === 'said' || event.path.startsWith(root));
  for (const event of touching) {
    if (event.at === 'said') record.hear(event.text);
    else if (!ignore(event, record.now)) disk.apply(event);
    for (const problem of new Set([...problemsOf(disk, record.now), ...problemsOf(disk, record.next)])) {
      wrong.set(problem, (wrong.get(problem) ?? 0) + 1);
    }
  }
  return { losses: touching.length, wrong };
}

describe('a machine that loses power while releases are deployed', () => {
  it(
    'has one whole release, the one its record says, and would not without any of its syncs',
    { timeout: 120_000 },
    async (t) => {
      if (!has('strace')) {
        t.skip('needs strace');
        return;
      }
      const recording = await record(t);
      const said = recording.events.filter((event) => event.at === 'said' && event.text.startsWith('ended '));
      assert.deepEqual(
        said.map((event) => (event.at === 'said' ? event.text : '')),
        ['ended "SUCCEEDED"\n', 'ended "SUCCEEDED"\n', 'ended "FAILED"\n'],
      );
      const { losses, wrong } = losePower(recording, () => false);
      t.diagnostic(`${losses} power losses`);
      assert.deepEqual([...wrong], []);
      const syncs: Record<string, RegExp> = {
        'files of an unpacked release': /\/releases\/[^/]+\/.*\.js$/,
        'directories of an unpacked release': /\/releases\/[^/]+\/lib(\/deep)?$/,
        'the directory of the releases': /\/orders\/releases$/,
        'the archive': /\.part$/,
        'the directory of the archives': /\/cache\/artifacts$/,
        'what the hook made': /\/made-by-hook$/,
        'a module': /\/modules\/shared\/[^/]+\/index\.js$/,
      };
      for (const [what, path] of Object.entries(syncs)) {
        const without = losePower(recording, (event) => event.at === 'sync_done' && path.test(event.path));
        t.diagnostic(
          `without the sync of ${what}: ${[...without.wrong]
            .map(([problem, times]) => `${problem} (${times} times)`)
            .slice(0, 2)
            .join('; ')}`,
        );
        assert.ok(without.wrong.size > 0, `nobody would miss the sync of ${what}`);
      }
      const atSwitch = (event: Event, { deploy }: Recorded): boolean =>
        event.at === 'sync_done' &&
        event.path.endsWith('/services/orders') &&
        deploy?.at.phase !== 'ended' &&
        deploy?.at.step === 'SWITCH';
      const { wrong: lost } = losePower(recording, atSwitch);
      assert.ok(
        [...lost.keys()].some((problem) => /^current leads to .* in 2\.0\.0 forward START, not to /.test(problem)),
        `nobody would miss the sync of the directory of current: ${[...lost.keys()].join('; ')}`,
      );
    },
  );
});
