import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { makeDirectory } from '../../kit/files.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { didYouMean } from '../../kit/suggest.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Driver, InstanceReport } from '../../model/instance.js';
import { checkManifest, type Manifest } from '../../model/manifest.js';
import type { Store } from '../../store/port.js';
import type { Heard, ServiceControl, ServicesChange } from '../ports.js';
import type { ChecksFactory, ReportedHealth } from '../probes/checks.js';
import type { ServiceDriver, Subject } from './driver.js';
import { ManifestDirectory, usualFiles, type BrokenFile, type Scan } from './manifests.js';
import { InstanceRecords, withManifest, type InstanceRecord } from './records.js';
import { Retirements } from './retirements.js';
import { Supervisor, type Definition } from './supervisor.js';
import { logDirectory, sharedDirectory } from './workplace.js';

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
}

const SCAN_EVERY_MS = 1000;

/**
 * The services of the machine: those declared in the services directory and those the center assigned, one Supervisor each.
 * `run` is its task; before `ready` it knows no service.
 */
export class Services implements ServiceControl {
  readonly #options: ServicesOptions;
  readonly #records: InstanceRecords;
  readonly #directory: ManifestDirectory;
  readonly #supervisors = new Map<string, Supervisor>();
  readonly #retirements: Retirements;
  readonly #listeners = new Set<(change: ServicesChange) => void>();
  readonly #mutations = new KeyedMutex();
  #drivers: Readonly<Record<Driver, ServiceDriver>> | undefined;
  #broken: readonly BrokenFile[] = [];
  #missing = new Set<string>();
  #stopped = false;
  readonly #ready: { readonly promise: Promise<void>; readonly resolve: () => void };

  constructor(options: ServicesOptions) {
    this.#options = options;
    this.#records = new InstanceRecords(options.store);
    this.#retirements = new Retirements({ logger: options.logger, forget: (supervisor) => this.#forget(supervisor) });
    this.#directory = new ManifestDirectory(options.manifestsDirectory);
    let resolve = (): void => undefined;
    const promise = new Promise<void>((done) => {
      resolve = done;
    });
    this.#ready = { promise, resolve };
  }

