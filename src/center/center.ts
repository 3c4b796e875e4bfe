import type { Clock } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import { systemRandom } from '../kit/random.js';
import type { Task } from '../kit/tasks.js';
import { VERSION } from '../model/version.js';
import type { Principal } from '../rpc/principal.js';
import type { Store } from '../store/port.js';
import { Attempts } from './access/attempts.js';
import { LEAF_LIFETIME_MS, type Authority } from './access/authority.js';
import { Enrolment, type Registry } from './access/enrolment.js';
import { Revocations } from './access/revocations.js';
import { Tokens } from './access/tokens.js';
import { Alerts } from './alerts/alerts.js';
import { Facts } from './alerts/facts.js';
import { Backups } from './backups/backups.js';
import type { BackupCopies } from './backups/copies.js';
import { Catalog } from './catalog/catalog.js';
import { Changes } from './changes.js';
import { Commands } from './commands/commands.js';
import { Directory } from './fleet/directory.js';
import { instanceId, Instances } from './fleet/instances.js';
import { Machines, type Machine } from './fleet/machines.js';
import { Gateway } from './gateway/gateway.js';
import { returnWithin, silenceLimit } from './gateway/pace.js';
import type { GatewayListeners } from './gateway/parts.js';
import type { ConfigSource, FleetDirectory } from './ports.js';
import { LogOutputs, LogTails, type CenterParts } from './service.js';
import { targetFleet } from './operations/fleet.js';
import { Operations } from './operations/operations.js';
import { clipUploaded, LogSearches } from './operations/service.js';
import { workOf } from './operations/work.js';
import { Queues } from './queues/queues.js';
import type { Archives } from './releases/archives.js';
import { openShelf, type Shelf } from './releases/shelf.js';
import { openTables, type Tables } from './tables.js';

export interface CenterOptions<C extends ConfigSource = ConfigSource> {
  readonly store: Store;
  readonly authority: Authority;
  /** Of releases and modules. */
  readonly archives: Archives;
  /** Of backups. */
  readonly copies: BackupCopies;
  readonly clock: Clock;
  readonly logger: Logger;
  /** HOST:PORT under which machines reach this center. */
  readonly advertise: () => string;
  /** Makes the configuration part, which needs to see the fleet. */
  readonly config: (fleet: FleetDirectory) => Promise<C>;
  /** Ends every call of these principals that is being served. */
  readonly endCalls: (matches: (principal: Principal) => boolean, reason: MusterError) => void;
  /** Clears what parts beside the center keep of machines that are gone. */
  readonly forgetRemoved: () => Promise<void>;
  readonly redirect?: string;
  readonly heartbeatMs?: number;
  readonly leafLifetimeMs?: number;
}

/** Everything of the center that does not listen: its parts, joined, and the work they do by themselves. */
export interface Center<C extends ConfigSource = ConfigSource> {
  readonly config: C;
  readonly parts: CenterParts;
  readonly directory: Directory;
  /** @throws unauthenticated when the principal was removed from the site */
  readonly assertValid: (principal: Principal) => void;
  readonly machines: Machines;
  readonly tasks: readonly Task[];
  /** Makes what an earlier run left half done whole. Call before serving. */
  resume(): Promise<void>;
  /** Ends the sessions. Resolves once what they told is durable. */
  close(reason: MusterError): Promise<void>;
}

interface Core {
  readonly tables: Tables;
  readonly machines: Machines;
  readonly instances: Instances;
  readonly revocations: Revocations;
  readonly queues: Queues;
  readonly tokens: Tokens;
}

async function openCore({
  store,
  authority,
  clock,
  logger,
  leafLifetimeMs = LEAF_LIFETIME_MS,
}: CenterOptions): Promise<Core> {
  const tables = await openTables(store, clock, logger);
  const machines = new Machines({ table: tables.machines, inventories: tables.inventories, clock, logger });
  const instances = new Instances(tables.instances, clock, (machine) => machines.get(machine)?.lastContactMs);
  const revocations = new Revocations(tables.revoked, clock);
  const tokens = new Tokens({ table: tables.tokens, caHash: authority.caHash, clock });
  const queues = new Queues({ table: tables.queues, clock, leafLifetimeMs });
  return { tables, machines, instances, revocations, queues, tokens };
}

/** How long, beside the time a whole fleet takes to return, a lost contact is waited for before its target counts as out of reach. */
const CONTACT_PATIENCE_MS = 30_000;

/** The parts behind the gateway. */
interface Behind {
  readonly catalog: Catalog;
  readonly commands: Commands;
  readonly operations: Operations;
  readonly shelf: Shelf;
  readonly backups: Backups;
  readonly searches: LogSearches;
  readonly outputs: LogOutputs;
  readonly tails: LogTails;
  readonly facts: Facts;
  readonly alerts: Alerts;
  /** Machines whose alerts must be looked at. */
  readonly dirty: Changes;
}

