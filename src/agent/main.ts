import { join, resolve } from 'node:path';
import type { Signer } from '../enrolment/identity.js';
import { askToRenew } from '../enrolment/wire.js';
import { systemClock } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import { explainFullDisk } from '../kit/files.js';
import { newId } from '../kit/ids.js';
import type { Logger } from '../kit/logger.js';
import { readBootId } from '../kit/proc.js';
import { systemRandom } from '../kit/random.js';
import { aborted, runTasks, stopped, type Task } from '../kit/tasks.js';
import { Slots } from '../kit/slots.js';
import { VERSION } from '../model/version.js';
import type { Channel } from '../rpc/client.js';
import { readDescriptors } from '../rpc/descriptor-set.js';
import { RpcServer } from '../rpc/server.js';
import { openLevelStore } from '../store/leveldb.js';
import type { Store } from '../store/port.js';
import type { AgentBackups } from './backups/backups.js';
import { openBackups } from './backups/open.js';
import { CommandJournal, type CommandStatus } from './commands/journal.js';
import { CommandRunner, type CommandRunnerOptions } from './commands/runner.js';
import { AgentConfig } from './config/agent-config.js';
import { AgentCounters } from './counters/agent-counters.js';
import type { Deploys } from './deploy/deploys.js';
import { openDeploys } from './deploy/open.js';
import type { BackupBefore } from './deploy/steps.js';
import { joinMachine } from './identity/join.js';
import type { MachineIdentity, MachineMembership } from './identity/machine.js';
import { openIdentity } from './identity/open.js';
import { askForService } from './identity/wire.js';
import { Assignments, type ConfigRefresh } from './link/assignments.js';
import { SessionEpoch } from './link/epoch.js';
import { Link, type LinkOptions } from './link/link.js';
import { Orders } from './link/orders.js';
import { Searches, type SearchLogs } from './link/searches.js';
import { Tails, type TailLog } from './link/tails.js';
import { authorizeLocal } from './local/access.js';
import { LocalApi } from './local/api.js';
import { ServiceCertificates, type ServiceCertificatesOptions } from './local/certificates.js';
import { factsOf, recentResources, type FactsSource } from './local/facts.js';
import { localHttp } from './local/http.js';
import { listenLocally, type LocalListening } from './local/listening.js';
import { LocalSearchSlots } from './local/search-slots.js';
import { localServices, type RollBack } from './local/service.js';
import { loggedService } from './logs/files.js';
import { Logs } from './logs/logs.js';
import type { ConfigPins } from './ports.js';
import { Probing } from './probes/factory.js';
import { KnownQueues } from './queues/queues.js';
import { InventoryKeeper } from './resources/inventory.js';
import { ResourceSampler } from './resources/sampler.js';
import { createDrivers } from './services/drivers.js';
import type { EnvironmentOf } from './services/process-driver.js';
import { Programs } from './services/programs.js';
import { Releases } from './services/releases.js';
import { Services } from './services/services.js';
import { makeDirectories } from './sockets/data-directory.js';
import { ServiceSockets } from './sockets/service-sockets.js';

/** The composition root of the agent: the only file that knows all its parts. */

export interface RunAgentOptions {
  /** Data directory. */
  readonly data: string;
  /** Manifests of the machine's own services. Default: `manifests` in the data directory. */
  readonly services?: string;
  /** User of services that name none, when the agent is root. Default `nobody`. */
  readonly defaultUser?: string;
  /** Address of the center, if it moved since the machine joined; remembered. */
  readonly center?: string;
  /** Ports on 127.0.0.1, with a token; 0 takes a free one. Left out: unix sockets only. */
  readonly loopbackGrpc?: number;
  readonly loopbackHttp?: number;
  /** Stop the services at the end; otherwise they go on running. */
  readonly stopServicesOnExit?: boolean;
  readonly logger: Logger;
  /** Ends the agent in good order. */
  readonly signal: AbortSignal;
  /** Called once, when services are adopted and the local API answers. */
  readonly onReady?: (ready: AgentReady) => Promise<void> | void;
}