  /** Resolves when all manifests are loaded and what ran before is adopted. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Loads, adopts, then follows the services directory. When the signal aborts, services go on running, unwatched. @throws as Store.range */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    await this.#records.load();
    await this.#openDirectory();
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
      .map((supervisor) => supervisor.report())
      .sort((a, b) => (a.service < b.service ? -1 : 1));
  }

  get(service: string): InstanceReport {
    return this.#supervisor(service).report();
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

  async assign(assignment: { manifest: Manifest; manifestText: string; generation: number }): Promise<void> {
    await this.#ready.promise;
    const { manifest, manifestText, generation } = assignment;
    await this.#mutations.run(manifest.name, async () => {
      await this.#retirements.cleared(manifest.name);
      const held = this.#records.get(manifest.name)?.assigned?.generation ?? 0;
      if (generation <= held) return;
      await this.#records.update(manifest.name, (record) => ({
        ...withManifest(record, { manifestText, folder: '' }),
        assigned: { generation },
      }));
      await this.#put({ manifest, manifestText, folder: '', generation });
    });
  }

  async unassign(service: string, generation: number, heard: Heard): Promise<void> {
    await this.#ready.promise;
    await this.#mutations.run(service, async () => {
      const assigned = this.#records.get(service)?.assigned;
      if (!assigned || assigned.generation > generation) {
        heard(undefined);
        return;
      }
      const supervisor = this.#supervisors.get(service);
      if (!supervisor) {
        await this.#records.update(service, () => undefined);
        heard(undefined);
        return;
      }
      // Held until it has ended: the center asks again, and so does the next agent.
      await this.#records.amend(service, (record) => ({ ...record, assigned: { ...assigned, removed: true } }));
      this.#retire(supervisor);
      this.#retirements.hear(service, heard);
    });
  }

  generations(): ReadonlyMap<string, number> {
    const held = new Map<string, number>();
    for (const [service, { assigned }] of this.#records.all()) if (assigned) held.set(service, assigned.generation);
    return held;
  }

  reportHealth(service: string, health: ReportedHealth, output: string): number {
    return this.#supervisor(service).reportHealth(health, output);
  }

  async lastOutput(service: string): Promise<readonly string[]> {
    return this.#supervisor(service).lastLines();
  }

  broken(): readonly BrokenFile[] {
    return this.#broken;
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
    await action(supervisor);
    return supervisor.report();
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

  /** A directory that is gone while services came from it is not made anew: an empty one would say that they are to end. */
  async #openDirectory(): Promise<void> {
    const own = [...this.#records.all()].filter(([, { assigned }]) => !assigned);
    for (const [service, { file = '' }] of own) {
      for (const path of file === '' ? usualFiles(service) : [file]) this.#directory.remember(path, service);
    }
    if (own.length === 0) await makeDirectory(this.#options.manifestsDirectory, 0o755);
  }

  async #begin(): Promise<void> {
    const scan = await this.#directory.scan();
    const assigned = new Map<string, Definition>();
    const orphans: Definition[] = [];
    for (const [service, record] of this.#records.all()) {
      const definition = definitionOf(service, record);
      if (!definition)
        this.#options.logger.error('the stored manifest of a service cannot be read any more', { service });
      else if (goesOn(service, record, scan)) assigned.set(service, definition);
      else if (!scan?.definitions.has(service)) orphans.push(definition);
    }
    const wanted = new Map([...(scan?.definitions ?? []), ...assigned]);
    this.#sayBroken(scan);
    await Promise.all([
      ...[...wanted.values()].map((definition) => this.#put(definition)),
      ...orphans.map((definition) => this.#removeOrphan(definition)),
    ]);
  }

  async #rescan(): Promise<void> {
    this.#retirements.retry();
    const scan = await this.#directory.scan();
    if (this.#stopped) return;
    this.#sayBroken(scan);
    if (!scan) return;
    for (const definition of scan.definitions.values()) {
      const { name } = definition.manifest;
      const current = this.#supervisors.get(name)?.definition;
      if (this.#retirements.has(name)) continue;
      if (current && (current.generation > 0 || sameText(current, definition))) continue;
      await this.#mutations.run(name, () => this.#put(definition));
    }
    this.#retireMissing(scan);
  }

  /** A manifest is gone when two looks in a row do not find it: editors replace files by removing them. */
  #retireMissing(scan: Scan): void {
    const missing = [...this.#supervisors.values()]
      .filter(({ definition }) => definition.generation === 0)
      .map(({ service }) => service)
      .filter((service) => !scan.definitions.has(service) && !scan.kept.has(service));
    for (const service of missing) {
      const supervisor = this.#supervisors.get(service);
      if (supervisor && this.#missing.has(service)) this.#retire(supervisor);
    }
    this.#missing = new Set(missing);
  }

  #sayBroken(scan: Scan | undefined): void {
    const clashes = [...(scan?.definitions.values() ?? [])]
      .filter(({ manifest }) => isAssigned(this.#records.get(manifest.name)))
      .map(({ manifest }) => ({
        file: manifest.name,
        errors: [
          `service ${manifest.name} is assigned by the center: its manifest on this machine is not used, remove it`,
        ],
      }));
    const broken = [...(scan?.broken ?? [this.#unreadable()]), ...clashes];
    const said = new Set(this.#broken.map(({ file, errors }) => file + errors.join('\n')));
    for (const { file, errors } of broken) {
      if (!said.has(file + errors.join('\n'))) this.#options.logger.warn('a manifest cannot be used', { file, errors });
    }
    this.#broken = broken;
  }

  #unreadable(): BrokenFile {
    const file = this.#options.manifestsDirectory;
    const text = `the services directory cannot be read, and its services go on as they were: mount it or make it again (${this.#directory.problem})`;
    return { file, errors: [text] };
  }

  /** Makes the service what its definition says. */
  async #put(definition: Definition): Promise<void> {
    const { name } = definition.manifest;
    await this.#retirements.cleared(name);
    await this.#records.update(name, (record) => withManifest(record, definition));
    if (this.#stopped) return;
    const current = this.#supervisors.get(name);
    if (current) {
      current.update(definition);
      return;
    }
    const supervisor = this.#supervise(definition);
    this.#supervisors.set(name, supervisor);
    await supervisor.adopt();
    this.#changed(name);
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
      subjectOf: (of) => this.#subjectOf(of),
      onChange: () => {
        this.#changed(name);
      },
    });
  }

  #subjectOf({ manifest, folder }: Definition): Subject {
    const { dataDirectory } = this.#options;
    const shared = sharedDirectory(dataDirectory, manifest.name);
    return {
      manifest,
      logDirectory: logDirectory(dataDirectory, manifest.name),
      sharedDirectory: shared,
      workingDirectory: manifest.directory ?? (folder === '' ? shared : folder),
    };
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
    this.#missing.delete(service);
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
    if (supervisor) this.#tell({ service, report: supervisor.report() });
  }

  #tell(change: ServicesChange): void {
    for (const listener of [...this.#listeners]) listener(change);
  }
}

/** Whether what an earlier agent ran is still wanted, without a manifest that can be read now. */
function goesOn(service: string, record: InstanceRecord, scan: Scan | undefined): boolean {
  return record.assigned ? isAssigned(record) : !scan || scan.kept.has(service);
}

/** Whether the center wants it here. */
function isAssigned(record: InstanceRecord | undefined): boolean {
  return record?.assigned !== undefined && record.assigned.removed !== true;
}

function definitionOf(service: string, record: InstanceRecord): Definition | undefined {
  const result = checkManifest(record.manifestText, { file: service });
  if (!result.ok) return undefined;
  return {
    manifest: result.manifest,
    manifestText: record.manifestText,
    folder: record.folder,
    ...(record.file === undefined ? {} : { file: record.file }),
    generation: record.assigned?.generation ?? 0,
  };
}

function sameText(a: Definition, b: Definition): boolean {
  return a.manifestText === b.manifestText && a.folder === b.folder && a.file === b.file;
}
