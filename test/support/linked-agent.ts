import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CommandJournal } from '../../src/agent/commands/journal.js';
import { CommandRunner } from '../../src/agent/commands/runner.js';
import { machineFiles, type MachineIdentity, type MachineMembership } from '../../src/agent/identity/machine.js';
import { Assignments } from '../../src/agent/link/assignments.js';
import { SessionEpoch } from '../../src/agent/link/epoch.js';
import { Link, type LinkTimings } from '../../src/agent/link/link.js';
import { Orders } from '../../src/agent/link/orders.js';
import { Searches, type SearchLogs } from '../../src/agent/link/searches.js';
import { Tails, type TailLine, type TailLog } from '../../src/agent/link/tails.js';
import type { IdentityFiles } from '../../src/enrolment/files.js';
import { MemberIdentity } from '../../src/enrolment/identity.js';
import { systemClock } from '../../src/kit/clock.js';
import { newId } from '../../src/kit/ids.js';
import { silentLogger } from '../../src/kit/logger.js';
import { MusterError } from '../../src/kit/errors.js';
import { systemRandom } from '../../src/kit/random.js';
import { Slots } from '../../src/kit/slots.js';
import type { Inventory, Resources } from '../../src/model/machine.js';
import type { Identity } from '../../src/rpc/identity.js';
import { openMemoryStore } from '../../src/store/memory.js';
import type { Store } from '../../src/store/port.js';
import { FakeServices } from './fake-services.js';

/** The agent's link with everything around it faked: services, resources, configuration. */

export const INVENTORY: Inventory = {
  hostname: 'web-1',
  os: 'Debian',
  kernel: '6.1',
  architecture: 'x64',
  cpuModel: 'test',
  cores: 2,
  memoryBytes: 1e9,
  disks: [],
  interfaces: [],
  collectedMs: 1_700_000_000_000,
};

export const RESOURCES: Resources = {
  load1: 0.5,
  load5: 0,
  load15: 0,
  cpuPercent: 12,
  memoryTotalBytes: 1e9,
  memoryUsedBytes: 5e8,
  swapUsedBytes: 0,
  networkReceiveBytesPerSecond: 0,
  networkSendBytesPerSecond: 0,
  diskReadBytesPerSecond: 0,
  diskWriteBytesPerSecond: 0,
  dataFreeBytes: 1,
  dataTotalBytes: 2,
  uptimeMs: 60_000,
  agentMemoryBytes: 1,
  agentCpuPercent: 0,
};

/** Impatient, so that tests are quick. */
export const QUICK: Partial<LinkTimings> = {
  retryInitialMs: 20,
  retryMaxMs: 200,
  welcomeMs: 5000,
  stableMs: 1000,
  lookMs: 50,
  keepaliveIntervalMs: 300,
  keepaliveTimeoutMs: 300,
};

export async function temporaryData(t: TestContext): Promise<string> {
  const data = await mkdtemp(join(tmpdir(), 'muster-agent-'));
  t.after(() => rm(data, { recursive: true, force: true }));
  return data;
}

export interface StoredMember {
  readonly data: string;
  readonly center: string;
  readonly identity: Identity;
  readonly machine?: string;
}

/** Writes an identity as joining does. */
export async function writeIdentity({
  data,
  center,
  identity,
  machine = 'm-1',
}: StoredMember): Promise<IdentityFiles<MachineMembership>> {
  const files = machineFiles(data);
  await files.writeNextKey(identity.privateKeyPem, 'join');
  await files.writeCertificate(identity.certificatePem, identity.caPem, 'join');
  await files.writeMembership({ site: identity.site, center, machine, name: 'web-1', labels: {} });
  return files;
}

export interface LinkedAgentOptions {
  readonly data: string;
  readonly store?: Store;
  readonly timings?: Partial<LinkTimings>;
  readonly tail?: TailLog;
  readonly search?: SearchLogs;
  readonly services?: FakeServices;
}

export interface LinkedAgent {
  readonly link: Link;
  readonly identity: MachineIdentity;
  readonly services: FakeServices;
  readonly commands: CommandRunner;
  readonly store: Store;
  /** What refresh() of the configuration was asked for. */
  readonly refreshed: string[];
  /** Says goodbye and resolves when the link has ended. */
  stop(): Promise<void>;
}

// eslint-disable-next-line @typescript-eslint/require-await -- the shape of a log reader
async function* noLog(): AsyncGenerator<readonly TailLine[]> {
  yield [{ file: 'orders.log', text: 'one line', notice: false, position: 'p-1' }];
}

const noSearch: SearchLogs = (service) => Promise.reject(new MusterError('not_found', `${service} has no logs`));

/** Starts the link; it is stopped after the test. */
export async function linkedAgent(t: TestContext, options: LinkedAgentOptions): Promise<LinkedAgent> {
  const {
    data,
    timings = QUICK,
    tail = noLog,
    search = noSearch,
    services = new FakeServices('orders', 'web'),
  } = options;
  const store = options.store ?? (await openMemoryStore());
  const base = { clock: systemClock, random: systemRandom, logger: silentLogger };
  const identity = new MemberIdentity({ files: machineFiles(data), ...base });
  const journal = await CommandJournal.open(store, systemClock.now());
  const searches = new Searches({ search, channel: () => link.channel(), machineName: () => 'web-1' });
  const searchSlots = new Slots(2);
  const commands = new CommandRunner({ journal, control: services, searches, searchSlots, performers: {}, ...base });
  const refreshed: string[] = [];
  const config = {
    of: () => ({ held: 3, applied: 2 }),
    onChange: () => () => undefined,
    refresh: (service: string, wanted: { revision: number }) => refreshed.push(`${service} ${wanted.revision}`),
  };
  const tails = new Tails({ tail, channel: () => link.channel(), machineName: () => 'web-1', logger: silentLogger });
  const assignments = new Assignments({ control: services, config, logger: silentLogger });
  const link: Link = new Link({
    identity,
    epoch: await SessionEpoch.open(store),
    control: services,
    commands,
    config,
    inventory: { latest: INVENTORY, onCollected: () => () => undefined },
    orders: new Orders({ assignments, commands, tails, logger: silentLogger }),
    resources: () => Promise.resolve(RESOURCES),
    bootId: 'boot-1',
    processId: newId('p'),
    version: '0.1.0',
    timings,
    ...base,
  });
  const stopping = new AbortController();
  const ended = link.run(stopping.signal);
  const stop = async (): Promise<void> => {
    stopping.abort();
    tails.stop();
    await ended;
  };
  t.after(stop);
  return { link, identity, services, commands, store, refreshed, stop };
}