/** Joins the parts. The gateway and the parts behind it know each other only through Courier and GatewayListeners. */
export async function openCenter<C extends ConfigSource>(options: CenterOptions<C>): Promise<Center<C>> {
  const core = await openCore(options);
  const { machines, instances, revocations, queues } = core;
  const gateway = new Gateway({
    ...options,
    machines,
    instances,
    // Nothing connects before all is joined.
    listeners: listenersOf(() => behind),
    site: options.authority.site,
    version: VERSION,
  });
  const directory: Directory = new Directory(machines, instances, () => behind.catalog.names());
  const config = await options.config(directory);
  const behind = openBehind(options, core, { gateway, config, directory });
  followChanges(core, behind, config);
  return {
    parts: partsOf(options, core, { ...behind, gateway, directory }),
    config,
    directory,
    assertValid: (principal) => {
      revocations.assertValid(principal);
      queues.assertValid(principal);
    },
    machines,
    tasks: [
      (signal) => gateway.run(signal),
      (signal) => machines.run(signal),
      (signal) => behind.commands.watchOver(signal),
      (signal) => behind.operations.run(signal),
      (signal) => behind.shelf.run(signal),
      (signal) => behind.backups.run(signal),
      (signal) => behind.alerts.run(behind.dirty.watch(signal), signal),
    ],
    resume: async () => {
      behind.shelf.publishing.reconcile();
      await behind.commands.resume();
      await behind.operations.resume();
      await behind.catalog.resume();
      await options.forgetRemoved();
    },
    close: async (reason) => {
      gateway.close(reason);
      await instances.flushed();
      await behind.backups.flushed();
    },
  };
}

function openBehind(
  { archives, copies, clock, logger }: CenterOptions,
  { tables, machines, instances }: Core,
  { gateway, config, directory }: { gateway: Gateway; config: ConfigSource; directory: Directory },
): Behind {
  const catalog = new Catalog({ ...tables, machines, courier: gateway, config, clock, logger });
  const outputs = new LogOutputs();
  const graceMs = (): number => silenceLimit(gateway.intervalMs);
  const backups = new Backups({ ...tables, copies, clock, logger });
  const facts = new Facts({ machines, instances, catalog, backups, clock, graceMs });
  const shelf = openShelf({
    ...tables,
    archives,
    instances,
    serviceNames: () => directory.serviceNames(),
    machineName: (machine) => machines.get(machine)?.record.name ?? machine,
    inUse: () => operations.releasesInUse(),
    clock,
    logger,
  });
  const { releases } = shelf;
  const commands = new Commands({
    table: tables.commands,
    courier: gateway,
    clock,
    logger,
    workOf: (command) => workOf(tables.operations.get(command.turn?.operation ?? ''), command, releases),
  });
  const operations = new Operations({
    table: tables.operations,
    commands,
    fleet: targetFleet({
      machines,
      instances,
      isAssigned: (machine, service) => catalog.isAssigned(machine, service),
      serviceNames: () => directory.serviceNames(),
    }),
    releases,
    connected: (machine) => gateway.connected(machine),
    patienceMs: () => CONTACT_PATIENCE_MS + returnWithin(machines.size),
    clock,
    random: systemRandom,
    logger,
  });
  return {
    catalog,
    commands,
    operations,
    shelf,
    backups,
    searches: new LogSearches({ operations, outputs, clip: clipUploaded }),
    outputs,
    tails: new LogTails({ courier: gateway, clock, outputs }),
    facts,
    alerts: new Alerts({
      table: tables.alerts,
      clock,
      logger,
      judge: (machine) => facts.judge(machine),
      ripening: () => facts.ripening(),
    }),
    dirty: new Changes(clock),
  };
}

function listenersOf(behind: () => Behind): GatewayListeners {
  return {
    differences: (machine, held) => behind().catalog.differences(machine, held),
    applied: (machine, applied) => {
      behind().catalog.applied(machine, applied);
      behind().dirty.emit(machine);
    },
    commandsHeld: async (machine, reports, current) => {
      await behind().commands.held(machine, reports, current);
      behind().operations.poke();
    },
    commandReported: (machine, report, current) => {
      const { backup } = report.result;
      // Before the command ends for those who follow it: what they look for next is there.
      if (backup && backup.status !== 'RUNNING' && current()) behind().backups.learned(machine, backup);
      return behind().commands.reported(machine, report, current);
    },
    contactLost: async (machine) => {
      const { operations, facts, outputs, dirty, commands } = behind();
      facts.contactLost(machine);
      outputs.machineLost(machine);
      dirty.emit(machine);
      await commands.machineLost(machine);
      operations.poke();
    },
    duplicate: (machine, _refusal, address) => {
      behind().facts.duplicate(machine, address);
      behind().dirty.emit(machine);
    },
  };
}

