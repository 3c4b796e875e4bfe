import { Saver } from '../../counter/saver.js';
import type { Batch, CounterKind, PointRefusal } from '../../counter/series.js';
import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { NAME_PATTERN } from '../../kit/ids.js';
import { didYouMean } from '../../kit/suggest.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { Documents } from '../../store/documents.js';
import type { Mutation, Store } from '../../store/port.js';
import type { FleetDirectory } from '../ports.js';
import { MachineLedger, type SeriesReading, type StoredDefinitions, type StoredValues } from './ledger.js';

/** A counter over the whole fleet. */
export interface CounterSummary {
  readonly service: string;
  readonly name: string;
  readonly kind: CounterKind;
  readonly help: string;
  readonly unit: string;
  readonly machines: number;
  readonly series: number;
  readonly value: number;
  readonly perSecond: number;
  readonly updatedMs: number;
}

/** One of its series, on one machine. */
export interface MachineSeries extends SeriesReading {
  readonly machine: string;
  readonly machineName: string;
}

export interface CounterReading {
  readonly counter: CounterSummary;
  readonly series: readonly MachineSeries[];
}

/** Services one machine may report counters of. */
export const SERVICES_PER_MACHINE_MAX = 500;
/** Series the center holds in all. */
export const SERIES_MAX = 1_000_000;

/** In place of a machine: all that were removed. Their counters stay in the totals. */
const REMOVED = '';
const REMOVED_NAME = '(removed machines)';

export interface CountersOptions {
  readonly clock: Clock;
  readonly fleet: FleetDirectory;
  /** Series held in all; default SERIES_MAX. */
  readonly seriesMax?: number;
}

interface Entry {
  readonly service: string;
  readonly machine: string;
  readonly ledger: MachineLedger;
  readonly saver: Saver;
}

/**
 * What the fleet counts. In memory whole, on disk per (service, machine): `counter/definitions/SERVICE:MACHINE`, which changes with
 * new series, and `counter/values/SERVICE:MACHINE`, written with every batch.
 */
export class Counters {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #fleet: FleetDirectory;
  readonly #seriesMax: number;
  readonly #definitions: Documents<StoredDefinitions>;
  readonly #values: Documents<StoredValues>;
  /** By service, then machine. */
  readonly #entries = new Map<string, Map<string, Entry>>();
  readonly #listeners = new Set<(service: string) => void>();
  readonly #forgetting = new KeyedMutex();
  #refusedPoints = 0;
  #size = 0;

  private constructor(store: Store, { clock, fleet, seriesMax = SERIES_MAX }: CountersOptions) {
    this.#store = store;
    this.#seriesMax = seriesMax;
    this.#clock = clock;
    this.#fleet = fleet;
    this.#definitions = new Documents<StoredDefinitions>(store, 'counter/definitions/');
    this.#values = new Documents<StoredValues>(store, 'counter/values/');
  }

