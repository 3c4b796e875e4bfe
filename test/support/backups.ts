import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { restoreTree, verifyTree, writeTree } from '../../src/archive/tree.js';
import { AgentBackups, type AgentBackupsOptions } from '../../src/agent/backups/backups.js';
import { backedUpServices } from '../../src/agent/backups/services.js';
import type { Trees } from '../../src/agent/backups/ports.js';
import type { Hold } from '../../src/agent/ports.js';
import { systemClock } from '../../src/kit/clock.js';
import { MusterError } from '../../src/kit/errors.js';
import { silentLogger } from '../../src/kit/logger.js';
import { systemRandom } from '../../src/kit/random.js';
import { parseManifest, type Manifest } from '../../src/model/manifest.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { FakeServices } from './fake-services.js';
import { temporaryData } from './linked-agent.js';

/** The agent's backups over services that are played, real archives, and a store in memory. */

export const TREES: Trees = { writeTree, verifyTree, restoreTree };

export const POLICY = 'backup: { paths: [data], keep: { last: 3 } }';

/** Services with manifests; holding one is remembered in `calls`. */
export class PlayedServices extends FakeServices {
  readonly manifests = new Map<string, Manifest>();

  declare(service: string, sections: string = POLICY): void {
    this.manifests.set(service, parseManifest(`name: ${service}\ncommand: [sleep, "1"]\n${sections}\n`));
    this.set(service, {});
  }

  manifest(service: string): Manifest {
    const found = this.manifests.get(service);
    if (!found) throw new MusterError('not_found', `there is no service "${service}" on this machine`);
    return found;
  }

  /** Fails to start when set. */
  startProblem = '';

  hold(service: string, why: string): Promise<Hold> {
    this.calls.push(`hold ${service}: ${why.replace(/ 2\S+/, '')}`);
    const refuse = (): Promise<never> => Promise.reject(new MusterError('internal', 'not played'));
    return Promise.resolve({
      source: () => undefined,
      report: () => this.get(service),
      wanted: this.get(service).wanted,
      step: () => undefined,
      stop: async () => {
        await this.stop(service);
      },
      become: refuse,
      start: () => {
        if (this.startProblem !== '') return Promise.reject(new MusterError('precondition', this.startProblem));
        return this.start(service);
      },
      verified: refuse,
      run: refuse,
      lastOutput: () => Promise.resolve([]),
      letGo: () => {
        this.calls.push(`let go ${service}`);
      },
    });
  }

  userOf(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
}

export interface BackupHost {
  readonly data: string;
  readonly services: PlayedServices;
  readonly options: AgentBackupsOptions;
  readonly backups: AgentBackups;
  /** Of `orders`. */
  readonly shared: string;
  /** Runs schedules, copies and reports; ends with the test. */
  readonly run: () => void;
  /** Ends the parts, as the end of the agent does. */
  readonly stop: () => Promise<void>;
  /** The agent's next process, on the same disk. */
  readonly again: (options?: Partial<AgentBackupsOptions>) => Promise<AgentBackups>;
}

export const NO_CENTER: AgentBackupsOptions['center'] = {
  channel: () => undefined,
  connected: false,
  onConnection: () => () => undefined,
};

export async function backupHost(t: TestContext, given: Partial<AgentBackupsOptions> = {}): Promise<BackupHost> {
  const data = await temporaryData(t);
  const services = new PlayedServices();
  services.declare('orders');
  const options: AgentBackupsOptions = {
    dataDirectory: data,
    store: await openMemoryStore(),
    services: backedUpServices(services),
    holding: services,
    sharedDirectory: (service) => join(data, 'services', service, 'shared'),
    center: NO_CENTER,
    machine: () => 'm-1',
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    trees: TREES,
    freeBytes: () => Promise.resolve(1e12),
    ...given,
  };
  const shared = options.sharedDirectory('orders');
  await mkdir(shared, { recursive: true });
  const backups = await AgentBackups.open(options);
  const end = new AbortController();
  let running: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    end.abort();
    await running;
  };
  t.after(stop);
  return {
    data,
    services,
    options,
    backups,
    shared,
    run: () => {
      running = backups.run(Promise.resolve(), end.signal);
    },
    stop,
    again: (more = {}) => AgentBackups.open({ ...options, ...more }),
  };
}
