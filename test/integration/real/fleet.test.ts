import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { must, nginxConfiguration, system, unless } from '../../support/debian.js';
import { Network } from '../../support/namespaces.js';
import { muster, Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { pidOf, running } from './observe.js';

const MACHINES = ['ant', 'bee', 'cat'] as const;
const PORT = 8088;
/** The one that is cut off in the middle of its restart takes long enough for that. */
const SETTLE = { ant: '500ms', bee: '10s', cat: '4s' } as const;
/** Requests of one machine before anything is looked for. */
const REQUESTS = 6000;

interface Target {
  readonly machineName: string;
  readonly outcome: string;
  readonly message?: string;
  readonly unknownSince?: string;
}

interface Shown {
  readonly operation: { readonly id: string; readonly state: string; readonly message?: string };
  readonly targets: readonly Target[];
}

interface Hit {
  readonly machineName: string;
  readonly file: string;
  readonly line: string;
  readonly text: string;
  readonly time?: string;
}

interface GrepLine {
  readonly hit?: Hit;
  readonly coverage?: {
    readonly machines?: number;
    readonly machinesComplete?: number;
    readonly hits?: string;
    readonly gaps?: readonly unknown[];
  };
}

/** A program of the command line that is still running, and what it has printed so far. */
class Running {
  readonly lines: string[] = [];
  readonly errors: string[] = [];
  readonly child: ChildProcess;
  readonly #closed: Promise<unknown>;

  constructor(command: readonly string[]) {
    const [program = '', ...args] = command;
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } });
    this.#closed = once(this.child, 'close');
    const { stdout, stderr } = this.child;
    assert.ok(stdout && stderr);
    createInterface({ input: stdout }).on('line', (line) => this.lines.push(line));
    createInterface({ input: stderr }).on('line', (line) => this.errors.push(line));
  }

  get text(): string {
    return [...this.lines, ...this.errors].join('\n');
  }

  async end(): Promise<number | null> {
    await this.#closed;
    return this.child.exitCode;
  }
}

/** What a search printed: each machine's hits as `line:text`, as plain grep has them, and what was searched. */
function foundIn(printed: string): { found: (machine: string) => string[]; coverage: GrepLine['coverage'] } {
  const lines = printed
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as GrepLine);
  const hits = lines.flatMap(({ hit }) => hit ?? []);
  for (const hit of hits) assert.notEqual(hit.time, undefined, hit.text);
  return {
    found: (machine) => hits.filter((hit) => hit.machineName === machine).map(({ line, text }) => `${line}:${text}`),
    coverage: lines.findLast((line) => line.coverage !== undefined)?.coverage,
  };
}

