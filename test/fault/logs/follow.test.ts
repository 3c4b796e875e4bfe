import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, it, type TestContext } from 'node:test';
import { freshSeed, randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';

/** How many things are killed. */
const KILLS = Number(process.env['FOLLOW_KILLS'] ?? 5);
const PROGRAM = fileURLToPath(new URL('../../../bin/muster.js', import.meta.url));
const MACHINES = ['web-1', 'web-2'];

/** Prints numbered lines without end, some 100 KB/s. */
const LOUD = `let n = 0; setInterval(() => { let text = ""; for (let i = 0; i < 20; i++, n++) text += n + " " + "x".repeat((n * 7919) % 190) + "\\n"; process.stdout.write(text); }, 20)`;
const MANIFEST = `name: loud
command: [${JSON.stringify(process.execPath)}, -e, ${JSON.stringify(LOUD)}]
start: { settle: 200ms }
logs: { files: ['*.log'], max_size: 64KiB, keep: 1000 }
`;

interface Shown {
  readonly machineName?: string;
  readonly text?: string;
  readonly notice?: boolean;
}

/** `muster logs tail -f` as a person runs it, and what it said so far. */
class Follower {
  readonly numbers = new Map<string, number[]>();
  readonly notices: string[] = [];
  readonly #child: ChildProcess;

  constructor(t: TestContext, site: Site) {
    const args = ['--socket', site.socket, 'logs', 'tail', 'loud', '-f', '-n', '1', '--json'];
    this.#child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => this.#child.kill('SIGKILL'));
    const { stdout } = this.#child;
    assert.ok(stdout);
    createInterface({ input: stdout }).on('line', (line) => {
      this.#take(JSON.parse(line) as Shown);
    });
  }

  /** The last number shown of a machine; -1 before the first. */
  last(machine: string): number {
    return this.numbers.get(machine)?.at(-1) ?? -1;
  }

  /** As Ctrl-C does. @returns the exit status */
  async interrupt(): Promise<number | null> {
    this.#child.kill('SIGINT');
    const [code] = (await once(this.#child, 'close')) as [number | null];
    return code;
  }

  #take({ machineName = '', text = '', notice = false }: Shown): void {
    if (notice) this.notices.push(`${machineName}: ${text}`);
    else
      this.numbers.set(machineName, [
        ...(this.numbers.get(machineName) ?? []).slice(-1),
        this.#follows(machineName, text),
      ]);
  }

  #follows(machine: string, text: string): number {
    const number = Number(text.split(' ')[0]);
    const before = this.numbers.get(machine)?.at(-1);
    assert.equal(text, `${number} ${'x'.repeat((number * 7919) % 190)}`);
    if (before !== undefined)
      assert.equal(number, before + 1, `a gap or a repeat on ${machine}; ${this.notices.join('; ')}`);
    return number;
  }
}

async function killOne(random: Random, site: Site, agents: readonly TestAgent[]): Promise<string> {
  const chosen = randomBetween(random, 0, agents.length + 1);
  const victim = agents[chosen]?.process ?? site.center;
  await victim.end('SIGKILL');
  await victim.start();
  return victim.name;
}

describe('muster logs tail -f', () => {
  it('shows every line of two machines once and in order, whatever is killed', { timeout: 240_000 }, async (t) => {
    const seed = freshSeed();
    t.diagnostic(`seed ${seed}`);
    const random = seededRandom(seed);
    const site = await Site.start();
    t.after(() => site.close());
    const agents: TestAgent[] = [];
    for (const name of MACHINES) {
      const agent = await site.addAgent(name);
      await agent.declare('loud', MANIFEST);
      agents.push(agent);
    }
    await waitFor('both services to run', async () => {
      const { stdout } = await site.cli('services', 'loud', '--json');
      return (stdout.match(/SERVICE_STATE_RUNNING/g) ?? []).length === MACHINES.length;
    });
    const follower = new Follower(t, site);
    const readOn = (lines: number): Promise<unknown> => {
      const goals = MACHINES.map((machine) => ({ machine, until: follower.last(machine) + lines }));
      return waitFor(
        'new lines of both',
        () => goals.every(({ machine, until }) => follower.last(machine) >= until),
        60_000,
      );
    };
    await readOn(100);
    for (let kill = 0; kill < KILLS; kill += 1) {
      t.diagnostic(`killed ${await killOne(random, site, agents)}`);
      await readOn(randomBetween(random, 1, 4000));
    }
    assert.deepEqual(
      follower.notices.filter((text) => /left out|emptied|replaced|dropped/.test(text)),
      [],
    );
    assert.ok(follower.notices.length > 0, 'what was away is told');
    assert.equal(await follower.interrupt(), 0);
  });
});
