import type { Batch, PointRefusal, SeriesDefinition } from '../../counter/series.js';
import { Saver } from '../../counter/saver.js';
import type { Clock } from '../../kit/clock.js';
import { newId } from '../../kit/ids.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import {
  ServiceLedger,
  type LedgerChanges,
  type StoredProcess,
  type StoredSeries,
  type StoredTotals,
} from './ledger.js';

/** What of a service's counters is on this machine's disk: only that may be told to the center. */
export interface Durable {
  readonly service: string;
  readonly uid: string;
  readonly startedMs: number;
  readonly definitions: readonly SeriesDefinition[];
  readonly baseline: readonly number[];
  readonly values: readonly number[];
  readonly times: readonly number[];
}

interface Entry {
  readonly ledger: ServiceLedger;
  readonly saver: Saver;
  durable: Durable | undefined;
}

/**
 * The counters of the machine's services, on disk. Bounded by SERIES_PER_SERVICE_MAX and PROCESSES_PER_SERVICE_MAX per service
 * however long the center is away, since it holds sums and not events.
 *
 * Documents: `counter/series/SERVICE`, `counter/totals/SERVICE`, `counter/process/UID`. A total and the values seen of a process
 * are stored in one batch, so that after a crash either both have grown or none.
 */
export class CounterSpool {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #series: Documents<StoredSeries>;
  readonly #totals: Documents<StoredTotals>;
  readonly #processes: Documents<StoredProcess>;
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<() => void>();
  #refusedPoints = 0;

  private constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#series = new Documents<StoredSeries>(store, 'counter/series/');
    this.#totals = new Documents<StoredTotals>(store, 'counter/totals/');
    this.#processes = new Documents<StoredProcess>(store, 'counter/process/');
  }

  /** @throws as Store.range */
  static async open(store: Store, clock: Clock): Promise<CounterSpool> {
    const spool = new CounterSpool(store, clock);
    for await (const { id, value } of spool.#series.list()) {
      const totals = await spool.#totals.get(id);
      const entry = spool.#add(new ServiceLedger(id, value, totals?.value ?? { values: [], times: [] }));
      entry.durable = { service: id, ...value, ...(totals?.value ?? { values: [], times: [] }) };
    }
    for await (const { id, value } of spool.#processes.list()) {
      spool.#entries.get(value.service)?.ledger.restore(id, value, clock.monotonic());
    }
    return spool;
  }

  /** Points refused since the agent started. */
  get refusedPoints(): number {
    return this.#refusedPoints;
  }

  /**
   * Takes a batch of a service's process; resolves once it is durable, with the points that were not taken.
   * @throws precondition PROCESS_FORGOTTEN; exhausted TOO_MANY_PROCESSES; as Store.write
   */
  async report(service: string, batch: Batch): Promise<PointRefusal[]> {
    const entry = this.#entries.get(service) ?? this.#create(service);
    const refusals = entry.ledger.apply(batch, this.#clock.monotonic());
    this.#refusedPoints += refusals.length;
    await entry.saver.save();
    return refusals;
  }

  /** Of every service, what is durable. */
  durable(): Durable[] {
    return [...this.#entries.values()].flatMap(({ durable }) => (durable ? [durable] : []));
  }

  /** Calls `listener` after something became durable. Returns how to stop. */
  onDurable(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * The center has seen more of this service than this machine remembers: its data directory was put back to an older state. Goes on
   * under a new name, counted from `baseline` on. Resolves once durable.
   */
  async rename(service: string, baseline: readonly number[]): Promise<void> {
    const entry = this.#entries.get(service);
    if (!entry) return;
    entry.ledger.rename(newId('c'), this.#clock.now(), baseline);
    await entry.saver.save();
  }

  #create(service: string): Entry {
    const series = { uid: newId('c'), startedMs: this.#clock.now(), definitions: [], baseline: [] };
    return this.#add(new ServiceLedger(service, series));
  }

  #add(ledger: ServiceLedger): Entry {
    const entry: Entry = { ledger, saver: new Saver(() => this.#save(entry)), durable: undefined };
    this.#entries.set(ledger.service, entry);
    return entry;
  }

  async #save(entry: Entry): Promise<void> {
    const { ledger } = entry;
    const changes = ledger.takeChanges();
    const definitions = changes.series?.definitions ?? entry.durable?.definitions ?? [];
    const durable = { service: ledger.service, ...ledger.identity, definitions, ...changes.totals };
    try {
      await this.#store.write(this.#mutations(ledger.service, changes));
    } catch (error) {
      ledger.keepChanges(changes);
      throw error;
    }
    entry.durable = durable;
    for (const listener of this.#listeners) listener();
  }

  #mutations(service: string, { series, totals, processes, forgotten }: LedgerChanges) {
    return [
      ...(series ? [this.#series.putting(service, series)] : []),
      this.#totals.putting(service, totals),
      ...[...processes].map(([uid, process]) => this.#processes.putting(uid, process)),
      ...forgotten.map((uid) => this.#processes.deleting(uid)),
    ];
  }
}
