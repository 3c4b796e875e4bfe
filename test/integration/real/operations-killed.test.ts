import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { running } from './observe.js';

const NOTED = fileURLToPath(new URL('programs/noted.mjs', import.meta.url));
const MUSTER = fileURLToPath(new URL('../../../bin/muster.js', import.meta.url));
const NAMES = ['one', 'two', 'three'] as const;
/** What each machine has to be searched, far more than pipes and streams hold. */
const LINES = 30_000;

/** A command that goes on, whose output is read only when the test says so. */
class Going {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  stdout = '';
  stderr = '';

  constructor(site: Site, args: readonly string[]) {
    this.#child = spawn(process.execPath, [MUSTER, '--socket', site.socket, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1' },
    });
    this.#closed = once(this.#child, 'close');
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString('utf8')));
  }

  /** Reads what it prints from now on. */
  read(): this {
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString('utf8')));
    return this;
  }

  /** As Ctrl-C does. */
  interrupt(): void {
    this.#child.kill('SIGINT');
  }

  async end(): Promise<number | null> {
    await this.#closed;
    return this.#child.exitCode;
  }
}

interface Shown {
  readonly operation: { readonly id: string; readonly state: string };
  readonly targets: readonly { readonly machineName: string; readonly outcome: string }[];
}

describe('kill -9 of the center during an operation', () => {
  let site: Site;
  const agents: TestAgent[] = [];

  const startsOf = async (agent: TestAgent): Promise<number> => {
    const file = join(agent.data, 'noted.starts');
    return existsSync(file) ? (await readFile(file, 'utf8')).trim().split('\n').length : 0;
  };

  /** Resolves when every machine has so many starts or more: a program runs before its own code has come to note that. */
  const noted = (counts: readonly number[]): Promise<true> =>
    waitFor('every start to be noted', async () =>
      (await Promise.all(agents.map(startsOf))).every((count, index) => count >= (counts[index] ?? 0)),
    );

  before(async () => {
    site = await Site.start();
    for (const name of NAMES) {
      const agent = await site.addAgent(name);
      agents.push(agent);
      await agent.declare(
        'noted',
        [
          'name: noted',
          `command: [${process.execPath}, ${NOTED}, ${join(agent.data, 'noted.starts')}, "1500"]`,
          'start: { settle: 200ms }',
          'stop: { grace: 30s }',
        ].join('\n'),
      );
      const print = `for (let i = 0; i < ${LINES}; i += 1) console.log('line ' + i + ' of ${name} ' + '.'.repeat(60))`;
      await agent.declare(
        'wordy',
        [
          'name: wordy',
          `command: [${process.execPath}, -e, "${print}; console.log('that was all'); setInterval(() => {}, 1000)"]`,
          'start: { settle: 200ms }',
        ].join('\n'),
      );
    }
    for (const name of NAMES) {
      await site.instance('noted', 'RUNNING', running, name);
      await site.instance('wordy', 'RUNNING', running, name);
    }
    await noted(NAMES.map(() => 1));
  });

  after(() => site.close());

  it('a rolling restart goes on, each machine once, and the command line follows it to the end', async () => {
    const before = await Promise.all(agents.map(startsOf));
    const going = new Going(site, ['restart', 'noted', '--batch', '1']).read();
    await waitFor('the first target to run', () => /one {2}STARTED/.test(going.stdout));
    await site.center.end('SIGKILL');
    await waitFor('the loss to be told', () => going.stdout.includes('the center cannot be reached since'));
    await site.center.start();
    assert.equal(await going.end(), 0, going.stdout + going.stderr);
    assert.match(going.stdout, /the center is back/);
    assert.match(going.stdout, /restart of noted {2}SUCCEEDED in [^\n]*\n {2}3 targets: 3 succeeded\n$/);
    for (const name of NAMES) assert.equal(going.stdout.match(new RegExp(`${name} {2}SUCCEEDED`, 'g'))?.length, 1);
    const wanted = before.map((count) => count + 1);
    await noted(wanted);
    assert.deepEqual(await Promise.all(agents.map(startsOf)), wanted);
  });

  it('Ctrl-C leaves it going, and its id, shortened too, finds it again', async () => {
    const going = new Going(site, ['restart', 'noted', '--batch', '1']).read();
    await waitFor('the first target to run', () => /one {2}STARTED/.test(going.stdout));
    going.interrupt();
    assert.equal(await going.end(), 1);
    const [, id = ''] = /goes on without this command \((op-\w+)\)/.exec(going.stdout) ?? [];
    assert.notEqual(id, '', going.stdout);
    const refused = await site.cli('restart', 'noted');
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, new RegExp(`operation ${id}.*--wait`));
    const watched = await site.cli('ops', 'watch', id.slice(0, 8));
    assert.equal(watched.status, 0, watched.stdout + watched.stderr);
    const shown = (await site.json('ops', id)) as Shown;
    assert.equal(shown.operation.state, 'OPERATION_STATE_SUCCEEDED');
    assert.deepEqual(
      shown.targets.map(({ machineName }) => machineName),
      ['one', 'three', 'two'],
    );
  });

  it('a search is made again where it was cut off, and no line is printed twice or left out', async () => {
    // Nobody reads what is found: the search cannot get to its end before the center does.
    const going = new Going(site, ['logs', 'grep', 'wordy', 'line ', '--max-lines', '100000']);
    await waitFor('the search to have begun on every machine', async () => {
      const { operations } = (await site.json('ops')) as { operations: { id: string; action: string }[] };
      const search = operations.find(({ action }) => action === 'ACTION_SEARCH');
      if (search === undefined) return false;
      const { targets } = (await site.json('ops', search.id)) as Shown;
      return targets.every(({ outcome }) => outcome === 'OUTCOME_STARTED');
    });
    await site.center.end('SIGKILL');
    going.read();
    await waitFor('the loss to be told', () => going.stderr.includes('The center cannot be reached'));
    await site.center.start();
    assert.equal(await going.end(), 0, going.stderr);
    assert.match(going.stderr, /Searching again on 3 machines/);
    assert.match(going.stderr, /\nSearched everything on 3 machines: .*; 90000 matching lines\n$/);
    const texts = going.stdout.trimEnd().split('\n');
    assert.equal(texts.length, NAMES.length * LINES);
    const found = new Set(texts.map((text) => text.replace(/^\S+ \S+ /, '')));
    for (const name of NAMES) {
      for (let line = 0; line < LINES; line += 1) {
        assert.ok(found.has(`line ${line} of ${name} ${'.'.repeat(60)}`), `line ${line} of ${name}`);
      }
    }
  });
});