  /** @throws as Store.range */
  static async open(store: Store, options: CountersOptions): Promise<Counters> {
    const counters = new Counters(store, options);
    const definitions = new Map<string, StoredDefinitions>();
    for await (const { id, value } of counters.#definitions.list()) definitions.set(id, value);
    for await (const { id, value } of counters.#values.list()) {
      const [service = '', machine = ''] = id.split(':');
      counters.#add(service, machine, new MachineLedger(definitions.get(id)?.definitions, value));
    }
    return counters;
  }

  /** Points refused since the center started. */
  get refusedPoints(): number {
    return this.#refusedPoints;
  }

  /**
   * Takes a batch of a machine's agent; resolves once it is durable, with the points that were not taken.
   * @throws invalid for a service that cannot be one; denied for a machine that was removed; precondition PROCESS_RETIRED; exhausted; as Store.write
   */
  async report(machine: string, batch: Batch): Promise<PointRefusal[]> {
    const entry = this.#entries.get(batch.service)?.get(machine) ?? this.#create(batch.service, machine);
    const before = entry.ledger.size;
    const refusals = entry.ledger.apply(batch, this.#clock.monotonic(), this.#seriesMax - this.#size);
    this.#size += entry.ledger.size - before;
    this.#refusedPoints += refusals.length;
    await entry.saver.save();
    for (const listener of this.#listeners) listener(batch.service);
    return refusals;
  }

  /**
   * Adds what removed machines have counted to what stays of all of them, and forgets the rest. Resolves once durable.
   * @throws as Store.write; what is left is done by the next call
   */
  async forgetRemoved(): Promise<void> {
    await this.#forgetting.run(REMOVED, async () => {
      for (const machines of this.#entries.values()) {
        for (const entry of [...machines.values()]) {
          if (entry.machine !== REMOVED && !this.#fleet.findMachine(entry.machine)) await this.#forget(entry, machines);
        }
      }
    });
  }

  /**
   * Every counter of a service, or of all.
   * @throws not_found for a service nobody knows, naming the nearest
   */
  list(service = ''): CounterSummary[] {
    if (service !== '' && !this.#entries.has(service)) {
      const known = [...this.#entries.keys(), ...this.#fleet.serviceNames()];
      if (known.includes(service)) return [];
      throw new MusterError('not_found', `there is no service "${service}".${didYouMean(service, known)}`, {
        reason: 'SERVICE_UNKNOWN',
      });
    }
    const services = service === '' ? [...this.#entries.keys()].sort() : [service];
    return services.flatMap((one) => this.#countersOf(one));
  }

  /**
   * One counter. The service may be left empty where only one has a counter of that name.
   * @throws not_found naming the nearest; invalid where several services have it
   */
  query(service: string, name: string): CounterReading {
    const found = service === '' ? this.#onlyServiceWith(name) : service;
    const series = this.#seriesOf(found, name);
    const tally = new Tally(found);
    for (const one of series) tally.add(one.machine, one);
    if (tally.summary) return { counter: tally.summary, series };
    const known = this.list(found).map((counter) => counter.name);
    throw unknownCounter(name, found, known);
  }

  /** Calls `listener` with the service after a change. Returns how to stop. */
  onChange(listener: (service: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #onlyServiceWith(name: string): string {
    const all = this.list();
    const services = all.filter((counter) => counter.name === name).map((counter) => counter.service);
    const [only] = services;
    if (only === undefined)
      throw unknownCounter(
        name,
        '',
        all.map((counter) => counter.name),
      );
    if (services.length === 1) return only;
    throw new MusterError('invalid', `"${name}" is counted by ${services.join(', ')}: name the service`, {
      reason: 'SERVICE_NEEDED',
      fields: [{ field: 'service', description: `one of ${services.join(', ')}` }],
    });
  }

  /** Every counter of a service, by name. */
  #countersOf(service: string): CounterSummary[] {
    const nowMs = this.#clock.monotonic();
    const tallies = new Map<string, Tally>();
    for (const { machine, ledger } of this.#entries.get(service)?.values() ?? []) {
      for (const reading of ledger.read(nowMs)) {
        const { name } = reading.definition;
        const tally = tallies.get(name) ?? new Tally(service);
        tallies.set(name, tally);
        tally.add(machine, reading);
      }
    }
    const summaries = [...tallies.values()].flatMap(({ summary }) => summary ?? []);
    return summaries.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #seriesOf(service: string, name?: string): MachineSeries[] {
    const nowMs = this.#clock.monotonic();
    return [...(this.#entries.get(service)?.values() ?? [])].flatMap(({ machine, ledger }) => {
      const machineName = machine === REMOVED ? REMOVED_NAME : (this.#fleet.findMachine(machine)?.name ?? machine);
      return [...ledger.read(nowMs, name)].map((reading) => ({ ...reading, machine, machineName }));
    });
  }

  #create(service: string, machine: string): Entry {
    if (!NAME_PATTERN.test(service)) {
      throw new MusterError('invalid', `"${service.slice(0, 64)}" cannot be a service's name`);
    }
    if (!this.#fleet.findMachine(machine)) {
      throw new MusterError('denied', 'this machine is not of the fleet: nothing more is counted of it', {
        reason: 'MACHINE_REMOVED',
      });
    }
    const services = [...this.#entries.values()].filter((machines) => machines.has(machine)).length;
    if (services >= SERVICES_PER_MACHINE_MAX || this.#size >= this.#seriesMax) {
      throw new MusterError(
        'exhausted',
        `no more counters are taken: the limits are ${SERVICES_PER_MACHINE_MAX} services per machine and ${this.#seriesMax} series in all`,
      );
    }
    return this.#add(service, machine, new MachineLedger());
  }

  /** In one batch: what a machine counted is never in the total twice, nor missing from it. */
  async #forget(gone: Entry, machines: Map<string, Entry>): Promise<void> {
    const { service, machine, ledger } = gone;
    // From here on nothing more is taken of it; what is being written is waited for.
    machines.delete(machine);
    await gone.saver.save().catch(() => undefined);
    const stayed = machines.get(REMOVED)?.ledger ?? new MachineLedger();
    const stays = stayed.with(ledger);
    if (!stays) {
      // More series than one machine may have: they stay as they are, in the total.
      machines.set(machine, gone);
      return;
    }
    try {
      const id = `${service}:${machine}`;
      const also = [this.#definitions.deleting(id), this.#values.deleting(id)];
      await this.#write(`${service}:${REMOVED}`, stays, also);
    } catch (error) {
      machines.set(machine, gone);
      throw error;
    }
    this.#size -= stayed.size + ledger.size;
    this.#add(service, REMOVED, stays);
    for (const listener of this.#listeners) listener(service);
  }

  #add(service: string, machine: string, ledger: MachineLedger): Entry {
    const entry = { service, machine, ledger, saver: new Saver(() => this.#write(`${service}:${machine}`, ledger)) };
    const machines = this.#entries.get(service) ?? new Map<string, Entry>();
    this.#entries.set(service, machines.set(machine, entry));
    this.#size += ledger.size;
    return entry;
  }

  async #write(id: string, ledger: MachineLedger, also: readonly Mutation[] = []): Promise<void> {
    const { definitions, values } = ledger.takeChanges();
    try {
      await this.#store.write([
        ...(definitions ? [this.#definitions.putting(id, definitions)] : []),
        this.#values.putting(id, values),
        ...also,
      ]);
    } catch (error) {
      if (definitions) ledger.keepDefinitions();
      throw error;
    }
  }
}

function unknownCounter(name: string, service: string, known: readonly string[]): MusterError {
  const of = service === '' ? '' : ` of ${service}`;
  return new MusterError('not_found', `there is no counter "${name}"${of}.${didYouMean(name, known)}`, {
    reason: 'COUNTER_UNKNOWN',
  });
}

/** Sums series of one counter. */
class Tally {
  readonly #service: string;
  readonly #machines = new Set<string>();
  #series = 0;
  #value = 0;
  #perSecond = 0;
  #newest: SeriesReading | undefined;

  constructor(service: string) {
    this.#service = service;
  }

  add(machine: string, reading: SeriesReading): void {
    if (machine !== REMOVED) this.#machines.add(machine);
    this.#series += 1;
    this.#value += reading.value;
    this.#perSecond += reading.perSecond ?? 0;
    if (!this.#newest || reading.updatedMs > this.#newest.updatedMs) this.#newest = reading;
  }

  /** Undefined before there is a series. Its description is that of the newest one. */
  get summary(): CounterSummary | undefined {
    if (!this.#newest) return undefined;
    const { definition, updatedMs } = this.#newest;
    const { name, kind, help, unit } = definition;
    const described = { service: this.#service, name, kind, help, unit };
    const machines = this.#machines.size;
    return { ...described, machines, series: this.#series, value: this.#value, perSecond: this.#perSecond, updatedMs };
  }
}
