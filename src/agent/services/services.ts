import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { didYouMean } from '../../kit/suggest.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Driver, InstanceReport } from '../../model/instance.js';
import type { Manifest } from '../../model/manifest.js';
import type { ReleaseRef } from '../../model/release.js';
import type { Store } from '../../store/port.js';
import type { DeployableServices, Heard, Hold, ServiceControl, ServiceSource, ServicesChange } from '../ports.js';
import type { ChecksFactory, ReportedHealth } from '../probes/checks.js';
import { AssignedServices, type Assignment } from './assigned.js';
import { DeclaredServices } from './declared.js';
import { Deployments } from './deployments.js';
import type { ServiceDriver } from './driver.js';
import { Holds } from './holds.js';
import type { BrokenFile, Scan } from './manifests.js';
import type { ServiceParts } from './parts.js';
import type { Programs } from './programs.js';
import { InstanceRecords, withManifest, type InstanceRecord } from './records.js';
import { Retirements } from './retirements.js';
import { definitionOf, isAssigned, subjectOf, type Definition } from './sources.js';
import { Supervisor } from './supervisor.js';
import { UnitFiles, type UnitFilesOptions } from './unit-files.js';

export interface ServicesOptions {
  /** Absolute. */
  readonly dataDirectory: string;
  readonly manifestsDirectory: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** The kernel's id of this boot. */
  readonly bootId: string;
  readonly checks: ChecksFactory;
  /** Makes the drivers, once the records are there for them. */
  readonly drivers: (records: InstanceRecords) => Readonly<Record<Driver, ServiceDriver>>;
  /** Hooks and verify scripts of releases. */
  readonly programs: Programs;
  /** How unit files of releases are installed. */
  readonly units?: Pick<UnitFilesOptions, 'directory' | 'systemctl'>;
  /** Releases on the machine that a service can be rolled back to, the newest first; `present` is the digest of the one it runs from, which is not among them. */
  readonly heldReleases?: (service: string, present: string | undefined) => readonly ReleaseRef[];
  /** Whether a deploy that an earlier agent began is gone on with: what does not run is then left to it, and is not started before. */
  readonly isDeploying?: (service: string) => boolean;
}

const SCAN_EVERY_MS = 1000;

/**
 * The services of the machine: those declared in the services directory, those the center assigned and those that were deployed, one Supervisor
 * each.
 * `run` is its task; before `ready` it knows no service.
 */
export class Services implements ServiceControl, DeployableServices {
  readonly #options: ServicesOptions;
  readonly #records: InstanceRecords;
  readonly #supervisors = new Map<string, Supervisor>();
  readonly #retirements: Retirements;
  readonly #listeners = new Set<(change: ServicesChange) => void>();
  readonly #mutations = new KeyedMutex();
  #drivers: Readonly<Record<Driver, ServiceDriver>> | undefined;
  readonly #holds = new Holds();
  readonly #declared: DeclaredServices;
  readonly #assigned: AssignedServices;
  readonly #deployments: Deployments;
  #stopped = false;
  readonly #ready: { readonly promise: Promise<void>; readonly resolve: () => void };

  constructor(options: ServicesOptions) {
    this.#options = options;
    this.#records = new InstanceRecords(options.store);
    this.#retirements = new Retirements({ logger: options.logger, forget: (supervisor) => this.#forget(supervisor) });
    let resolve = (): void => undefined;
    const promise = new Promise<void>((done) => {
      resolve = done;
    });
    this.#ready = { promise, resolve };
    const parts: ServiceParts = {
      ready: promise,
      records: this.#records,
      holds: this.#holds,
      retirements: this.#retirements,
      mutations: this.#mutations,
      logger: options.logger,
      supervisors: this.#supervisors,
      put: (definition) => this.#put(definition),
      retire: (supervisor) => {
        this.#retire(supervisor);
      },
    };
    this.#declared = new DeclaredServices({ ...parts, directory: options.manifestsDirectory });
    this.#assigned = new AssignedServices(parts);
    this.#deployments = this.#makeDeployments();
  }

