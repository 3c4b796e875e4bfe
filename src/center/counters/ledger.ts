import { RateWindow } from '../../counter/rate.js';
import {
  decreasing,
  SERIES_PER_SERVICE_MAX,
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
   * Takes a batch into memory and answers which points it does not take. `nowMs` is monotonic.
   * @throws precondition with reason PROCESS_RETIRED
   */
  apply(batch: Batch, nowMs: number): PointRefusal[] {
    if (batch.uid !== this.#state.uid) this.#succeed(batch.uid);
    const refusals = batch.points.flatMap((point, index) => {
      const refusal = this.#take(point);
      return refusal ? [{ index, ...refusal }] : [];
    });
    this.#window.note(nowMs, this.#totals());
    return refusals;
  }

  /** What must be stored now. After a failed write call keepDefinitions() where there were definitions. */
  takeChanges(): { readonly definitions: StoredDefinitions | undefined; readonly values: StoredValues } {
    const { uid, retired, base, values, times } = this.#state;
    const definitions = this.#definitionsChanged ? { definitions: [...this.#table.definitions] } : undefined;
    this.#definitionsChanged = false;
    return { definitions, values: { uid, retired, base: [...base], values: [...values], times: [...times] } };
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

  #take(point: Point): Refusal | undefined {
    const { definition, value, timeMs } = point;
    const wrong = wrongValue(point);
    if (wrong) return wrong;
    const before = this.#table.definitions.length;
    const place = this.#table.place(definition);
    if (typeof place !== 'number') return place;
    if (this.#table.definitions.length > before) this.#definitionsChanged = true;
    const { values, times } = this.#state;
    const current = values[place] ?? 0;
    if (definition.kind === 'counter' && value < current) return decreasing(definition.name, current, value);
    while (values.length < place) values.push(null);
    values[place] = value;
    times[place] = Math.max(timeMs, times[place] ?? 0);
    return undefined;
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
