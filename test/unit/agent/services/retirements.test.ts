import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { Applied, Assignment } from '../../../../generated/muster/v1/center.js';
import { Assignments } from '../../../../src/agent/link/assignments.js';
import { Programs } from '../../../../src/agent/services/programs.js';
import { Services } from '../../../../src/agent/services/services.js';
import { ManualClock, systemClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { seededRandom } from '../../../../src/kit/random.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';
import { FakeDriver, type FakeUnit } from '../../../support/fake-driver.js';
import { failureOf } from '../../../support/rpc.js';
import { noChecks } from '../../../support/supervised.js';
import { waitFor } from '../../../support/waiting.js';

const MANIFEST = 'name: hung\ncommand: [hung]\nstart: { settle: 0s }\nstop: { grace: 5s }\n';

/** Services of a driver without processes, in a time of their own; `again` is the next agent on the same data. */
class Bench {
  readonly clock = new ManualClock();
  readonly driver = new FakeDriver();
  readonly unit: FakeUnit = this.driver.of('hung');
  readonly told: Applied[] = [];
  services: Services;
  readonly directory: string;
  readonly #store: Store;
  #abort = new AbortController();
  #running: Promise<void> = Promise.resolve();

  private constructor(directory: string, store: Store) {
    this.directory = directory;
    this.#store = store;
    this.services = this.#make();
  }

  static async open(t: TestContext): Promise<Bench> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-retire-'));
    const bench = new Bench(directory, await openMemoryStore());
    t.after(async () => {
      await bench.close();
      await rm(directory, { recursive: true, force: true });
    });
    await mkdir(join(directory, 'manifests'));
    await bench.#run();
    return bench;
  }

  async again(): Promise<void> {
    await this.close();
    this.#abort = new AbortController();
    this.services = this.#make();
    await this.#run();
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  /** As the center orders it. */
  async order(fields: Partial<Assignment>): Promise<void> {
    const assignments = new Assignments({
      control: this.services,
      config: { refresh: () => undefined },
      logger: silentLogger,
    });
    const assignment = {
      service: 'hung',
      generation: 1,
      manifest: '',
      removed: false,
      configRevision: 0,
      configHash: '',
    };
    await assignments.apply({ ...assignment, ...fields }, (applied) => this.told.push(applied));
  }

  /** Lets time pass until it is so. */
  async until(what: string, test: () => boolean): Promise<void> {
    await waitFor(what, async () => {
      await this.clock.advance(500);
      return test();
    });
  }

  get state(): string {
    return this.services
      .list()
      .map(({ state }) => state)
      .join();
  }

  get last(): string {
    return this.told.at(-1)?.phase ?? '';
  }

  #make(): Services {
    return new Services({
      dataDirectory: this.directory,
      manifestsDirectory: join(this.directory, 'manifests'),
      store: this.#store,
      clock: this.clock,
      random: seededRandom(1),
      logger: silentLogger,
      bootId: 'boot',
      checks: noChecks,
      drivers: () => ({ process: this.driver, systemd: this.driver, sysv: this.driver }),
      programs: new Programs({ clock: systemClock, defaultUser: 'nobody', environmentOf: () => ({}) }),
    });
  }

  async #run(): Promise<void> {
    this.#running = this.services.run(this.#abort.signal);
    await this.services.ready;
  }
}

/** An assigned service that runs and cannot be ended. */
async function hung(t: TestContext): Promise<Bench> {
  const b = await Bench.open(t);
  b.unit.endsOnTerminate = false;
  b.unit.endsOnKill = false;
  await b.order({ manifest: MANIFEST });
  await b.until('it to run', () => b.state === 'RUNNING');
  return b;
}

describe('a service that is taken away and does not end', () => {
  it('is answered as failed until it has, is not started meanwhile, and is ended at last', async (t) => {
    const b = await hung(t);
    await b.order({ generation: 2, removed: true });
    assert.equal(b.last, 'PHASE_APPLYING', 'nothing is said to be done that is not');
    await b.until('the failure', () => b.last === 'PHASE_FAILED');
    assert.match(b.told.at(-1)?.error ?? '', /not even by SIGKILL/);
    assert.equal(b.state, 'STOPPING');
    for (const wish of [b.services.start('hung'), b.services.restart('hung')])
      assert.match((await failureOf(wish)).message, /was removed.*has not ended yet/);
    assert.deepEqual([...b.services.generations()], [['hung', 1]], 'so that the center asks again');
    b.unit.endsOnKill = true;
    await b.until('its end', () => b.last === 'PHASE_APPLIED');
    assert.deepEqual([b.services.list(), [...b.services.generations()]], [[], []]);
    assert.equal(b.unit.running, undefined);
  });

  it('is ended by the next agent, too, and the center that asks again hears of it', async (t) => {
    const b = await hung(t);
    await b.order({ generation: 2, removed: true });
    await b.until('the failure', () => b.last === 'PHASE_FAILED');
    await b.again();
    await b.order({ generation: 2, removed: true });
    assert.equal(b.last, 'PHASE_APPLYING');
    assert.deepEqual([...b.services.generations()], [['hung', 1]]);
    b.unit.endsOnKill = true;
    await b.until('its end', () => b.last === 'PHASE_APPLIED');
    assert.equal(b.services.list().length, 0);
    await b.again();
    assert.equal(b.services.list().length, 0, 'nothing is left of it');
  });

  it('can be given again once it has ended, not before', async (t) => {
    const b = await hung(t);
    await b.order({ generation: 2, removed: true });
    await b.until('the failure', () => b.last === 'PHASE_FAILED');
    const taking = b.order({ generation: 3, manifest: MANIFEST });
    let answered = false;
    void taking.finally(() => {
      answered = true;
    });
    await b.until('an answer', () => answered);
    assert.deepEqual([b.told.at(-1)?.generation, b.last], [3, 'PHASE_FAILED']);
    b.unit.endsOnKill = true;
    await b.until('its end', () => b.services.list().length === 0);
    await b.order({ generation: 3, manifest: MANIFEST });
    await b.until('it to run again', () => b.state === 'RUNNING');
  });

  it('does not keep a service of the same name that is declared here, nor others, from running afterwards', async (t) => {
    const b = await hung(t);
    await b.order({ generation: 2, removed: true });
    await writeFile(join(b.directory, 'manifests', 'hung.yaml'), MANIFEST);
    await writeFile(join(b.directory, 'manifests', 'other.yaml'), MANIFEST.replaceAll('hung', 'other'));
    await b.until('the other', () =>
      b.services.list().some((one) => one.service === 'other' && one.state === 'RUNNING'),
    );
    assert.equal(b.services.get('hung').state, 'STOPPING');
    b.unit.endsOnKill = true;
    await b.until('the one declared here', () => {
      const found = b.services.list().find(({ service }) => service === 'hung');
      return found?.state === 'RUNNING' && found.generation === 0;
    });
  });

  it('because its manifest went away is ended at last', async (t) => {
    const b = await Bench.open(t);
    await writeFile(join(b.directory, 'manifests', 'hung.yaml'), MANIFEST);
    await b.until('it to run', () => b.state === 'RUNNING');
    b.unit.endsOnTerminate = false;
    b.unit.endsOnKill = false;
    await rm(join(b.directory, 'manifests', 'hung.yaml'));
    await b.until('several kills', () => b.unit.calls.filter((call) => call === 'kill').length >= 4);
    b.unit.endsOnKill = true;
    await b.until('its end', () => b.services.list().length === 0);
  });
});
