import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { parseManifest } from '../../model/manifest.js';
import { parseSelector } from '../../model/selector.js';
import { unknownService } from '../fleet/unknown.js';
import type { Machines } from '../fleet/machines.js';
import { instanceId, type InstanceRecord } from '../fleet/instances.js';
import type { Applied, Courier, Desired, Held } from '../gateway/parts.js';
import type { ConfigSource } from '../ports.js';
import type { Row, Table } from '../table.js';
import { planAssignment, raiseAbove, type AssignmentRecord, type Definition } from './plan.js';

/** Assignments of one batch. */
const BATCH_MAX = 2000;
/** The one key under which definitions and assignments change. */
const CATALOG = 'catalog';
const ETAG_NEW = 'new';

/** What an agent last said of an assignment, and to whom it belongs. */
export interface AppliedRecord extends Applied {
  readonly machine: string;
}

export interface PutOrder {
  readonly manifest: string;
  readonly selector: string;
  /** Empty: whatever is stored; `new`: only if nothing is. */
  readonly etag: string;
  readonly by: string;
  /** What messages call the manifest. */
  readonly file?: string | undefined;
}

/** A definition as it is stored. */
export interface DefinitionView {
  readonly definition: Definition;
  readonly etag: string;
  /** Machines it is assigned to now. */
  readonly machines: number;
}

export interface CatalogOptions {
  readonly definitions: Table<Definition>;
  readonly assignments: Table<AssignmentRecord>;
  readonly applied: Table<AppliedRecord>;
  readonly machines: Machines;
  readonly courier: Courier;
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Which services there are and which machines shall have them. Every change is durable before an agent hears of it; an agent that was
 * away hears of what differs when it comes back.
 */
export class Catalog {
  readonly #options: CatalogOptions;
  readonly #mutex = new KeyedMutex();
  /** Assignments by machine, then service. */
  readonly #byMachine = new Map<string, Map<string, AssignmentRecord>>();
  /** Configuration revision last sent in the machine's session, by machine, then service. */
  readonly #configSent = new Map<string, Map<string, number>>();

  constructor(options: CatalogOptions) {
    this.#options = options;
    for (const assignment of options.assignments.values()) this.#index(assignment);
  }

  /** Names of the services that are defined now. */
  names(): string[] {
    return this.#rows().map(({ value }) => value.service);
  }

  list(): DefinitionView[] {
    return this.#rows().map((row) => this.#view(row));
  }

  /** @throws not_found naming the nearest service */
  require(service: string): DefinitionView {
    const row = this.#options.definitions.row(service);
    if (!row || row.value.removed) throw unknownService(service, this.names());
    return this.#view(row);
  }

  /** Whether the machine shall have the service. */
  isAssigned(machine: string, service: string): boolean {
    return this.#byMachine.get(machine)?.get(service)?.removed === false;
  }

  /** What the agent last said of an assignment it shall have now and could not apply. */
  failures(machine: string): AppliedRecord[] {
    return [...(this.#byMachine.get(machine)?.values() ?? [])].flatMap(({ service, generation }) => {
      const applied = this.#options.applied.get(instanceId(machine, service));
      return applied?.phase === 'failed' && applied.generation === generation ? [applied] : [];
    });
  }

  /** Checks what put() would take. @throws invalid with line and column of each mistake */
  validate({ manifest, selector, file }: Pick<PutOrder, 'manifest' | 'selector' | 'file'>): string {
    parseSelector(selector);
    return parseManifest(manifest, file === undefined ? {} : { file }).name;
  }