  #makeDeployments(): Deployments {
    const { dataDirectory, programs, units } = this.#options;
    return new Deployments({
      dataDirectory,
      ready: this.#ready.promise,
      records: this.#records,
      holds: this.#holds,
      programs,
      units: new UnitFiles({ ...this.#options, ...units }),
      mutations: this.#mutations,
      supervisors: {
        get: (service) => this.#supervisors.get(service),
        usable: (service) => this.#usable(service),
        report: (supervisor) => this.#report(supervisor),
        make: (definition) => this.#add(definition, { start: false }),
        forget: (supervisor) => this.#forget(supervisor),
        changed: (service) => {
          this.#changed(service);
        },
        letGo: (service, offered) => {
          this.#settle(service, offered);
        },
      },
    });
  }

  /** Resolves when all manifests are loaded and what ran before is adopted. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Loads, adopts, then follows the services directory. When the signal aborts, services go on running, unwatched. @throws as Store.range */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    await this.#records.load();
    await this.#declared.open();
    this.#drivers = this.#options.drivers(this.#records);
    try {
      await this.#begin();
      this.#ready.resolve();
      for (;;) {
        await sleep(clock, SCAN_EVERY_MS, signal);
        await this.#rescan().catch((error: unknown) => {
          logger.error('the services directory could not be followed', { error });
        });
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#stopped = true;
      for (const supervisor of this.#supervisors.values()) supervisor.detach();
    }
  }

