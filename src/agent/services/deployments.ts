import { MusterError } from '../../kit/errors.js';
import type { KeyedMutex } from '../../kit/tasks.js';
import type { DeployedRelease, InstanceReport } from '../../model/instance.js';
import type { DeployStep } from '../../model/release.js';
import type { DeployableServices, Hold, ServiceSource } from '../ports.js';
import type { Holds } from './holds.js';
import type { ProgramEnd, Program, Programs } from './programs.js';
import { withoutRelease, withSource, type InstanceRecords } from './records.js';
import { definitionFrom, definitionOf, sourceOf, subjectOf, type Definition } from './sources.js';
import type { Supervisor } from './supervisor.js';
import type { UnitFiles } from './unit-files.js';
import { currentLink, logDirectory, modulesDirectory, sharedDirectory } from './workplace.js';

export interface DeploymentsOptions {
  /** Absolute. */
  readonly dataDirectory: string;
  readonly ready: Promise<void>;
  readonly records: InstanceRecords;
  readonly holds: Holds;
  readonly programs: Programs;
  readonly units: UnitFiles;
  /** One change of what a service is at a time. */
  readonly mutations: KeyedMutex;
  readonly supervisors: SupervisorsOf;
}

/** The machine's supervisors, as deploys change them. */
export interface SupervisorsOf {
  get(service: string): Supervisor | undefined;
  /** @throws precondition for one that was removed and has not ended yet; cancelled when the agent stops */
  usable(service: string): Promise<void>;
  report(supervisor: Supervisor): InstanceReport;
  /** A new one, which starts nothing. */
  make(definition: Definition): Promise<Supervisor>;
  /** Drops all that is known of one that has ended. */
  forget(supervisor: Supervisor): Promise<void>;
  changed(service: string): void;
  /** The hold has ended: what was put off meanwhile is due. `offered`: what it would need to run may have been made, also where it is not there. */
  letGo(service: string, offered: boolean): void;
}

/** Services held by deploys: what they run from is changed here, and nowhere else while they are held. */
export class Deployments implements DeployableServices {
  readonly #options: DeploymentsOptions;

  constructor(options: DeploymentsOptions) {
    this.#options = options;
  }

  async hold(service: string, why: string): Promise<Hold> {
    const { ready, mutations, holds, programs, dataDirectory, supervisors } = this.#options;
    await ready;
    await mutations.run(service, async () => {
      holds.check(service);
      await supervisors.usable(service);
      holds.take(service, why);
    });
    const held = new HeldService(service, this.#options);
    try {
      // A program of a deploy that an earlier agent ran must not work on beside this one.
      await programs.sweep({ sharedDirectory: sharedDirectory(dataDirectory, service) });
      return held;
    } catch (error) {
      held.letGo();
      throw error;
    }
  }

  async userOf({ manifest }: ServiceSource): Promise<{ uid: number; gid: number } | undefined> {
    const owner = await this.#options.programs.ownerOf(manifest);
    return owner && { uid: owner.uid, gid: owner.gid };
  }
}

class HeldService implements Hold {
  readonly #service: string;
  readonly #options: DeploymentsOptions;
  #over = false;
  #offered = false;

  constructor(service: string, options: DeploymentsOptions) {
    this.#service = service;
    this.#options = options;
  }

  source(): ServiceSource | undefined {
    const supervisor = this.#supervisor;
    return supervisor && sourceOf(supervisor.definition);
  }

  report(): InstanceReport | undefined {
    const supervisor = this.#supervisor;
    return supervisor && this.#options.supervisors.report(supervisor);
  }

  get wanted(): boolean {
    return this.#options.records.get(this.#service)?.wanted ?? true;
  }

  step(step: DeployStep | undefined): void {
    this.#assertHeld();
    this.#options.holds.step(this.#service, step);
    this.#options.supervisors.changed(this.#service);
  }

  async stop(): Promise<void> {
    this.#assertHeld();
    await this.#supervisor?.halt();
  }