  /**
   * Stores a definition and assigns it. Resolves once both are durable; agents that are connected hear of it at once.
   * @throws invalid; conflict when the etag is not the stored one
   */
  async put(order: PutOrder): Promise<DefinitionView> {
    const service = this.validate(order);
    await this.#mutex.run(CATALOG, async () => {
      await this.#options.definitions.save(service, (current) => {
        assertEtag(
          order.etag,
          current?.removed === false ? this.#options.definitions.row(service) : undefined,
          service,
        );
        return {
          service,
          manifest: order.manifest,
          selector: order.selector,
          generation: (current?.generation ?? 0) + 1,
          updatedMs: this.#options.clock.now(),
          updatedBy: order.by,
          removed: false,
        };
      });
      await this.#converge([service], this.#options.machines.ids());
    });
    return this.require(service);
  }

  /** Takes the service from every machine. Resolves once durable. @throws not_found */
  async remove(service: string, by: string): Promise<void> {
    this.require(service);
    await this.#mutex.run(CATALOG, async () => {
      const { definitions, clock, machines } = this.#options;
      await definitions.save(
        service,
        (current) =>
          current && {
            ...current,
            removed: true,
            generation: current.generation + 1,
            updatedMs: clock.now(),
            updatedBy: by,
          },
      );
      await this.#converge([service], machines.ids());
    });
  }

  /** Finishes at a start what a crash may have cut between a definition and its assignments. */
  async resume(): Promise<void> {
    await this.#mutex.run(CATALOG, async () => {
      const { definitions, machines } = this.#options;
      for (const machine of [...this.#byMachine.keys()]) if (!machines.has(machine)) await this.#forgetMachine(machine);
      await this.#converge(definitions.ids(), machines.ids());
      await this.#forgetRemoved();
    });
  }

  /** A machine joined or its labels changed: gives and takes what the selectors now say. */
  async machineChanged(machine: string): Promise<void> {
    await this.#mutex.run(CATALOG, async () => {
      await this.#converge(this.#options.definitions.ids(), [machine]);
    });
  }

  /** Call once the machine is not of the fleet any more. Resolves once durable. */
  async machineRemoved(machine: string): Promise<void> {
    await this.#mutex.run(CATALOG, async () => {
      await this.#forgetMachine(machine);
      await this.#forgetRemoved();
    });
  }

  /** The machine has the service no more. */
  instanceGone(machine: string, service: string): void {
    this.#configSent.get(machine)?.delete(service);
  }

  /**
   * What an agent that just connected must be told. A service that it holds and that this center never heard of is left alone: a center
   * that went back to an old disk must not stop what it forgot.
   */
  async differences(machine: string, held: readonly Held[]): Promise<Desired[]> {
    const byService = new Map(held.map((one) => [one.service, one]));
    this.#configSent.delete(machine);
    await this.#mutex.run(CATALOG, async () => {
      await this.#converge(this.#options.definitions.ids(), [machine], { silent: true });
      const raised = [...(this.#byMachine.get(machine)?.values() ?? [])].flatMap(
        (assignment) => raiseAbove(assignment, byService.get(assignment.service)?.generation ?? 0) ?? [],
      );
      await this.#store(raised);
    });
    const services = new Set([...byService.keys(), ...(this.#byMachine.get(machine)?.keys() ?? [])]);
    return [...services].flatMap((service) => this.#difference(machine, service, byService.get(service)) ?? []);
  }

  /** An agent said what became of an assignment. */
  applied(machine: string, applied: Applied): void {
    // Of what was never assigned nothing is asked.
    if (!this.#byMachine.get(machine)?.has(applied.service)) return;
    this.#options.applied.set(instanceId(machine, applied.service), { ...applied, machine });
    if (applied.phase !== 'failed') return;
    this.#options.logger.warn('an assignment could not be applied', { machine, ...applied });
  }

  /** A service's configuration changed: tells the connected machines that have it. */
  configChanged(service: string, machines: Iterable<string>): void {
    const assigned = this.#options.machines.ids().filter((machine) => this.isAssigned(machine, service));
    for (const machine of new Set([...assigned, ...machines])) this.#tell(machine, service);
  }

  /** An instance was reported: tells its agent of a configuration it does not hold, once per revision. */
  instanceReported({ machine, report, configHeld }: InstanceRecord): void {
    const { revision } = this.#options.config.revisionOf(report.service, machine);
    if (revision === configHeld || this.#configSent.get(machine)?.get(report.service) === revision) return;
    this.#tell(machine, report.service);
  }

  #rows(): Row<Definition>[] {
    const { definitions } = this.#options;
    return definitions.ids().flatMap((id) => {
      const row = definitions.row(id);
      return row && !row.value.removed ? [row] : [];
    });
  }

  #view(row: Row<Definition>): DefinitionView {
    const { service } = row.value;
    const machines = [...this.#byMachine.values()].filter(
      (services) => services.get(service)?.removed === false,
    ).length;
    return { definition: row.value, etag: etagOf(row), machines };
  }

  #difference(machine: string, service: string, held: Held | undefined): Desired | undefined {
    const desired = this.#desired(machine, service);
    if (!differs(desired, held)) return undefined;
    this.#noteSent(machine, desired);
    return desired;
  }

  #desired(machine: string, service: string): Desired {
    const assignment = this.#byMachine.get(machine)?.get(service);
    const { revision, hash } = this.#options.config.revisionOf(service, machine);
    const definition = this.#options.definitions.get(service);
    const removed = assignment?.removed ?? false;
    return {
      service,
      generation: assignment?.generation ?? 0,
      manifest: assignment && !removed ? (definition?.manifest ?? '') : '',
      removed,
      configRevision: revision,
      configHash: hash,
    };
  }

  #tell(machine: string, service: string): void {
    const desired = this.#desired(machine, service);
    if (!this.#options.courier.assign(machine, desired)) return;
    this.#noteSent(machine, desired);
  }

  #noteSent(machine: string, { service, configRevision }: Desired): void {
    const sent = this.#configSent.get(machine) ?? new Map<string, number>();
    this.#configSent.set(machine, sent.set(service, configRevision));
  }

  async #forgetMachine(machine: string): Promise<void> {
    const ids = [...(this.#byMachine.get(machine)?.keys() ?? [])].map((service) => instanceId(machine, service));
    this.#byMachine.delete(machine);
    this.#configSent.delete(machine);
    for (const id of ids) this.#options.applied.set(id, undefined);
    await this.#options.assignments.remove(ids);
  }

  /** A removed definition is kept for machines that have not heard of it, and so ends with the last assignment of it. */
  async #forgetRemoved(): Promise<void> {
    const { definitions } = this.#options;
    const assigned = new Set([...this.#byMachine.values()].flatMap((services) => [...services.keys()]));
    const gone = definitions.ids().filter((service) => definitions.get(service)?.removed && !assigned.has(service));
    if (gone.length > 0) await definitions.remove(gone);
  }

  /** Makes the assignments of these services on these machines what the definitions say, durably, then tells the agents. */
  async #converge(
    services: readonly string[],
    machines: readonly string[],
    options: { silent?: boolean } = {},
  ): Promise<void> {
    const changed = services.flatMap((service) => this.#changesOf(service, machines));
    await this.#store(changed);
    if (options.silent) return;
    for (const { machine, service } of changed) this.#tell(machine, service);
  }

  #changesOf(service: string, machines: readonly string[]): AssignmentRecord[] {
    const definition = this.#options.definitions.get(service);
    if (!definition) return [];
    const selector = parseSelector(definition.selector);
    return machines.flatMap((id) => {
      const record = this.#options.machines.get(id)?.record;
      if (!record) return [];
      return planAssignment(definition, selector, record, this.#byMachine.get(id)?.get(service)) ?? [];
    });
  }

  async #store(assignments: readonly AssignmentRecord[]): Promise<void> {
    for (let start = 0; start < assignments.length; start += BATCH_MAX) {
      const batch = assignments.slice(start, start + BATCH_MAX);
      await this.#options.assignments.putAll(batch.map((one) => [instanceId(one.machine, one.service), one]));
      for (const assignment of batch) this.#index(assignment);
    }
  }

  #index(assignment: AssignmentRecord): void {
    const services = this.#byMachine.get(assignment.machine) ?? new Map<string, AssignmentRecord>();
    services.set(assignment.service, assignment);
    this.#byMachine.set(assignment.machine, services);
  }
}

/** Whether an agent that holds `held` must be told `desired`. */
function differs(desired: Desired, held: Held | undefined): boolean {
  const generation = held?.generation ?? 0;
  if (desired.removed) return generation > 0 && generation < desired.generation;
  return generation < desired.generation || (held?.configRevision ?? 0) !== desired.configRevision;
}

function etagOf(row: Row<Definition>): string {
  return `r${row.revision}`;
}

/** @throws conflict */
function assertEtag(etag: string, stored: Row<Definition> | undefined, service: string): void {
  if (etag === '') return;
  const actual = stored ? etagOf(stored) : ETAG_NEW;
  if (etag === actual) return;
  const message =
    etag === ETAG_NEW
      ? `service "${service}" is defined already: leave etag empty to replace it, or read it and send its etag`
      : `service "${service}" was changed since it was read: read it again, then send its new etag`;
  throw new MusterError('conflict', message, { reason: 'ETAG_MISMATCH', metadata: { etag: actual } });
}