  list(): readonly InstanceReport[] {
    return [...this.#supervisors.values()]
      .map((supervisor) => this.#report(supervisor))
      .sort((a, b) => (a.service < b.service ? -1 : 1));
  }

  get(service: string): InstanceReport {
    return this.#report(this.#supervisor(service));
  }

  /** The manifest a service is run by. @throws not_found naming the nearest service */
  manifest(service: string): Manifest {
    return this.#supervisor(service).definition.manifest;
  }

  onChange(listener: (change: ServicesChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async start(service: string): Promise<InstanceReport> {
    this.#retirements.check(service);
    return this.#act(service, (supervisor) => supervisor.start());
  }

  async stop(service: string): Promise<InstanceReport> {
    return this.#act(service, (supervisor) => supervisor.stop());
  }

  async restart(service: string): Promise<InstanceReport> {
    this.#retirements.check(service);
    return this.#act(service, (supervisor) => supervisor.restart());
  }

  assign(assignment: Assignment, heard: Heard): Promise<void> {
    return this.#assigned.assign(assignment, heard);
  }

  unassign(service: string, generation: number, heard: Heard): Promise<void> {
    return this.#assigned.unassign(service, generation, heard);
  }

  generations(): ReadonlyMap<string, number> {
    return this.#assigned.generations();
  }

  hold(service: string, why: string): Promise<Hold> {
    return this.#deployments.hold(service, why);
  }

  userOf(source: ServiceSource): Promise<{ uid: number; gid: number } | undefined> {
    return this.#deployments.userOf(source);
  }

  reportHealth(service: string, health: ReportedHealth, output: string): number {
    return this.#supervisor(service).reportHealth(health, output);
  }

  async lastOutput(service: string): Promise<readonly string[]> {
    return this.#supervisor(service).lastLines();
  }

  broken(): readonly BrokenFile[] {
    return this.#declared.broken;
  }

  /** Stops all, for an agent that is not to leave anything behind; what is wanted stays as it is. Call it before the signal of run aborts. */
  async stopAll(): Promise<void> {
    const halts = [...this.#supervisors.values()].map(async (supervisor) => {
      await supervisor.halt().catch((error: unknown) => {
        this.#options.logger.error('a service could not be stopped', { service: supervisor.service, error });
      });
    });
    await Promise.all([...halts, this.#retirements.settled()]);
  }

  async #act(service: string, action: (supervisor: Supervisor) => Promise<void>): Promise<InstanceReport> {
    const supervisor = this.#supervisor(service);
    this.#holds.check(service);
    await action(supervisor);
    return this.#report(supervisor);
  }

  #report(supervisor: Supervisor): InstanceReport {
    const { service } = supervisor;
    const deploying = this.#holds.stepOf(service);
    const report = supervisor.report();
    const heldReleases = this.#options.heldReleases?.(service, report.release?.ref.digest) ?? [];
    return {
      ...report,
      ...(heldReleases.length > 0 ? { heldReleases } : {}),
      ...(deploying === undefined ? {} : { deploying }),
    };
  }

  #supervisor(service: string): Supervisor {
    const found = this.#supervisors.get(service);
    if (found) return found;
    const hint = didYouMean(service, this.#supervisors.keys());
    throw new MusterError(
      'not_found',
      `there is no service "${service}" on this machine.${hint || ' "muster services" lists them.'}`,
      {
        reason: 'SERVICE_UNKNOWN',
      },
    );
  }

  async #begin(): Promise<void> {
    const scan = await this.#declared.scan();
    const given = new Map<string, Definition>();
    const orphans: Definition[] = [];
    for (const [service, record] of this.#records.all()) {
      const definition = definitionOf(service, record);
      if (!definition)
        this.#options.logger.error('the stored manifest of a service cannot be read any more', { service });
      else if (goesOn(service, record, scan)) given.set(service, definition);
      else if (!scan?.definitions.has(service)) orphans.push(definition);
    }
    const wanted = new Map([...(scan?.definitions ?? []), ...given]);
    await Promise.all([
      ...[...wanted.values()].map((definition) => this.#put(definition, { start: !this.#isDeploying(definition) })),
      ...orphans.map((definition) => this.#removeOrphan(definition)),
    ]);
  }

  async #rescan(): Promise<void> {
    this.#retirements.retry();
    const scan = await this.#declared.scan();
    if (scan && !this.#stopped) await this.#declared.follow(scan);
  }

  /** Makes the service what its definition says. `start`: it is started where it is wanted and did not run before. */
  async #put(definition: Definition, { start = true }: { readonly start?: boolean } = {}): Promise<void> {
    const { name } = definition.manifest;
    await this.#retirements.cleared(name);
    await this.#records.update(name, (record) => withManifest(record, definition));
    if (this.#stopped) return;
    const current = this.#supervisors.get(name);
    if (current) current.update(definition);
    else await this.#add(definition, { start });
  }

  async #add(definition: Definition, { start }: { readonly start: boolean }): Promise<Supervisor> {
    const { name } = definition.manifest;
    const supervisor = this.#supervise(definition);
    this.#supervisors.set(name, supervisor);
    await supervisor.adopt({ start });
    this.#changed(name);
    return supervisor;
  }

  #isDeploying({ manifest }: Definition): boolean {
    return this.#options.isDeploying?.(manifest.name) ?? false;
  }

  /** @throws precondition for one that was removed and has not ended yet; cancelled when the agent stops */
  async #usable(service: string): Promise<void> {
    if (this.#stopped) throw new MusterError('cancelled', 'the agent is stopping');
    await this.#retirements.cleared(service);
  }

  /** A deploy has let it go. */
  #settle(service: string, offered: boolean): void {
    const settled = this.#mutations.run(service, async () => {
      if (this.#stopped) return;
      await this.#assigned.settle(service);
      if (this.#supervisors.has(service)) this.#changed(service);
      else if (offered) this.#tell({ service, report: undefined });
    });
    settled.catch((error: unknown) => {
      this.#options.logger.error('what was put off during a deploy could not be done', { service, error });
    });
  }

  #supervise(definition: Definition): Supervisor {
    const { clock, random, logger, bootId, checks } = this.#options;
    if (!this.#drivers) throw new MusterError('internal', 'services are used before they run');
    const { name } = definition.manifest;
    return new Supervisor(definition, {
      clock,
      random,
      logger,
      bootId,
      checks,
      records: this.#records,
      drivers: this.#drivers,
      subjectOf: (of) => subjectOf(this.#options.dataDirectory, of),
      onChange: () => {
        this.#changed(name);
      },
    });
  }

  /** Stops it in the background, then forgets it. */
  #retire(supervisor: Supervisor): void {
    const { service } = supervisor;
    if (this.#retirements.has(service)) return;
    this.#options.logger.info('its manifest is gone: stopping it', { service });
    this.#retirements.begin(supervisor);
  }

  async #forget(supervisor: Supervisor): Promise<void> {
    const { service } = supervisor;
    if (this.#stopped) throw new MusterError('cancelled', 'the agent is stopping');
    await this.#records.update(service, () => undefined);
    supervisor.detach();
    this.#supervisors.delete(service);
    this.#declared.forget(service);
    this.#tell({ service, report: undefined });
  }

  /** Its manifest went away while no agent ran. */
  async #removeOrphan(definition: Definition): Promise<void> {
    const { name } = definition.manifest;
    await this.#records.amend(name, (record) => ({ ...record, wanted: false }));
    const supervisor = this.#supervise(definition);
    this.#supervisors.set(name, supervisor);
    await supervisor.adopt();
    this.#retire(supervisor);
  }

  #changed(service: string): void {
    const supervisor = this.#supervisors.get(service);
    if (supervisor) this.#tell({ service, report: this.#report(supervisor) });
  }

  #tell(change: ServicesChange): void {
    for (const listener of [...this.#listeners]) listener(change);
  }
}

/** Whether what an earlier agent ran is still wanted, without a manifest that can be read now. */
function goesOn(service: string, record: InstanceRecord, scan: Scan | undefined): boolean {
  if (record.release) return true;
  return record.assigned ? isAssigned(record) : !scan || scan.kept.has(service);
}
