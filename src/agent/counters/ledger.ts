import {
  SERIES_PER_SERVICE_MAX,
  wrongStep,
  wrongValue,
  type Batch,
  type Point,
  type PointRefusal,
  type Refusal,
  type SeriesDefinition,
} from '../../counter/series.js';
import { SeriesTable } from '../../counter/table.js';
import { MusterError } from '../../kit/errors.js';

/** Processes of one service that are remembered. */
export const PROCESSES_PER_SERVICE_MAX = 256;
/** A process that said it has ended is forgotten after this, milliseconds: its last batch may be sent again meanwhile. */
const ENDED_KEPT_MS = 10 * 60_000;
/** A silent process is forgotten after this, milliseconds. */
const SILENT_KEPT_MS = 24 * 3_600_000;
/** Where there is no room, the process that is silent longest is forgotten if it is silent for this, milliseconds. */
const SILENT_YIELDS_MS = 60_000;
/** The same for one that said it has ended. */
const ENDED_YIELDS_MS = 10_000;

/** Series of a service, as stored: they change rarely. */
export interface StoredSeries {
  /** Name of this ledger at the center: new when the data directory is new. */
  readonly uid: string;
  readonly startedMs: number;
  readonly definitions: readonly SeriesDefinition[];
  /** Totals when `uid` began: what the center is told is counted from there. */
  readonly baseline: readonly number[];
}

/** Newest values, as stored; places are those of the definitions. */
export interface StoredTotals {
  readonly values: readonly number[];
  /** When each last changed, wall-clock milliseconds. */
  readonly times: readonly number[];
}

/** What is known of one process, as stored. */
export interface StoredProcess {
  readonly service: string;
  readonly startedMs: number;
  readonly ended: boolean;
  /** Newest cumulative value of each series it has; null where it has none. */
  readonly seen: readonly (number | null)[];
}

interface Process {
  readonly startedMs: number;
  /** When it last reported, monotonic: a process with unacknowledged values is never silent for long while time passes. */
  lastMs: number;
  ended: boolean;
  readonly seen: (number | null)[];
}

/** What has changed since the last call of takeChanges(). */
export interface LedgerChanges {
  readonly series: StoredSeries | undefined;
  readonly totals: StoredTotals;
  readonly processes: ReadonlyMap<string, StoredProcess>;
  readonly forgotten: readonly string[];
}

/**
 * What one service counts on this machine: the sum over all processes it ever had.
 *
 * Each process sends cumulative values; the growth since the value seen last is added to the total, in the same stored batch that
 * remembers the value. So a batch sent again adds nothing, and the end of a process needs no bookkeeping: it is merely forgotten
 * some time later. A process that comes back after it was forgotten is told so, and goes on under a new uid.
 *
 * Invariant: totals only grow (counters); total = sum over processes, forgotten ones included, of what was seen of them.
 */
export class ServiceLedger {
  readonly service: string;
  readonly #table: SeriesTable;
  readonly #totals: number[];
  readonly #times: number[];
  readonly #processes = new Map<string, Process>();
  readonly #changed = new Set<string>();
  readonly #forgotten = new Set<string>();
  #series: Pick<StoredSeries, 'uid' | 'startedMs' | 'baseline'>;
  #seriesChanged: boolean;

  constructor(service: string, series: StoredSeries, totals?: StoredTotals) {
    this.service = service;
    this.#series = series;
    this.#table = new SeriesTable(series.definitions, SERIES_PER_SERVICE_MAX);
    this.#totals = [...(totals?.values ?? [])];
    this.#times = [...(totals?.times ?? [])];
    this.#seriesChanged = totals === undefined;
  }

  /** A process as it was stored. Its silence is counted from `nowMs`, monotonic. */
  restore(uid: string, { startedMs, ended, seen }: StoredProcess, nowMs: number): void {
    this.#processes.set(uid, { startedMs, lastMs: nowMs, ended, seen: [...seen] });
  }

  /**
   * Takes a batch into memory and answers which points it does not take. `nowMs` is monotonic.
   * @throws precondition with reason PROCESS_FORGOTTEN; exhausted when too many processes count at once
   */
  apply(batch: Batch, nowMs: number): PointRefusal[] {
    const process = this.#processOf(batch, nowMs);
    process.lastMs = nowMs;
    process.ended = batch.final;
    this.#changed.add(batch.uid);
    return batch.points.flatMap((point, index) => {
      const refusal = this.#take(process, point);
      return refusal ? [{ index, ...refusal }] : [];
    });
  }