type Joined = Behind & { readonly gateway: Gateway; readonly directory: Directory };

function partsOf(options: CenterOptions, core: Core, joined: Joined): CenterParts {
  const { authority, clock, logger, leafLifetimeMs } = options;
  const { machines, instances, tokens } = core;
  const { catalog, gateway } = joined;
  const enrolment = new Enrolment({
    authority,
    tokens,
    registry: registryOf(core, catalog, gateway),
    attempts: new Attempts(clock),
    clock,
    logger,
    ...(leafLifetimeMs === undefined ? {} : { leafLifetimeMs }),
  });
  return {
    ...joined,
    copies: options.copies,
    enrolment,
    tokens,
    advertise: options.advertise,
    machines,
    instances,
    queues: core.queues,
    removeQueue: async (name, by) => {
      await core.queues.remove(name, by);
      const reason = new MusterError('unauthenticated', `queue ${name} was removed from the site`, {
        reason: 'QUEUE_REMOVED',
      });
      options.endCalls((principal) => principal.kind === 'queue' && principal.name === name, reason);
    },
    removeMachine: (machine, by) => removeMachine(options, core, joined, { machine, by }),
    requireModuleName: (name) => {
      joined.shelf.releases.requireModuleName(name);
    },
    labelsChanged: (machine) => catalog.machineChanged(machine),
    isAssigned: (machine, service) => catalog.isAssigned(machine, service),
    hasService: hasServiceBy(catalog, instances),
    clock,
    site: authority.site,
    version: VERSION,
    startedMs: clock.now(),
    caExpiresMs: authority.expiresMs,
    storageProblem: async () => (await options.store.problem?.()) ?? '',
  };
}

/** Shuts the machine out first, durably; what follows only tidies up. */
async function removeMachine(
  options: CenterOptions,
  { revocations, instances, machines }: Core,
  { gateway, commands, catalog, backups, facts, alerts }: Joined,
  { machine, by }: { machine: Machine; by: string },
): Promise<void> {
  const { id, name } = machine.record;
  await revocations.revoke(id, name, by);
  const reason = new MusterError('unauthenticated', `machine ${name} was removed from the site`, {
    reason: 'MACHINE_REMOVED',
  });
  gateway.cut(id, reason);
  options.endCalls((principal) => 'machine' in principal && principal.machine === id, reason);
  await commands.machineRemoved(id, by);
  instances.machineRemoved(id);
  await machines.remove(id);
  // Once nothing can be assigned to it any more.
  await catalog.machineRemoved(id);
  await backups.machineRemoved(id);
  facts.machineRemoved(id);
  await alerts.look(id);
  await options.forgetRemoved();
}

function registryOf({ machines, instances, queues, tokens }: Core, catalog: Catalog, gateway: Gateway): Registry {
  return {
    join: async (wish, token) => {
      const record = await machines.join(wish, (also) => tokens.use(token, [also]));
      const reason = new MusterError('conflict', 'this machine was joined anew', { reason: 'JOINED_ANEW' });
      gateway.cut(record.id, reason);
      await catalog.machineChanged(record.id);
      return record;
    },
    joinQueue: (wish, token) => queues.join(wish, (also) => tokens.use(token, [also])),
    hasService: hasServiceBy(catalog, instances),
  };
}

/** What an agent declares itself counts too: it is the master of its machine, and could run any service on it. */
function hasServiceBy(catalog: Catalog, instances: Instances): (machine: string, service: string) => boolean {
  return (machine, service) =>
    catalog.isAssigned(machine, service) || instances.get(instanceId(machine, service)) !== undefined;
}

/** What one part's change means to another. */
function followChanges(
  { machines, instances }: Core,
  { catalog, backups, dirty, facts, operations }: Behind,
  config: ConfigSource,
): void {
  machines.changes.listen((id) => {
    if (facts.contactChanged(id)) dirty.emit(id);
  });
  backups.changes.listen((id) => {
    dirty.emit(id);
  });
  instances.changes.listen((id) => {
    const [machine = '', service = ''] = id.split('/');
    dirty.emit(machine);
    operations.poke(service);
    const instance = instances.get(id);
    if (!instance) catalog.instanceGone(machine, service);
    else if (instance.unknownSinceMs === undefined) catalog.instanceReported(instance);
  });
  config.onChange((service) => {
    const having = instances.list().filter(({ report }) => report.service === service);
    catalog.configChanged(
      service,
      having.map(({ machine }) => machine),
    );
  });
}
