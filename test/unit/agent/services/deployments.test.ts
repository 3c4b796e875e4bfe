import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { Applied, Assignment } from '../../../../generated/muster/v1/center.js';
import { Assignments } from '../../../../src/agent/link/assignments.js';
import type { Hold, ServicesChange, ServiceSource } from '../../../../src/agent/ports.js';
import { Programs } from '../../../../src/agent/services/programs.js';
import { Services } from '../../../../src/agent/services/services.js';
import { ManualClock, systemClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { seededRandom } from '../../../../src/kit/random.js';
import { parseManifest } from '../../../../src/model/manifest.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';
import { FakeDriver, type FakeUnit } from '../../../support/fake-driver.js';
import { failureOf } from '../../../support/rpc.js';
import { noChecks } from '../../../support/supervised.js';
import { waitFor } from '../../../support/waiting.js';

const WEB = 'web';

function manifest(version: string): string {
  return `name: web\nversion: ${version}\ncommand: [web]\nstart: { settle: 0s, retries: 0 }\nstop: { grace: 5s }\n`;
}

/** Services of a driver without processes, in a time of their own; `again` is the next agent on the same data. */
class Bench {
  readonly clock = new ManualClock();
  readonly driver = new FakeDriver({ idleMs: 1000 });
  readonly unit: FakeUnit = this.driver.of(WEB);
  readonly told: Applied[] = [];
  readonly changes: ServicesChange[] = [];
  readonly directory: string;
  /** Services whose deploy the next agent goes on with. */
  readonly unfinished = new Set<string>();
  services: Services;
  readonly #store: Store;
  #looks = 0;
  #abort = new AbortController();
  #running: Promise<void> = Promise.resolve();

  private constructor(directory: string, store: Store) {
    this.directory = directory;
    this.#store = store;
    this.services = this.#make();
  }

  static async open(t: TestContext, local = ''): Promise<Bench> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-deployed-'));
    const bench = new Bench(directory, await openMemoryStore());
    t.after(async () => {
      await bench.close();
      await rm(directory, { recursive: true, force: true });
    });
    await mkdir(join(directory, 'manifests'));
    if (local !== '') await bench.declare(local);
    await bench.#run();
    return bench;
  }

  declare(text: string): Promise<void> {
    return writeFile(join(this.directory, 'manifests', 'web.yaml'), text);
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

  release(version: string, verified = false): ServiceSource {
    const digest = version.replaceAll('.', '').padEnd(64, '0');
    const ref = { service: WEB, version, digest, modules: [], configRevision: 0 };
    const manifestText = manifest(version);
    return {
      manifest: parseManifest(manifestText, { file: WEB }),
      manifestText,
      folder: join(this.directory, 'services', WEB, 'releases', version),
      release: { ref, deployedMs: 5, verified },
    };
  }

  hold(why = 'the deploy of 2.0.0'): Promise<Hold> {
    return this.services.hold(WEB, why);
  }

  /** As a deploy that ends well. */
  async deploy(version: string): Promise<void> {
    const hold = await this.hold();
    await this.to(hold, version);
    await hold.verified(0);
    hold.letGo();
  }

  async to(hold: Hold, version: string): Promise<void> {
    await hold.stop();
    await hold.become(this.release(version));
    await this.while(hold.start());
  }

  /** As the center orders it. */
  async order(fields: Partial<Assignment>): Promise<void> {
    const config = { refresh: () => undefined };
    const assignments = new Assignments({ control: this.services, config, logger: silentLogger });
    const assignment = {
      service: WEB,
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

  async while<T>(work: Promise<T>): Promise<T> {
    let over = false;
    void work.finally(() => (over = true)).catch(() => undefined);
    await this.until('the end of it', () => over);
    return work;
  }

  /** Waits until the services directory was looked at twice more: what was written before is known, and what is gone is. */
  async looks(): Promise<void> {
    for (let look = 1; look <= 2; look += 1) {
      this.#looks += 1;
      const marker = `zz${this.#looks}`;
      const file = join(this.directory, 'manifests', `${marker}.yaml`);
      await writeFile(file, `name: ${marker}\ncommand: [z]\n`);
      await this.until('a look', () => this.services.list().some(({ service }) => service === marker));
    }
    // The rest of the last look.
    await this.clock.advance(2000);
  }

  /** Version and state of what is there; empty where nothing is. */
  get now(): string {
    return this.services
      .list()
      .filter(({ service }) => service === WEB)
      .map(({ version, state }) => `${version} ${state}`)
      .join();
  }

  get last(): string {
    return this.told.at(-1)?.phase ?? '';
  }

  #make(): Services {
    const services = new Services({
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
      heldReleases: () => [this.release('0.9.0').release?.ref ?? assert.fail()],
      isDeploying: (service) => this.unfinished.has(service),
    });
    services.onChange((change) => this.changes.push(change));
    return services;
  }

  async #run(): Promise<void> {
    this.#running = this.services.run(this.#abort.signal);
    await this.services.ready;
  }
}

describe('a service that is held by a deploy', () => {
  it('is not started, stopped or restarted by others, who hear who holds it', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    await b.until('it to run', () => b.now === '1.0.0 RUNNING');
    const hold = await b.hold('the deploy of 2.0.0 (command c1)');
    for (const wish of [() => b.services.start(WEB), () => b.services.stop(WEB), () => b.services.restart(WEB)]) {
      const { code, reason, message } = await failureOf(wish());
      assert.deepEqual([code, reason], ['conflict', 'SERVICE_HELD']);
      assert.match(message, /the deploy of 2\.0\.0 \(command c1\): wait/);
    }
    assert.equal((await failureOf(b.hold('another deploy'))).reason, 'SERVICE_HELD');
    assert.equal(b.now, '1.0.0 RUNNING');
    hold.letGo();
    hold.letGo();
    await b.services.stop(WEB);
    (await b.hold()).letGo();
  });

  it('shows the step it is at, until that is cleared or it is let go', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    const hold = await b.hold();
    hold.step('STOP');
    assert.equal(b.services.get(WEB).deploying, 'STOP');
    assert.equal(b.changes.at(-1)?.report?.deploying, 'STOP');
    hold.step(undefined);
    assert.equal(b.changes.at(-1)?.report?.deploying, undefined);
    hold.step('VERIFY');
    hold.letGo();
    await b.until('the change', () => b.changes.at(-1)?.report?.deploying === undefined);
    assert.throws(() => {
      hold.step('STOP');
    }, /has let it go/);
    assert.equal(b.services.get(WEB).heldReleases?.[0]?.version, '0.9.0');
  });

  it('is stopped, is run from the release and is started, and what is wanted stays', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    await b.until('it to run', () => b.now === '1.0.0 RUNNING');
    const hold = await b.hold();
    assert.equal(hold.source()?.release, undefined);
    assert.equal((await failureOf(hold.become(b.release('2.0.0')))).reason, 'NOT_STOPPED');
    await hold.stop();
    assert.deepEqual([hold.wanted, b.now], [true, '1.0.0 STOPPED']);
    await hold.become(b.release('2.0.0'));
    await b.looks();
    assert.equal(b.now, '2.0.0 STOPPED', 'becoming starts nothing');
    assert.equal((await b.while(hold.start())).state, 'RUNNING');
    await hold.become({ ...b.release('2.0.0') });
    assert.equal(hold.report()?.release?.verified, false);
    await hold.verified(7);
    hold.letGo();
    const { release, wanted, generation } = b.services.get(WEB);
    assert.deepEqual([release?.ref.version, release?.verified, wanted, generation], ['2.0.0', true, true, 0]);
    assert.equal(release?.ref.configRevision, 7, 'with the configuration it was verified with');
    assert.deepEqual(b.unit.calls, ['start', 'terminate', 'start']);
  });

  it('stays stopped where that is wanted', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    await b.until('it to run', () => b.now === '1.0.0 RUNNING');
    await b.services.stop(WEB);
    const hold = await b.hold();
    assert.equal(hold.wanted, false);
    await hold.stop();
    await hold.become(b.release('2.0.0'));
    hold.letGo();
    await b.looks();
    await b.again();
    await b.looks();
    assert.equal(b.now, '2.0.0 STOPPED');
    assert.deepEqual(b.unit.calls, ['start', 'terminate']);
  });

  it('is made by its first deploy without being started, and is gone again when that is undone', async (t) => {
    const b = await Bench.open(t);
    const hold = await b.hold();
    assert.deepEqual([hold.source(), hold.report(), hold.wanted], [undefined, undefined, true]);
    await hold.stop();
    assert.equal((await failureOf(hold.start())).code, 'precondition');
    await hold.become(b.release('1.0.0'));
    await b.looks();
    assert.deepEqual([b.now, b.unit.calls], ['1.0.0 STOPPED', []]);
    await b.while(hold.start());
    await hold.stop();
    await hold.become(undefined);
    assert.deepEqual([b.now, hold.source()], ['', undefined]);
    await hold.become(undefined);
    hold.letGo();
    await b.again();
    assert.equal(b.now, '');
  });

  it('whose unit others had started before its first deploy is ended, so that the release is what is started', async (t) => {
    const b = await Bench.open(t);
    b.unit.running = { pid: 7, startedMs: 0 };
    const hold = await b.hold();
    await hold.become(b.release('1.0.0'));
    assert.deepEqual([b.now, hold.wanted, b.unit.calls], ['1.0.0 STOPPED', true, ['terminate']]);
    hold.letGo();
  });

  it('that moves to a unit that others had started is ended there, too', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    await b.until('it to run', () => b.now === '1.0.0 RUNNING');
    const hold = await b.hold();
    const before = hold.source();
    await hold.stop();
    b.unit.running = { pid: 7, startedMs: 0 };
    const manifestText = 'name: web\nversion: 2.0.0\ndriver: systemd\nstart: { settle: 0s }\n';
    await hold.become({ ...b.release('2.0.0'), manifestText, manifest: parseManifest(manifestText) });
    assert.deepEqual([b.now, b.unit.running], ['2.0.0 STOPPED', undefined]);
    await b.while(hold.start());
    await hold.stop();
    await hold.become(before);
    assert.equal((await b.while(hold.start())).version, '1.0.0');
    hold.letGo();
    assert.deepEqual(b.unit.calls, ['start', 'terminate', 'terminate', 'start', 'terminate', 'start']);
  });

  it('does not follow its manifest, nor ends with it, before it is let go', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    await b.until('it to run', () => b.now === '1.0.0 RUNNING');
    const hold = await b.hold();
    await b.declare(manifest('1.1.0'));
    await b.looks();
    assert.equal(b.now, '1.0.0 RUNNING');
    await rm(join(b.directory, 'manifests', 'web.yaml'));
    await b.looks();
    assert.equal(b.now, '1.0.0 RUNNING');
    hold.letGo();
    await b.until('its end', () => b.now === '');
  });

  it('is let go by an agent that is killed: the next one runs it as its record says, unless the deploy goes on', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    await b.until('it to run', () => b.now === '1.0.0 RUNNING');
    const hold = await b.hold();
    await hold.stop();
    await hold.become(b.release('2.0.0'));
    b.unfinished.add(WEB);
    await b.again();
    await b.looks();
    assert.equal(b.now, '2.0.0 STOPPED', 'that is left to the deploy');
    const resumed = await b.hold();
    await resumed.become(b.release('2.0.0'));
    await b.while(resumed.start());
    resumed.letGo();
    await b.again();
    assert.equal(b.now, '2.0.0 RUNNING', 'what runs is taken over all the same');
    b.unit.end();
    b.unfinished.clear();
    await b.again();
    await b.until('it to run', () => b.now === '2.0.0 RUNNING');
    await b.services.stop(WEB);
  });
});

