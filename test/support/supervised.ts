import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { ChecksFactory } from '../../src/agent/probes/checks.js';
import { readBootId } from '../../src/kit/proc.js';
import { createDrivers } from '../../src/agent/services/drivers.js';
import type { EnvironmentOf } from '../../src/agent/services/process-driver.js';
import { Programs } from '../../src/agent/services/programs.js';
import { Services } from '../../src/agent/services/services.js';
import { systemClock } from '../../src/kit/clock.js';
import { createLogger } from '../../src/kit/logger.js';
import { systemRandom } from '../../src/kit/random.js';
import type { InstanceReport, ServiceState } from '../../src/model/instance.js';
import { openMemoryStore } from '../../src/store/memory.js';
import type { Store } from '../../src/store/port.js';
import { waitFor } from './waiting.js';

/** Services under supervision, for tests: real processes, real files, no center. */

/** Checks that never run. */
export const noChecks: ChecksFactory = {
  start: () => ({ current: [], report: () => 0, stop: () => undefined }),
};

/** A directory that any user can pass through; removed with the test, after what `end` does. */
export async function openDirectory(
  t: TestContext,
  end: () => Promise<void> = () => Promise.resolve(),
): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-services-'));
  await chmod(directory, 0o755);
  t.after(async () => {
    await end();
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  });
  return directory;
}

export interface Places {
  readonly data: string;
  readonly manifests: string;
  /** Where unit files are installed. */
  readonly units?: string;
}

export function makeServices(places: Places, store: Store, bootId: string, systemctl?: readonly string[]): Services {
  const logger = createLogger('silent');
  const environmentOf: EnvironmentOf = ({ service }) => ({ MUSTER_AGENT: `/nowhere/${service}.sock` });
  const defaultUser = 'nobody';
  return new Services({
    dataDirectory: places.data,
    manifestsDirectory: places.manifests,
    store,
    clock: systemClock,
    random: systemRandom,
    logger,
    bootId,
    checks: noChecks,
    drivers: createDrivers({
      clock: systemClock,
      logger,
      bootId,
      defaultUser,
      environmentOf,
      ...(systemctl ? { systemctl } : {}),
    }),
    programs: new Programs({ clock: systemClock, defaultUser, environmentOf }),
    units: { directory: places.units ?? join(places.data, 'units'), systemctl },
  });
}

export class Supervised {
  readonly directory: string;
  readonly places: Places;
  store: Store;
  services: Services;
  #abort = new AbortController();
  #running: Promise<void> = Promise.resolve();
  readonly #systemctl: readonly string[] | undefined;

  private constructor(places: Places, store: Store, services: Services, systemctl: readonly string[] | undefined) {
    this.directory = places.data;
    this.places = places;
    this.store = store;
    this.services = services;
    this.#systemctl = systemctl;
  }

  /** Opens services with these manifests (file name to text) and runs them. All ends with the test. */
  static async open(
    t: TestContext,
    manifests: Readonly<Record<string, string>>,
    options: { systemctl?: readonly string[]; units?: string; prepare?: (directory: string) => Promise<void> } = {},
  ): Promise<Supervised> {
    const opened: Supervised[] = [];
    const directory = await openDirectory(t, async () => {
      for (const one of opened) await one.close();
    });
    const store = await openMemoryStore();
    const { units = join(directory, 'units') } = options;
    const places = { data: directory, manifests: join(directory, 'manifests'), units };
    await mkdir(places.manifests);
    await options.prepare?.(directory);
    for (const [name, text] of Object.entries(manifests)) await writeFile(join(places.manifests, name), text);
    const services = makeServices(places, store, await readBootId(), options.systemctl);
    const supervised = new Supervised(places, store, services, options.systemctl);
    opened.push(supervised);
    await supervised.#run();
    return supervised;
  }

  async close(): Promise<void> {
    await this.services.stopAll();
    await this.letGo();
    await this.store.close();
  }

  async #run(): Promise<void> {
    this.#abort = new AbortController();
    this.#running = this.services.run(this.#abort.signal);
    await Promise.race([this.services.ready, this.#running]);
  }

  /** As an agent that ends; services go on. */
  async letGo(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  /** As the next agent on the same data; another boot id means that the machine was restarted. */
  async again(bootId?: string): Promise<void> {
    await this.letGo();
    this.services = makeServices(this.places, this.store, bootId ?? (await readBootId()), this.#systemctl);
    await this.#run();
  }

  async write(name: string, text: string): Promise<void> {
    await writeFile(join(this.places.manifests, name), text);
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.places.manifests, name), { recursive: true });
  }

  async log(service: string): Promise<string> {
    return readFile(join(this.directory, 'logs', service, `${service}.log`), 'utf8');
  }

  /** Waits for a state; what it was instead is said. */
  async state(service: string, ...states: readonly ServiceState[]): Promise<InstanceReport> {
    return waitFor(`${service} to be ${states.join(' or ')}`, () => {
      const report = this.services.get(service);
      if (states.includes(report.state)) return report;
      throw new Error(`${report.state} ${report.reason}`);
    });
  }
}

/** A manifest in YAML (JSON is YAML). */
export function manifestText(fields: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(fields, undefined, 2);
}

/** A service that runs a shell script; settles fast. */
export function script(name: string, text: string, more: Readonly<Record<string, unknown>> = {}): string {
  return manifestText({ name, command: ['/bin/sh', '-c', text], start: { settle: '200ms', retries: 1 }, ...more });
}

/** A port nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  return typeof address === 'object' && address ? address.port : 0;
}