  async become(source: ServiceSource | undefined): Promise<void> {
    this.#assertHeld();
    await this.#options.mutations.run(this.#service, async () => {
      this.#assertStopped(source);
      await this.#options.supervisors.usable(this.#service);
      await this.#changeUnit(source);
      if (source) await this.#follow(source);
      else await this.#leave();
    });
  }

  async start(): Promise<InstanceReport> {
    this.#assertHeld();
    const supervisor = this.#required();
    await supervisor.start();
    return this.#options.supervisors.report(supervisor);
  }

  async verified(configRevision: number): Promise<void> {
    this.#assertHeld();
    const { records, mutations } = this.#options;
    const verified = (release: DeployedRelease): DeployedRelease => ({
      ...release,
      ref: { ...release.ref, configRevision },
      verified: true,
    });
    await mutations.run(this.#service, async () => {
      await records.amend(this.#service, (record) =>
        record.release ? { ...record, release: verified(record.release) } : record,
      );
      const supervisor = this.#required();
      const { release } = supervisor.definition;
      if (release) supervisor.update({ ...supervisor.definition, release: verified(release) });
    });
  }

  async run(source: ServiceSource, program: Program): Promise<ProgramEnd> {
    this.#assertHeld();
    const subject = subjectOf(this.#options.dataDirectory, source);
    const offered = this.#offers(source);
    this.#offered ||= offered;
    return this.#options.programs.run(subject, program, { offered });
  }

  async lastOutput(): Promise<readonly string[]> {
    return (await this.#supervisor?.lastLines()) ?? [];
  }

  letGo(): void {
    if (this.#over) return;
    this.#over = true;
    this.#options.holds.letGo(this.#service);
    this.#options.supervisors.letGo(this.#service, this.#offered);
  }

  get #supervisor(): Supervisor | undefined {
    return this.#options.supervisors.get(this.#service);
  }

  #required(): Supervisor {
    const supervisor = this.#supervisor;
    if (supervisor) return supervisor;
    throw new MusterError('precondition', `${this.#service} is not on this machine: nothing of it can be started`);
  }

  #assertHeld(): void {
    if (this.#over) throw new MusterError('internal', `${this.#service} is used by a deploy that has let it go`);
  }

  /** What it is already may be said again at any time. */
  #assertStopped(source: ServiceSource | undefined): void {
    const supervisor = this.#supervisor;
    if (!supervisor || supervisor.report().state === 'STOPPED') return;
    const { release, manifestText, folder } = supervisor.definition;
    const same =
      source?.manifestText === manifestText &&
      source.folder === folder &&
      source.release?.ref.digest === release?.ref.digest;
    if (same) return;
    const message = `${this.#service} is ${supervisor.report().state} and must be stopped before it is run from something else`;
    throw new MusterError('precondition', message, { reason: 'NOT_STOPPED' });
  }

  async #changeUnit(source: ServiceSource | undefined): Promise<void> {
    const { units, programs, dataDirectory } = this.#options;
    const now = this.#supervisor?.definition.manifest;
    const runBy = now?.driver === 'systemd' ? now : undefined;
    const user = source?.manifest.driver === 'systemd' ? (await programs.userOf(source.manifest)).name : '';
    await units.become(this.#service, source, runBy, {
      RELEASE: source?.folder ?? '',
      CURRENT: currentLink(dataDirectory, this.#service),
      SHARED: sharedDirectory(dataDirectory, this.#service),
      LOGS: logDirectory(dataDirectory, this.#service),
      MODULES: modulesDirectory(source?.folder ?? ''),
      USER: user,
    });
  }

  async #follow(source: ServiceSource): Promise<void> {
    const { records, supervisors, programs, dataDirectory } = this.#options;
    if (source.release) await programs.makeDirectories(subjectOf(dataDirectory, source));
    await records.update(this.#service, (record) => withSource(record, source));
    const { file, assigned } = records.get(this.#service) ?? {};
    const definition = definitionFrom(source, { file, generation: assigned?.generation ?? 0 });
    const supervisor = this.#supervisor;
    if (supervisor && isSameUnit(supervisor.definition, definition)) {
      supervisor.update(definition);
      return;
    }
    supervisor?.detach();
    const made = await supervisors.make(definition);
    // A unit or init script that ran without Muster until now: what it runs is not the release.
    await made.halt();
    supervisors.changed(this.#service);
  }

  /** An assignment that came meanwhile, or that a release was run in place of, holds again. */
  async #leave(): Promise<void> {
    const { records, supervisors } = this.#options;
    const supervisor = this.#supervisor;
    const rest = withoutRelease(records.get(this.#service));
    const definition = rest && definitionOf(this.#service, rest);
    if (!rest || !definition) {
      if (supervisor) await supervisors.forget(supervisor);
      return;
    }
    await records.update(this.#service, () => rest);
    supervisor?.update(definition);
  }

  /** Its socket belongs to one user: it is not taken from what runs, and only offered to who would own it. */
  #offers({ manifest }: ServiceSource): boolean {
    if (manifest.driver !== 'process' && manifest.user === undefined) return false;
    const now = this.#supervisor?.definition.manifest;
    return !now || (now.user === manifest.user && now.driver === manifest.driver);
  }
}

/** Whether both are the same thing to the machine's own managers of services. */
function isSameUnit({ manifest: a }: Definition, { manifest: b }: Definition): boolean {
  return a.driver === b.driver && a.unit === b.unit;
}