export interface AgentReady extends LocalListening {
  /** Empty before the machine has joined, as are its name and its center. */
  readonly machine: string;
  readonly machineName: string;
  readonly center: string;
  readonly pid: number;
}

const COMMANDS_LAST_WORDS_MS = 5000;
const DRAIN_MS = 1000;
/** Searches of the center that run at once on a machine; others wait in order. */
const SEARCHES_MAX = 4;
const DEFAULT_USER = 'nobody';

/**
 * Runs the agent until `signal` aborts; then services go on running, unless told otherwise. Works without a center, and without having joined.
 * @throws precondition (the data directory is in use or of a newer version); the failure of the store, with services still running
 */
export async function runAgent(options: RunAgentOptions): Promise<void> {
  const data = resolve(options.data);
  try {
    await runOn(data, options);
  } catch (error) {
    throw explainFullDisk(error, data);
  }
}

async function runOn(data: string, options: RunAgentOptions): Promise<void> {
  await makeDirectories(data, options.logger);
  const store = await openLevelStore({
    path: join(data, 'state'),
    schema: { name: 'agent', migrations: [] },
    logger: options.logger,
  });
  try {
    await runParts(await compose({ ...options, data }, store), options);
  } finally {
    await store.close();
  }
}

export interface JoinAgentOptions {
  readonly data: string;
  readonly center: string;
  readonly token: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Makes this machine a member of a site; an agent that runs notices by itself. @throws as joinMachine */
export function joinAgent(options: JoinAgentOptions): Promise<MachineMembership> {
  return joinMachine({ ...options, data: resolve(options.data) });
}

interface Base {
  readonly data: string;
  readonly store: Store;
  readonly clock: typeof systemClock;
  readonly random: typeof systemRandom;
  readonly logger: Logger;
  readonly bootId: string;
}

function openServices(
  base: Base,
  options: RunAgentOptions,
  { sockets, deploys }: { readonly sockets: ServiceSockets; readonly deploys: () => Deploys },
): Services {
  const { data, clock, random, logger, bootId } = base;
  const { defaultUser = DEFAULT_USER } = options;
  const environmentOf: EnvironmentOf = async (owner) => ({ MUSTER_AGENT: await sockets.ensure(owner) });
  return new Services({
    ...base,
    dataDirectory: data,
    manifestsDirectory: resolve(options.services ?? join(data, 'manifests')),
    checks: new Probing({ clock, random }),
    drivers: createDrivers({ bootId, clock, logger, defaultUser, environmentOf }),
    programs: new Programs({ clock, defaultUser, environmentOf }),
    heldReleases: (service, present) => deploys().heldReleases(service, present),
    isDeploying: (service) => deploys().isDeploying(service),
  });
}

async function openLogs({ data, clock, logger, store }: Base, services: Services): Promise<Logs> {
  const releases = await Releases.open(store, logger);
  releases.follow(services);
  return new Logs({
    releaseAt: (service, ms, precisionMs) => releases.at(service, ms, precisionMs),
    dataDirectory: data,
    clock,
    logger,
    services: () =>
      services.list().map(({ service, logDirectory }) => loggedService(services.manifest(service), logDirectory)),
  });
}

/** The parts that need to be run, and ended in order. */
interface Agent {
  readonly base: Base;
  readonly backups: AgentBackups;
  readonly deploys: Deploys;
  readonly identity: MachineIdentity;
  readonly services: Services;
  readonly commands: CommandRunner;
  readonly config: AgentConfig;
  readonly counters: AgentCounters;
  readonly queues: KnownQueues;
  readonly inventory: InventoryKeeper;
  readonly logs: Logs;
  readonly tails: Tails;
  readonly link: Link;
  readonly server: RpcServer;
}

interface Later {
  readonly center: () => Link;
  readonly machine: () => string;
  readonly pins: () => ConfigPins;
}

/** What carries out commands that take long, and the journal, which leaves to it what it can go on with. */
async function openWork(base: Base, services: Services, { center, machine, pins }: Later) {
  const backups = await openBackups(services, { ...base, center, machine });
  const backupBefore: BackupBefore = (service, command) => backups.backupBefore(service, command);
  const connect = (): Channel | undefined => center().fileChannel();
  const { deploys, performers: deployers } = await openDeploys({ ...base, services, connect, pins, backupBefore });
  const performers: CommandRunnerOptions['performers'] = { ...backups.performers, ...deployers };
  const goesOn = ({ action, command }: CommandStatus): boolean =>
    (action && performers[action]?.holds(command)) ?? false;
  const journal = await CommandJournal.open(base.store, base.clock.now(), goesOn);
  return { backups, deploys, performers, journal };
}

async function compose(options: RunAgentOptions, store: Store): Promise<Agent> {
  const { data, logger } = options;
  const base: Base = { data, store, clock: systemClock, random: systemRandom, logger, bootId: await readBootId() };
  const identity = await openIdentity(base, options.center);
  const listen: RpcServer['listen'] = (listener) => server.listen(listener);
  const machine = (): string => identity.membership?.machine ?? '';
  const sockets = new ServiceSockets({ data, server: { listen }, machine, logger });
  const services = openServices(base, options, { sockets, deploys: () => work.deploys });
  const work = await openWork(base, services, { center: () => link, machine, pins: () => config.pins });
  const logs = await openLogs(base, services);
  const tail: TailLog = ({ service, ...how }, signal) => logs.tailBatches(service, how, signal);
  const machineName = (): string => identity.membership?.name ?? '';
  const tails = new Tails({ tail, channel: () => link.channel(), machineName, logger });
  const search: SearchLogs = (service, wanted) => logs.search(service, wanted);
  const searchSlots = new Slots(SEARCHES_MAX);
  const searches = new Searches({ search, channel: () => link.channel(), machineName });
  const commands = new CommandRunner({ ...base, ...work, control: services, searches, searchSlots });
  // The link and the configuration know each other; this is what lets one be made first.
  const revisions: LinkOptions['config'] & ConfigRefresh = {
    of: (service) => config.of(service),
    onChange: (listener) => config.onChange(listener),
    refresh: (service, wanted) => {
      config.refresh(service, wanted);
    },
  };
  const inventory = new InventoryKeeper(base);
  const sampler = new ResourceSampler({ dataDirectory: data, clock: base.clock });
  const resources = recentResources(sampler, base.clock);
  const assignments = new Assignments({ control: services, config: revisions, logger });
  const link: Link = new Link({
    ...base,
    identity,
    commands,
    config: revisions,
    inventory,
    resources,
    epoch: await SessionEpoch.open(store),
    control: services,
    orders: new Orders({ assignments, commands, tails, logger }),
    processId: newId('p'),
    version: VERSION,
  });
  const config = await AgentConfig.open({ ...base, center: link });
  const counters = await AgentCounters.open({ ...base, center: link });
  const queues = await KnownQueues.open({ ...base, center: link });
  const facts = factsOf({ clock: base.clock, identity, link, resources, config: (service) => revisions.of(service) });
  const local = { base, ...work, services, link, tail, search, facts, config, counters, queues };
  const server = await openServer(local);
  services.onChange(({ service, report }) => {
    if (report) return;
    void sockets.remove(service);
    void config.forget(service).catch((error: unknown) => {
      logger.warn('the configuration of a removed service is still on disk', { service, error });
    });
  });
  return {
    base,
    ...work,
    identity,
    services,
    commands,
    config,
    counters,
    queues,
    inventory,
    logs,
    tails,
    link,
    server,
  };
}

interface LocalParts extends Pick<
  Agent,
  'base' | 'backups' | 'deploys' | 'services' | 'link' | 'config' | 'counters' | 'queues'
> {
  readonly tail: TailLog;
  readonly search: SearchLogs;
  readonly facts: FactsSource;
}

async function openServer(parts: LocalParts): Promise<RpcServer> {
  const { base, deploys, services, link, facts, config, counters } = parts;
  const api = new LocalApi(services);
  const sign: ServiceCertificatesOptions['sign'] = async (service, request) =>
    askForService(channelOf(link), service, request);
  const certificates = new ServiceCertificates({ sign, clock: base.clock });
  const rollBack: RollBack = (service, version) => deploys.rollBackHere(service, version);
  const searching = { localSearchSlots: new LocalSearchSlots(), clock: base.clock };
  return new RpcServer({
    services: localServices(
      { ...parts, ...searching, api, certificates, rollBack },
      config.handlers(),
      counters.handlers(),
    ),
    authorize: authorizeLocal,
    logger: base.logger,
    clock: base.clock,
    http: localHttp({ api, facts }),
    descriptors: await readDescriptors(),
  });
}

/** @throws unavailable before the machine has joined */
function channelOf(link: Link): Channel {
  const channel = link.channel();
  if (channel) return channel;
  throw new MusterError('unavailable', 'this machine has not joined a center, and only a center signs certificates', {
    reason: 'NOT_JOINED',
  });
}

/** Until the signal aborts, or a part fails: then the rest ends too. */
async function runParts(agent: Agent, options: RunAgentOptions): Promise<void> {
  const { base, services, commands, deploys, link, server, tails } = agent;
  const inner = new AbortController();
  const renew: Signer = async (request, signal) => askToRenew(channelOf(link), request, signal);
  const tasks: Task[] = [
    (signal) => endInOrder(agent, options, { signal, end: inner }),
    (signal) => services.run(signal),
    (signal) => agent.inventory.run(signal),
    (signal) => agent.logs.run(signal),
    (signal) => agent.config.run(signal),
    (signal) => agent.counters.run(signal),
    (signal) => agent.queues.run(signal),
    (signal) => agent.backups.run(services.ready, signal),
    (signal) => agent.identity.keepRenewed(renew, signal),
    (signal) => failWithStore(base, signal),
    async (signal) => {
      await Promise.race([services.ready, aborted(signal)]);
      if (signal.aborted) return;
      commands.resume();
      const claimed = new Set(commands.pending().map(({ command }) => command));
      await Promise.all([agent.backups.forgetOthers(claimed), deploys.resumeOthers(claimed)]);
      await options.onReady?.(await openForCalls(agent, options));
      await link.run(signal);
    },
  ];
  try {
    await runTasks(inner.signal, tasks);
  } finally {
    tails.stop();
    await commands.close(0);
    await server.drain(DRAIN_MS);
  }
}

/** Asked to end: running commands may finish and tell the center, then everything stops. */
async function endInOrder(
  { services, commands, deploys, base }: Agent,
  { signal: asked, stopServicesOnExit }: RunAgentOptions,
  { signal, end }: { readonly signal: AbortSignal; readonly end: AbortController },
): Promise<void> {
  await Promise.race([aborted(asked), aborted(signal)]);
  if (!asked.aborted || signal.aborted) return;
  await commands.close(COMMANDS_LAST_WORDS_MS);
  deploys.close();
  if (stopServicesOnExit) await services.stopAll();
  base.logger.info('the agent is stopping', { services: stopServicesOnExit ? 'stopped' : 'go on running' });
  end.abort(stopped('the agent'));
}

/** What is not on disk must not be claimed: the agent ends, its services do not. */
async function failWithStore({ store }: Base, signal: AbortSignal): Promise<void> {
  const failure = await Promise.race([store.failed, aborted(signal)]);
  if (!failure) return;
  throw new MusterError(
    'unavailable',
    `the agent's data could not be written and the agent has stopped; services go on running, unwatched. ` +
      `Look at the disk, then start the agent again: ${failure.message}`,
    { reason: 'STORE_FAILED', cause: failure },
  );
}

async function openForCalls({ base, server, identity }: Agent, options: RunAgentOptions): Promise<AgentReady> {
  const listening = await listenLocally(server, { ...options, data: base.data });
  const { machine = '', name: machineName = '', center = '' } = identity.membership ?? {};
  return { machine, machineName, center, ...listening, pid: process.pid };
}
