import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { freshSeed, randomBetween, seededRandom } from '../../../src/kit/random.js';
import { clientsAt } from '../../support/hops.js';
import { waitFor } from '../../support/waiting.js';
import { programArgs } from '../../support/program.js';

const KILLS = 50;
/** Time between kills: shorter than a restart, so that several are down at once now and then. */
const PAUSE_MS = [50, 700] as const;
const SERVICES = ['exact', 'rough'] as const;
type Service = (typeof SERVICES)[number];

const HOST = fileURLToPath(new URL('../../support/counting-host', import.meta.url));

interface Said {
  readonly ready?: boolean;
  readonly counted?: number;
  readonly acknowledged?: number;
  readonly paused?: number;
}

/** A process of the site, with the newest of everything it said. */
class HostProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #paused: Promise<void>;
  said: Said = {};

  constructor(args: readonly string[], env: Record<string, string> = {}) {
    this.#child = spawn(process.execPath, programArgs(HOST, ...args), {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env, NODE_NO_WARNINGS: '1' },
    });
    this.#ended = once(this.#child, 'close');
    const { stdout, stdin } = this.#child;
    assert.ok(stdout && stdin);
    stdin.on('error', () => undefined);
    const lines = createInterface({ input: stdout });
    this.#paused = new Promise((resolve) => {
      lines.on('line', (line) => {
        this.said = { ...this.said, ...(JSON.parse(line) as Said) };
        if (this.said.paused !== undefined) resolve();
      });
    });
  }

  /** Stops counting; resolves with what was counted, all of it acknowledged. */
  async pause(): Promise<number> {
    this.#child.stdin?.write('pause\n');
    await this.#paused;
    return this.said.paused ?? 0;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    // Until its pipes are read to the end: what it said last counts.
    await this.#ended;
  }
}

class Site {
  readonly #directory: string;
  #center: HostProcess;
  #agent: HostProcess;
  readonly #services: Record<Service, HostProcess>;
  /** Of ended processes: what is certainly counted, and what may be at most. */
  readonly #atLeast: Record<Service, number> = { exact: 0, rough: 0 };
  readonly #atMost: Record<Service, number> = { exact: 0, rough: 0 };

  constructor(directory: string) {
    this.#directory = directory;
    this.#center = this.#startCenter();
    this.#agent = this.#startAgent();
    this.#services = { exact: this.#startService('exact'), rough: this.#startService('rough') };
  }

  async killCenter(): Promise<void> {
    await this.#center.kill();
    this.#center = this.#startCenter();
  }

  async killAgent(): Promise<void> {
    await this.#agent.kill();
    this.#agent = this.#startAgent();
  }

  /** Kills it at any moment: some of what it counted may be lost with it. */
  async killRough(): Promise<void> {
    await this.#services.rough.kill();
    const { acknowledged = 0, counted = 0 } = this.#services.rough.said;
    this.#atLeast.rough += acknowledged;
    this.#atMost.rough += counted;
    this.#services.rough = this.#startService('rough');
  }

  /** Kills it, and the agent with it, at the moment when all it counted is acknowledged: nothing may be lost. */
  async killExact(): Promise<void> {
    await waitFor('something to be counted', () => (this.#services.exact.said.acknowledged ?? 0) > 0);
    await this.#end('exact', this.#agent);
    this.#agent = this.#startAgent();
    this.#services.exact = this.#startService('exact');
  }

  async #end(service: Service, also?: HostProcess): Promise<void> {
    const counted = await this.#services[service].pause();
    await Promise.all([also?.kill(), this.#services[service].kill()]);
    this.#atLeast[service] += counted;
    this.#atMost[service] += counted;
  }

  /** Ends both services; answers with what must have been counted of each. */
  async finish(): Promise<Record<Service, readonly [number, number]>> {
    for (const service of SERVICES) await this.#end(service);
    const { exact, rough } = this.#atLeast;
    return { exact: [exact, this.#atMost.exact], rough: [rough, this.#atMost.rough] };
  }

  /** The center's total, over a new connection. */
  async total(service: Service): Promise<number> {
    const operator = clientsAt(join(this.#directory, 'center', 'operator.sock'));
    try {
      const { counter } = await operator.counter.query({ service, name: 'test' }, { timeoutMs: 2_000 });
      return counter?.value ?? 0;
    } finally {
      operator.close();
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#center, this.#agent, ...Object.values(this.#services)].map((host) => host.kill()));
  }

  #startCenter(): HostProcess {
    return new HostProcess(['center', join(this.#directory, 'center'), SERVICES.join()]);
  }

  #startAgent(): HostProcess {
    const center = `unix:${join(this.#directory, 'center', 'agent.sock')}`;
    return new HostProcess(['agent', join(this.#directory, 'agent'), center, SERVICES.join()]);
  }

  #startService(service: Service): HostProcess {
    return new HostProcess(['service'], { MUSTER_AGENT: join(this.#directory, 'agent', `${service}.sock`) });
  }
}

describe('counters under kill -9', () => {
  it(`lose no acknowledged increment and count none twice in ${KILLS} kills`, { timeout: 600_000 }, async (t) => {
    const seed = Number(process.env['SEED'] ?? freshSeed());
    t.diagnostic(`seed ${seed} (set SEED to repeat)`);
    const random = seededRandom(seed);
    const directory = await mkdtemp(join(tmpdir(), 'muster-kills-'));
    const site = new Site(directory);
    t.after(async () => {
      await site.close();
      await rm(directory, { recursive: true, force: true });
    });
    const victims = {
      center: () => site.killCenter(),
      agent: () => site.killAgent(),
      rough: () => site.killRough(),
      exact: () => site.killExact(),
    };
    const names = ['center', 'agent', 'rough', 'center', 'agent', 'exact'] as const;
    const killed = { center: 0, agent: 0, rough: 0, exact: 0 };
    for (let kill = 0; kill < KILLS; kill += 1) {
      await sleep(systemClock, randomBetween(random, ...PAUSE_MS));
      const victim = names[randomBetween(random, 0, names.length)] ?? 'agent';
      await victims[victim]();
      killed[victim] += 1;
    }
    t.diagnostic(`killed ${JSON.stringify(killed)}`);
    const { exact, rough } = await site.finish();
    await waitFor(`the exact total to be ${exact[0]}`, async () => {
      const total = await site.total('exact');
      assert.ok(total <= exact[1], `${total} were counted of ${exact[1]}: some twice`);
      return total === exact[0];
    });
    await waitFor(`the rough total to be at least ${rough[0]}`, async () => (await site.total('rough')) >= rough[0]);
    assert.ok((await site.total('rough')) <= rough[1], 'some were counted twice');
    t.diagnostic(`exact ${exact[0]}; rough ${await site.total('rough')} between ${rough.join(' and ')}`);
    // And it stays so when all start again from their disks.
    await site.killCenter();
    await site.killAgent();
    assert.equal(await waitFor('the center to be back', () => site.total('exact')), exact[0]);
    await sleep(systemClock, 3_000);
    assert.equal(await waitFor('the center to answer', () => site.total('exact')), exact[0]);
  });
});