describe('operations over three machines with nginx', { skip: unless('root', 'ip', 'curl', 'nginx') }, () => {
  let network: Network;
  let site: Site;
  const agents = new Map<string, TestAgent>();

  const agentOf = (name: string): TestAgent => {
    const agent = agents.get(name);
    assert.ok(agent);
    return agent;
  };
  const logOf = (name: string): string => join(agentOf(name).data, 'logs', 'nginx', 'access.log');
  const cli = (...args: string[]): Running =>
    new Running([process.execPath, 'bin/muster.js', '--socket', site.socket, ...args]);
  const shown = async (id: string): Promise<Shown> => (await site.json('ops', id)) as Shown;
  const newest = async (): Promise<string> => {
    const { operations } = (await site.json('ops')) as { operations?: readonly { readonly id: string }[] };
    return operations?.[0]?.id ?? '';
  };
  const outcomeOf = ({ targets }: Shown, name: string): string =>
    targets.find(({ machineName }) => machineName === name)?.outcome ?? '';
  /** Real requests, each with a path of its own. */
  const visit = (name: string, round: string, count: number): Promise<string> =>
    must(
      ...network.host(name).prefix,
      'curl',
      '-sf',
      '-o',
      '/dev/null',
      `http://127.0.0.1:${PORT}/${round}/item-[1-${count}]`,
    );
  /** What plain grep finds on a machine: `line:text`. */
  const plain = async (name: string, pattern: string): Promise<string[]> =>
    (await system('grep', '-n', '-F', '-e', pattern, logOf(name))).stdout.split('\n').filter(Boolean);

  before(async () => {
    network = await Network.create('center', ...MACHINES);
    const { address, prefix } = network.host('center');
    site = await Site.start({ prefix, listen: `${address}:7400` });
    for (const name of MACHINES) {
      const agent = await site.addAgent(name, { role: 'web' }, network.host(name));
      agents.set(name, agent);
      const directory = join(agent.data, 'logs', 'nginx');
      await mkdir(directory, { recursive: true });
      await chmod(agent.data, 0o755);
      const file = join(agent.data, 'nginx.conf');
      await writeFile(file, nginxConfiguration({ directory, port: PORT, pidFile: join(agent.data, 'nginx.pid') }));
      await agent.declare(
        'nginx',
        [
          'name: nginx',
          "command: [/usr/sbin/nginx, -c, '" + file + "', -g, 'daemon off;']",
          'user: root',
          'version: 1.2.3',
          `ports: [{ name: http, port: ${PORT} }]`,
          `start: { settle: ${SETTLE[name]} }`,
          "logs: { files: ['*.log'], max_size: 1GB }",
        ].join('\n'),
      );
    }
    for (const name of MACHINES) {
      await site.instance('nginx', 'RUNNING', running, name);
      await visit(name, 'first', REQUESTS);
    }
  });

  after(async () => {
    try {
      await site.close();
    } finally {
      await network.close();
    }
  });

  it('finds in the access logs of all what plain grep finds in the files', async () => {
    const result = await site.cli(
      'logs',
      'grep',
      'nginx',
      'item-5',
      '--file',
      'access.log',
      '--json',
      '--max-lines',
      '9999',
    );
    assert.equal(result.status, 0, result.stderr);
    const { found, coverage } = foundIn(result.stdout);
    assert.equal(coverage?.machinesComplete, 3, `${JSON.stringify(coverage)} ${result.stderr}`);
    assert.equal(coverage.machines, 3);
    for (const name of MACHINES) {
      const expected = await plain(name, 'item-5');
      assert.ok(expected.length > 500);
      assert.deepEqual(found(name), expected, name);
    }
  });

  it('loses and repeats nothing while the logs are written to', async () => {
    const writing = Promise.all(MACHINES.map((name) => visit(name, 'second', REQUESTS)));
    const earlier = await Promise.all(MACHINES.map((name) => plain(name, 'item-1')));
    const result = await site.cli(
      'logs',
      'grep',
      'nginx',
      'item-1',
      '--file',
      'access.log',
      '--json',
      '--max-lines',
      '100000',
    );
    await writing;
    const { found: foundOn } = foundIn(result.stdout);
    for (const [index, name] of MACHINES.entries()) {
      const found = foundOn(name);
      const later = await plain(name, 'item-1');
      assert.ok(found.length >= (earlier[index]?.length ?? 0), `${name}: what was there before is found`);
      assert.deepEqual(found, later.slice(0, found.length), `${name}: each once, in order`);
    }
  });

  it('says the truth about a search whose center is killed in the middle, and finds everything once in the end', async () => {
    const search = cli('logs', 'grep', 'nginx', 'item-', '--file', 'access.log', '--json', '--max-lines', '100000');
    search.child.stdout?.pause();
    await waitFor(
      'the search to be under way',
      async () => (await site.json('ops', '--open')) !== undefined && (await newest()) !== '',
    );
    await site.center.end('SIGKILL');
    await site.center.start();
    search.child.stdout?.resume();
    const status = await search.end();
    const { found, coverage } = foundIn(search.lines.join('\n'));
    assert.ok(coverage, search.text.slice(-2000));
    const gaps = coverage.gaps ?? [];
    assert.equal(gaps.length === 0, coverage.machinesComplete === 3, 'what was not searched is named');
    for (const name of MACHINES) {
      const expected = await plain(name, 'item-');
      const hits = found(name);
      assert.equal(new Set(hits).size, hits.length, 'no hit twice');
      if (gaps.length === 0) assert.equal(hits.length, expected.length, name);
    }
    assert.equal(status, 0, search.text.slice(-2000));
  });

  it('restarts one after the other, tells of the machine that is cut off, and resolves it when it is back', async () => {
    const pids = new Map<string, number>();
    for (const name of MACHINES) pids.set(name, pidOf(await site.instance('nginx', 'RUNNING', running, name)));
    const restart = cli(
      'restart',
      'nginx',
      '--batch',
      '1',
      '--budget',
      '0',
      '--unreachable-budget',
      '1',
      '--reason',
      'seen',
    );
    const id = await waitFor('the operation', async () => {
      const found = await newest();
      const { targets } = await shown(found);
      return outcomeOf({ operation: { id: found, state: '' }, targets }, 'bee') === 'OUTCOME_STARTED' && found;
    });
    await network.linkDown('bee');
    assert.equal(outcomeOf(await shown(id), 'ant'), 'OUTCOME_SUCCEEDED');
    assert.equal(outcomeOf(await shown(id), 'cat'), 'OUTCOME_PENDING');
    const second = await site.cli('restart', 'nginx');
    assert.equal(second.status, 1);
    assert.match(second.stderr, new RegExp(id), 'refused, naming the operation that is under way');

    await waitFor('the cut machine to be unknown', async () => outcomeOf(await shown(id), 'bee') === 'OUTCOME_UNKNOWN');
    await waitFor('the next one to have its turn', async () => outcomeOf(await shown(id), 'cat') !== 'OUTCOME_PENDING');
    await site.center.end('SIGKILL');
    await site.center.start();
    const status = await restart.end();
    assert.equal(status, 1, restart.text);
    assert.match(restart.text, /bee .*UNKNOWN since/);
    assert.match(restart.text, /cat .*SUCCEEDED/);
    const ended = await shown(id);
    assert.equal(outcomeOf(ended, 'bee'), 'OUTCOME_UNKNOWN');
    assert.equal(ended.operation.state, 'OPERATION_STATE_PARTIAL');

    await network.linkUp('bee');
    await waitFor('the truth about it', async () => outcomeOf(await shown(id), 'bee') === 'OUTCOME_SUCCEEDED');
    assert.equal((await shown(id)).operation.state, 'OPERATION_STATE_SUCCEEDED', 'what is shown is what is known now');
    for (const name of MACHINES) {
      const seen = await site.instance('nginx', 'RUNNING', running, name);
      assert.notEqual(seen.pid, pids.get(name), `${name} was restarted`);
      assert.equal(seen.restarts ?? 0, 0, `${name} was restarted once`);
    }
    const nothing = await site.cli('ops', 'retry', id);
    assert.match(nothing.stderr, /no target .* failed, expired or is unknown/);
    const by = await muster(['--socket', site.socket, 'ops', id]);
    assert.match(by.stdout, /reason +seen/);
  });
});