describe('a service that is run from a release', () => {
  it('is taken over by the next agent, with what is known of the release', async (t) => {
    const b = await Bench.open(t);
    await b.deploy('2.0.0');
    const { pid, release } = b.services.get(WEB);
    await b.again();
    const after = b.services.get(WEB);
    assert.deepEqual([after.pid, after.release, after.state], [pid, release, 'RUNNING']);
    assert.equal(after.release?.verified, true);
    const hold = await b.hold();
    assert.deepEqual(hold.source(), b.release('2.0.0', true));
    hold.letGo();
  });

  it('does not use a manifest of the same name on the machine, and says so', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    await b.until('it to run', () => b.now === '1.0.0 RUNNING');
    await b.deploy('2.0.0');
    for (let agent = 1; agent <= 2; agent += 1) {
      await b.declare(manifest(`1.${agent}.0`));
      await b.looks();
      assert.equal(b.now, '2.0.0 RUNNING');
      assert.match(b.services.broken()[0]?.errors.join() ?? '', /run from release 2\.0\.0.*not used, remove it/);
      await b.again();
    }
    await rm(join(b.directory, 'manifests', 'web.yaml'));
    await b.looks();
    assert.deepEqual([b.now, b.services.broken()], ['2.0.0 RUNNING', []]);
  });

  it('that is undone is run by the manifest that it was run by before, and follows it again', async (t) => {
    const b = await Bench.open(t, manifest('1.0.0'));
    await b.until('it to run', () => b.now === '1.0.0 RUNNING');
    const hold = await b.hold();
    const before = hold.source();
    await b.to(hold, '2.0.0');
    await hold.stop();
    await hold.become(before);
    await b.while(hold.start());
    hold.letGo();
    assert.equal(b.now, '1.0.0 RUNNING');
    assert.equal(b.services.get(WEB).release, undefined);
    await b.declare(manifest('1.1.0'));
    await b.until('the new one', () => b.now === '1.1.0 RUNNING');
    await b.again();
    assert.equal(b.now, '1.1.0 RUNNING');
  });

  it('does not use an assignment: it is held, so that it is not sent for ever, and refused with what to do', async (t) => {
    const b = await Bench.open(t);
    await b.deploy('2.0.0');
    for (let time = 1; time <= 2; time += 1) {
      await b.order({ generation: 4, manifest: manifest('1.4.0') });
      assert.deepEqual([b.last, b.now], ['PHASE_FAILED', '2.0.0 RUNNING']);
      assert.match(b.told.at(-1)?.error ?? '', /run from release 2\.0\.0.*muster deploy web VERSION/);
      assert.deepEqual([...b.services.generations()], [[WEB, 4]]);
      await b.again();
    }
    await b.order({ generation: 5, removed: true });
    assert.deepEqual([b.last, b.now], ['PHASE_APPLIED', '2.0.0 RUNNING'], 'its assignment ends, not the service');
    assert.deepEqual([...b.services.generations()], []);
    await b.again();
    assert.equal(b.now, '2.0.0 RUNNING');
  });

  it('was run by an assignment before: that is back when the deploy is undone', async (t) => {
    const b = await Bench.open(t);
    await b.order({ generation: 4, manifest: manifest('1.4.0') });
    await b.until('it to run', () => b.now === '1.4.0 RUNNING');
    const hold = await b.hold();
    const before = hold.source();
    await b.to(hold, '2.0.0');
    assert.equal(b.services.get(WEB).generation, 0);
    await hold.stop();
    await hold.become(before);
    hold.letGo();
    assert.equal(b.services.get(WEB).generation, 4);
    await b.order({ generation: 5, manifest: manifest('1.5.0') });
    await b.until('the next', () => b.now.startsWith('1.5.0') && b.last === 'PHASE_APPLIED');
  });
});

