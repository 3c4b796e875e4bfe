import { MusterError } from '../kit/errors.js';
import { wrongLabelName, wrongName, LABELS_MAX, LABEL_VALUE_MAX, type CounterKind } from './series.js';
import type { SeriesDefinition } from './series.js';

export interface FamilyOptions<L extends string> {
  /** What is counted, for people. */
  readonly help?: string;
  /** For example `bytes` or `seconds`. */
  readonly unit?: string;
  /** Names of the labels that with() binds. */
  readonly labels?: readonly L[];
}

/** A value per label. Numbers become text. */
export type LabelValues<L extends string = string> = Readonly<Record<L, string | number>>;

/** A series of this process. `value` is changed by its handle alone. */
export class Series {
  readonly definition: SeriesDefinition;
  value = 0;

  constructor(definition: SeriesDefinition) {
    this.definition = definition;
  }
}

/** Sets of label values a counter tells apart; beyond it, values of the label with the most of them become `__other__`. */
export const HANDLES_MAX = 200;
/** Further sets with `__other__` in them; beyond it, the label with the next most values becomes `__other__` too. */
const OTHER_HANDLES_MAX = 50;
export const OTHER = '__other__';

/** A counter or gauge by name, with all its series. */
export class Family {
  readonly name: string;
  readonly kind: CounterKind;
  readonly labels: readonly string[];
  readonly #help: string;
  readonly #unit: string;
  readonly #series = new Map<string, Series>();
  /** Values seen of each label, of sets that are told apart: at most HANDLES_MAX each. */
  readonly #seen: readonly Set<string>[];
  #told = 0;

  /** @throws invalid */
  constructor(name: string, kind: CounterKind, options: FamilyOptions<string>) {
    this.name = name;
    this.kind = kind;
    this.labels = [...(options.labels ?? [])];
    this.#help = options.help ?? '';
    this.#unit = options.unit ?? '';
    this.#seen = this.labels.map(() => new Set());
    const wrong = wrongName(name) ?? this.labels.map(wrongLabelName).find((found) => found !== undefined);
    if (wrong) throw new MusterError('invalid', wrong.message, { reason: wrong.reason });
    if (this.labels.length > LABELS_MAX || new Set(this.labels).size < this.labels.length) {
      throw new MusterError('invalid', `counter "${name}" has a label twice, or more than ${LABELS_MAX}`);
    }
  }

  series(): Iterable<Series> {
    return this.#series.values();
  }

  /** The series without labels. */
  plain(): Series {
    return this.#at([], []);
  }

  /**
   * The series of a set of label values; the same object for the same set.
   * @throws invalid when a label is missing or unknown
   */
  with(given: LabelValues): Series {
    const values = this.labels.map((label) => this.#valueOf(given, label));
    if (Object.keys(given).length !== this.labels.length) this.#refuseLabels();
    const known = this.#series.get(JSON.stringify(values));
    if (known) return known;
    if (this.#told < HANDLES_MAX) {
      this.#told += 1;
      values.forEach((value, place) => this.#seen[place]?.add(value));
      return this.#at(this.labels, values);
    }
    return this.#at(this.labels, this.#withOther(values));
  }

  #valueOf(given: LabelValues, label: string): string {
    const value = Object.hasOwn(given, label) ? given[label] : undefined;
    if (value === undefined) this.#refuseLabels();
    return String(value).slice(0, LABEL_VALUE_MAX);
  }

  #refuseLabels(): never {
    throw new MusterError(
      'invalid',
      `"${this.name}" has the labels ${this.labels.join(', ') || '(none)'}: give each of them a value`,
    );
  }

  /** The values with those of the exploding label replaced, and of further labels while too many sets would be told apart. */
  #withOther(values: readonly string[]): string[] {
    const exploding = this.#seen.map((seen, place) => ({ place, count: seen.size })).sort((a, b) => b.count - a.count);
    const replaced = [...values];
    for (const { place } of exploding) {
      replaced[place] = OTHER;
      if (this.#series.has(JSON.stringify(replaced)) || this.#series.size < HANDLES_MAX + OTHER_HANDLES_MAX) break;
    }
    return replaced;
  }

  #at(labels: readonly string[], values: readonly string[]): Series {
    const key = JSON.stringify(values);
    const known = this.#series.get(key);
    if (known) return known;
    const pairs = labels.map((label, place) => [label, values[place] ?? ''] as const);
    const { name, kind } = this;
    const series = new Series({ name, kind, help: this.#help, unit: this.#unit, labels: Object.fromEntries(pairs) });
    this.#series.set(key, series);
    return series;
  }
}

/** All counters and gauges of a process. */
export class Registry {
  readonly #families = new Map<string, Family>();
  readonly #warned = new Set<string>();
  #onUse: (() => void) | undefined;
  #warn: (message: string) => void = () => undefined;
  #errors: Series | undefined;

  /** Calls `start` once something is counted: at once where something is, otherwise with the first counter. */
  onFirstUse(start: () => void): void {
    if (this.#families.size > 0) start();
    else this.#onUse = start;
  }

  /** Where to say what the program does wrong; once for each counter. */
  onMisuse(warn: (message: string) => void): void {
    this.#warn = warn;
  }

  /**
   * The counter or gauge of that name: a second one of the same name shares its series.
   * @throws invalid when the name cannot be one, or is already another kind or has other labels
   */
  family(name: string, kind: CounterKind, options: FamilyOptions<string>): Family {
    const known = this.#families.get(name);
    if (!known) {
      const family = new Family(name, kind, options);
      this.#families.set(name, family);
      const start = this.#onUse;
      this.#onUse = undefined;
      start?.();
      return family;
    }
    const labels = options.labels ?? [];
    if (known.kind !== kind || known.labels.join() !== labels.join()) {
      const was = `a ${known.kind} with labels (${known.labels.join(', ')})`;
      throw new MusterError('invalid', `"${name}" is already ${was}: use the same, or choose another name`);
    }
    return known;
  }

  /** A value that cannot be counted is left out, said once for each name, and counted itself. */
  misused(name: string, message: string): void {
    this.#errors ??= this.family('muster_counter_errors', 'counter', {
      help: 'Values that could not be counted: negative, or not finite numbers',
    }).plain();
    this.#errors.value += 1;
    if (this.#warned.has(name)) return;
    this.#warned.add(name);
    this.#warn(message);
  }

  *series(): Iterable<Series> {
    for (const family of this.#families.values()) yield* family.series();
  }
}