  /** What must be stored now. After a failed write call keepChanges() with it. */
  takeChanges(): LedgerChanges {
    const changes: LedgerChanges = {
      series: this.#seriesChanged ? { ...this.#series, definitions: [...this.#table.definitions] } : undefined,
      totals: { values: [...this.#totals], times: [...this.#times] },
      processes: new Map([...this.#changed].flatMap((uid) => this.#storedProcess(uid))),
      forgotten: [...this.#forgotten],
    };
    this.#seriesChanged = false;
    this.#changed.clear();
    this.#forgotten.clear();
    return changes;
  }

  /** The write of these changes failed: they are still to be stored. */
  keepChanges(changes: LedgerChanges): void {
    this.#seriesChanged ||= changes.series !== undefined;
    for (const uid of changes.processes.keys()) if (this.#processes.has(uid)) this.#changed.add(uid);
    for (const uid of changes.forgotten) if (!this.#processes.has(uid)) this.#forgotten.add(uid);
  }

  /** The name the center knows this ledger by. */
  get identity(): Pick<StoredSeries, 'uid' | 'startedMs' | 'baseline'> {
    return this.#series;
  }

  get definitions(): readonly SeriesDefinition[] {
    return this.#table.definitions;
  }

  /**
   * Goes on under a new name at the center, which counts from `baseline` on: for a ledger that was restored to an older state than
   * the center has seen.
   */
  rename(uid: string, startedMs: number, baseline: readonly number[]): void {
    this.#series = { uid, startedMs, baseline };
    this.#seriesChanged = true;
  }

  #take(process: Process, { definition, value, timeMs }: Point): Refusal | undefined {
    const wrong = wrongValue({ definition, value, timeMs });
    if (wrong) return wrong;
    const before = this.#table.definitions.length;
    const place = this.#table.place(definition);
    if (typeof place !== 'number') return place;
    if (this.#table.definitions.length > before) this.#seriesChanged = true;
    const seen = process.seen[place] ?? null;
    const total = (this.#totals[place] ?? 0) + (value - (seen ?? 0));
    const wrongHere = wrongStep({ definition, value, timeMs }, seen ?? 0, total);
    if (wrongHere) return wrongHere;
    while (process.seen.length < place) process.seen.push(null);
    process.seen[place] = value;
    this.#set(place, { definition, value, timeMs }, seen);
    return undefined;
  }

  #set(place: number, { definition, value, timeMs }: Point, seen: number | null): void {
    const isNew = this.#totals[place] === undefined;
    const total = this.#totals[place] ?? 0;
    const changed = isNew || value !== seen;
    if (definition.kind === 'counter') this.#totals[place] = total + (value - (seen ?? 0));
    else if (isNew || timeMs >= (this.#times[place] ?? 0)) this.#totals[place] = value;
    if (changed) this.#times[place] = Math.max(timeMs, this.#times[place] ?? 0);
  }

  #processOf({ uid, resumed, startedMs }: Batch, nowMs: number): Process {
    const known = this.#processes.get(uid);
    if (known) return known;
    if (resumed) {
      throw new MusterError('precondition', `process ${uid} is not known here: go on under a new uid`, {
        reason: 'PROCESS_FORGOTTEN',
      });
    }
    this.#makeRoom(nowMs);
    const process: Process = { startedMs, lastMs: nowMs, ended: false, seen: [] };
    this.#processes.set(uid, process);
    this.#forgotten.delete(uid);
    return process;
  }

  #makeRoom(nowMs: number): void {
    for (const [uid, { lastMs, ended }] of this.#processes) {
      if (nowMs - lastMs > (ended ? ENDED_KEPT_MS : SILENT_KEPT_MS)) this.#forget(uid);
    }
    if (this.#processes.size < PROCESSES_PER_SERVICE_MAX) return;
    const [silent] = [...this.#processes].sort(([, a], [, b]) => a.lastMs - b.lastMs);
    if (silent && nowMs - silent[1].lastMs > (silent[1].ended ? ENDED_YIELDS_MS : SILENT_YIELDS_MS)) {
      this.#forget(silent[0]);
      return;
    }
    throw new MusterError(
      'exhausted',
      `${this.service} has ${PROCESSES_PER_SERVICE_MAX} processes that count at once, which is the limit: run fewer, or count in one of them`,
      { reason: 'TOO_MANY_PROCESSES', retryAfterMs: SILENT_YIELDS_MS },
    );
  }

  #forget(uid: string): void {
    this.#processes.delete(uid);
    this.#changed.delete(uid);
    this.#forgotten.add(uid);
  }

  #storedProcess(uid: string): [string, StoredProcess][] {
    const process = this.#processes.get(uid);
    if (!process) return [];
    const { startedMs, ended, seen } = process;
    return [[uid, { service: this.service, startedMs, ended, seen: [...seen] }]];
  }
}
