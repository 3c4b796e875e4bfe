import { RateWindow } from '../../counter/rate.js';
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

/** Earlier names of a machine's ledger that are remembered, so that one never counts again. */
const RETIRED_MAX = 16;

/** As stored: changes with new series. Places of values are those of the definitions. */
export interface StoredDefinitions {
  readonly definitions: readonly SeriesDefinition[];
}

/** As stored with every batch. */
export interface StoredValues {
  /** Who reports: the machine's ledger of this service. */
  readonly uid: string;
  /** Who reported before, and never will again. */
  readonly retired: readonly string[];
  /** Sums of those before. */
  readonly base: readonly number[];
  /** Newest cumulative values of `uid`; null where it has not reported the series. */
  readonly values: readonly (number | null)[];
  /** When each last changed, wall-clock milliseconds. */
  readonly times: readonly number[];
}

/** One series, as it is asked for. */
export interface SeriesReading {
  readonly definition: SeriesDefinition;
  readonly value: number;
  readonly perSecond: number | undefined;
  readonly updatedMs: number;
}

/**
 * What one machine says of one service. Of a counter, total = base + value, where value is the newest cumulative value of the
 * reporter and base the sum of the reporters before it. A new reporter folds the old one's values into base, once: the old name is
 * retired in the same stored document.
 */
export class MachineLedger {
  readonly #table: SeriesTable;
  readonly #window = new RateWindow();
  #state: {
    uid: string;
    retired: readonly string[];
    base: readonly number[];
    values: (number | null)[];
    times: number[];
  };
  #definitionsChanged = false;

  constructor(definitions: readonly SeriesDefinition[] = [], stored?: StoredValues) {
    this.#table = new SeriesTable(definitions, SERIES_PER_SERVICE_MAX);
    const { uid = '', retired = [], base = [], values = [], times = [] } = stored ?? {};
    this.#state = { uid, retired, base, values: [...values], times: [...times] };
  }

  /** Number of series. */
  get size(): number {
    return this.#table.definitions.length;
  }

  /**
   * Takes a batch into memory, with at most `room` new series, and answers which points it does not take. `nowMs` is monotonic.
   * @throws precondition with reason PROCESS_RETIRED
   */
  apply(batch: Batch, nowMs: number, room: number): PointRefusal[] {
    if (batch.uid !== this.#state.uid) this.#succeed(batch.uid);
    const sizeMax = this.size + room;
    const refusals = batch.points.flatMap((point, index) => {
      const refusal = this.#take(point, sizeMax);
      return refusal ? [{ index, ...refusal }] : [];
    });
    this.#window.note(nowMs, this.#totals());
    return refusals;
  }

  /** What must be stored now. After a failed write call keepDefinitions() where there were definitions. */
  takeChanges(): { readonly definitions: StoredDefinitions | undefined; readonly values: StoredValues } {
    const { definitions, values } = this.#stored();
    const changed = this.#definitionsChanged;
    this.#definitionsChanged = false;
    return { definitions: changed ? { definitions: [...definitions] } : undefined, values };
  }

  /** The write of the definitions failed: they are still to be stored. */
  keepDefinitions(): void {
    this.#definitionsChanged = true;
  }

  /** All series, or those of one counter. `nowMs` is monotonic. */
  *read(nowMs: number, name?: string): Generator<SeriesReading> {
    for (const [place, definition] of this.#table.definitions.entries()) {
      if (name !== undefined && definition.name !== name) continue;
      const perSecond = definition.kind === 'counter' ? this.#window.perSecond(nowMs, place) : undefined;
      yield { definition, value: this.#total(place), perSecond, updatedMs: this.#state.times[place] ?? 0 };
    }
  }

  #succeed(uid: string): void {
    const { uid: before, retired, times } = this.#state;
    if (retired.includes(uid)) {
      throw new MusterError('precondition', `${uid} was replaced by a newer reporter: report under a new name`, {
        reason: 'PROCESS_RETIRED',
      });
    }
    this.#state = {
      uid,
      retired: before === '' ? [] : [...retired, before].slice(-RETIRED_MAX),
      base: this.#totals(),
      values: [],
      times,
    };
  }

  /** A copy with the totals of another ledger's counters added; gauges end with who reported them. Undefined without room for all. */
  with(other: MachineLedger): MachineLedger | undefined {
    const { definitions, values } = this.#stored();
    const sum = new MachineLedger(definitions, values);
    const base = [...values.base];
    for (const [definition, total, timeMs] of other.#counters()) {
      const place = sum.#table.place(definition);
      if (typeof place !== 'number') return undefined;
      while (base.length <= place) base.push(0);
      base[place] = Math.min((base[place] ?? 0) + total, Number.MAX_VALUE);
      sum.#state.times[place] = Math.max(timeMs, sum.#state.times[place] ?? 0);
    }
    sum.#state.base = base;
    sum.#definitionsChanged = sum.size > this.size;
    return sum;
  }

  #stored(): { readonly definitions: readonly SeriesDefinition[]; readonly values: StoredValues } {
    const { uid, retired, base, values, times } = this.#state;
    const copied = { uid, retired, base: [...base], values: [...values], times: [...times] };
    return { definitions: this.#table.definitions, values: copied };
  }

  #counters(): [definition: SeriesDefinition, total: number, timeMs: number][] {
    return [...this.#table.definitions.entries()].flatMap(([place, definition]) =>
      definition.kind === 'counter' ? [[definition, this.#total(place), this.#state.times[place] ?? 0]] : [],
    );
  }

  #take(point: Point, sizeMax: number): Refusal | undefined {
    const { definition, value, timeMs } = point;
    const wrong = wrongValue(point);
    if (wrong) return wrong;
    const place = this.#place(definition, sizeMax);
    if (typeof place !== 'number') return place;
    const { values, times } = this.#state;
    const current = values[place] ?? 0;
    const wrongHere = wrongStep(point, current, (this.#state.base[place] ?? 0) + value);
    if (wrongHere) return wrongHere;
    while (values.length < place) values.push(null);
    values[place] = value;
    times[place] = Math.max(timeMs, times[place] ?? 0);
    return undefined;
  }

  #place(definition: SeriesDefinition, sizeMax: number): number | Refusal {
    if (this.size >= sizeMax && !this.#table.has(definition)) return noRoom(definition.name);
    const before = this.size;
    const place = this.#table.place(definition);
    if (this.size > before) this.#definitionsChanged = true;
    return place;
  }

  /** Counters are summed; of a gauge the newest value counts. */
  #total(place: number): number {
    const base = this.#state.base[place] ?? 0;
    const value = this.#state.values[place] ?? null;
    if (this.#table.definitions[place]?.kind === 'gauge') return value ?? base;
    return base + (value ?? 0);
  }

  #totals(): number[] {
    return this.#table.definitions.map((_, place) => this.#total(place));
  }
}

function noRoom(name: string): Refusal {
  const message = `"${name}" is not counted: the center holds as many series as it can. Use fewer labels or fewer values of them, or remove machines that are gone`;
  return { reason: 'TOO_MANY_SERIES', message };
}