describe('an assignment that comes while a deploy holds the service', () => {
  it('is held and used when the deploy ends without a release', async (t) => {
    const b = await Bench.open(t);
    await b.order({ generation: 4, manifest: manifest('1.4.0') });
    await b.until('it to run', () => b.now === '1.4.0 RUNNING');
    const hold = await b.hold();
    await b.order({ generation: 5, manifest: manifest('1.5.0') });
    assert.deepEqual([b.now, b.last, [...b.services.generations()]], ['1.4.0 RUNNING', 'PHASE_FAILED', [[WEB, 5]]]);
    assert.match(b.told.at(-1)?.error ?? '', /a deploy of web is under way/);
    hold.letGo();
    await b.until('the next', () => b.now === '1.5.0 RUNNING' && b.last === 'PHASE_APPLIED');
  });

  it('is held and refused when it ends with one', async (t) => {
    const b = await Bench.open(t);
    const hold = await b.hold();
    await b.order({ generation: 5, manifest: manifest('1.5.0') });
    assert.equal(b.now, '', 'nothing is started');
    await b.to(hold, '2.0.0');
    hold.letGo();
    await b.until('the answer', () => /run from release 2\.0\.0/.test(b.told.at(-1)?.error ?? ''));
    assert.equal(b.now, '2.0.0 RUNNING');
  });

  it('is used when a first deploy is undone', async (t) => {
    const b = await Bench.open(t);
    const hold = await b.hold();
    await b.to(hold, '2.0.0');
    await b.order({ generation: 5, manifest: manifest('1.5.0') });
    await hold.stop();
    await hold.become(undefined);
    hold.letGo();
    await b.until('the answer', () => b.last === 'PHASE_APPLIED');
    assert.match(b.now, /^1\.5\.0/);
  });

  it('is used by the next agent where this one is killed', async (t) => {
    const b = await Bench.open(t);
    await b.order({ generation: 4, manifest: manifest('1.4.0') });
    await b.until('it to run', () => b.now === '1.4.0 RUNNING');
    await b.hold();
    await b.order({ generation: 5, manifest: manifest('1.5.0') });
    await b.again();
    await b.until('the next', () => b.now.startsWith('1.5.0'));
  });

  it('and takes the service away ends it when it is let go, not before', async (t) => {
    const b = await Bench.open(t);
    await b.order({ generation: 4, manifest: manifest('1.4.0') });
    await b.until('it to run', () => b.now === '1.4.0 RUNNING');
    const hold = await b.hold();
    await b.order({ generation: 5, removed: true });
    await b.looks();
    assert.deepEqual([b.now, b.last], ['1.4.0 RUNNING', 'PHASE_APPLYING']);
    hold.letGo();
    await b.until('its end', () => b.now === '' && b.last === 'PHASE_APPLIED');
  });
});
