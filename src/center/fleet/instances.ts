import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { didYouMean } from '../../kit/suggest.js';
import type { InstanceReport } from '../../model/instance.js';
import type { Changes } from '../changes.js';
import type { Table } from '../table.js';
import type { Machine } from './machines.js';

/** An instance as its agent last told it. */
export interface InstanceRecord {
  readonly machine: string;
  readonly report: InstanceReport;
  readonly configHeld: number;
  readonly configApplied: number;
}

/** An instance as far as the center knows. */
export interface InstanceView extends InstanceRecord {
  /** Set while it is not known whether this still holds: contact is lost, or the agent is back and has not told yet. */
  readonly unknownSinceMs: number | undefined;
}

export function instanceId(machine: string, service: string): string {
  return `${machine}/${service}`;
}

/** As JSON, because a record that comes from the disk lacks what is undefined. */
function isSame(before: InstanceRecord | undefined, after: InstanceRecord): boolean {
  return before !== undefined && JSON.stringify(before) === JSON.stringify(after);
}

/** What runs where, by the agents' reports. Durable, so that a center that starts knows what was. */
export class Instances {
  readonly #table: Table<InstanceRecord>;
  readonly #clock: Clock;
  /** Services by machine. */
  readonly #byMachine = new Map<string, Set<string>>();
  /** Instances nobody has told about since contact was lost, and since when. */
  readonly #unknown = new Map<string, number>();

  /** All instances are unknown until their agents come; `lastContactMs` says since when. */
  constructor(table: Table<InstanceRecord>, clock: Clock, lastContactMs: (machine: string) => number | undefined) {
    this.#table = table;
    this.#clock = clock;
    for (const record of table.values()) {
      this.#index(record.machine).add(record.report.service);
      const sinceMs = lastContactMs(record.machine) ?? clock.now();
      this.#unknown.set(instanceId(record.machine, record.report.service), sinceMs);
    }
  }

  get changes(): Changes {
    return this.#table.changes;
  }

  get size(): number {
    return this.#table.size;
  }

  ids(): string[] {
    return this.#table.ids();
  }

  get(id: string): InstanceView | undefined {
    const record = this.#table.get(id);
    return record && { ...record, unknownSinceMs: this.#unknown.get(id) };
  }

  list(): InstanceView[] {
    return this.ids().flatMap((id) => this.get(id) ?? []);
  }

  ofMachine(machine: string): InstanceView[] {
    return [...(this.#byMachine.get(machine) ?? [])].flatMap((service) => this.get(instanceId(machine, service)) ?? []);
  }

  countOf(machine: string): number {
    return this.#byMachine.get(machine)?.size ?? 0;
  }

  /** Names of services that run, or ran, somewhere. */
  serviceNames(): string[] {
    return [...new Set(this.#table.values().map(({ report }) => report.service))];
  }

  /** @throws not_found naming the nearest service of that machine, or where else the service is */
  require(machine: Machine, service: string): InstanceView {
    const found = this.get(instanceId(machine.record.id, service));
    if (found) return found;
    const here = this.ofMachine(machine.record.id).map(({ report }) => report.service);
    const hint = didYouMean(service, here) || didYouMean(service, this.serviceNames());
    const known =
      here.length === 0 ? ' It has no services yet.' : ` It has: ${here.slice(0, SERVICES_NAMED_MAX).join(', ')}.`;
    throw new MusterError('not_found', `machine ${machine.record.name} has no service "${service}".${hint || known}`, {
      reason: 'INSTANCE_UNKNOWN',
    });
  }

  /** Takes over what an agent told. What is known already is not written again, and nobody is told of it who knew that it holds. */
  reported(record: InstanceRecord): void {
    const id = instanceId(record.machine, record.report.service);
    this.#index(record.machine).add(record.report.service);
    const wasUnknown = this.#unknown.delete(id);
    if (!isSame(this.#table.get(id), record)) this.#table.set(id, record);
    else if (wasUnknown) this.changes.emit(id);
  }

  gone(machine: string, service: string): void {
    const id = instanceId(machine, service);
    if (!this.#table.has(id)) return;
    this.#unindex(machine, service);
    this.#unknown.delete(id);
    this.#table.set(id, undefined);
  }

  /** The agent has told all: what it did not tell is there no more. */
  fullReportEnded(machine: string, told: ReadonlySet<string>): void {
    for (const { report } of this.ofMachine(machine)) {
      if (!told.has(report.service)) this.gone(machine, report.service);
    }
  }

  /** Contact with the machine is lost: from now on nothing is sure. */
  contactLost(machine: string, sinceMs: number | undefined): void {
    for (const service of this.#byMachine.get(machine) ?? []) {
      const id = instanceId(machine, service);
      if (!this.#unknown.has(id)) this.#unknown.set(id, sinceMs ?? this.#clock.now());
      this.changes.emit(id);
    }
  }

  machineRemoved(machine: string): void {
    for (const { report } of this.ofMachine(machine)) this.gone(machine, report.service);
  }

  /** Resolves once all that was reported so far is durable. */
  async flushed(): Promise<void> {
    await this.#table.flushed();
  }

  #index(machine: string): Set<string> {
    const found = this.#byMachine.get(machine) ?? new Set();
    this.#byMachine.set(machine, found);
    return found;
  }

  #unindex(machine: string, service: string): void {
    const services = this.#byMachine.get(machine);
    services?.delete(service);
    if (services?.size === 0) this.#byMachine.delete(machine);
  }
}

/** Services named in an error. */
const SERVICES_NAMED_MAX = 10;
