import {
  HELP_MAX,
  seriesKey,
  UNIT_MAX,
  wrongDefinition,
  type CounterKind,
  type Refusal,
  type SeriesDefinition,
} from './series.js';

/**
 * Series in the order they were first seen; a series keeps its place for ever, so that arrays of values can be stored beside the
 * table. Bounded: at `seriesMax` the newest are refused.
 */
export class SeriesTable {
  readonly #seriesMax: number;
  readonly #definitions: SeriesDefinition[] = [];
  readonly #places = new Map<string, number>();
  readonly #kinds = new Map<string, CounterKind>();

  constructor(definitions: readonly SeriesDefinition[], seriesMax: number) {
    this.#seriesMax = seriesMax;
    for (const definition of definitions) this.#add(definition);
  }

  get definitions(): readonly SeriesDefinition[] {
    return this.#definitions;
  }

  /** Whether the series has its place already. */
  has(definition: SeriesDefinition): boolean {
    return this.#places.has(seriesKey(definition));
  }

  /** The place of a series, which is added where it is new; or why it cannot be. */
  place(definition: SeriesDefinition): number | Refusal {
    const known = this.#places.get(seriesKey(definition));
    if (known !== undefined) return this.#wrongKind(definition) ?? known;
    const wrong = wrongDefinition(definition) ?? this.#wrongKind(definition);
    if (wrong) return wrong;
    if (this.#definitions.length >= this.#seriesMax) {
      return {
        reason: 'TOO_MANY_SERIES',
        message: `"${definition.name}" is not counted: this service has ${this.#seriesMax} series on this machine already. Use fewer labels or fewer values of them`,
      };
    }
    return this.#add(definition);
  }

  #wrongKind({ name, kind }: SeriesDefinition): Refusal | undefined {
    const known = this.#kinds.get(name);
    if (known === undefined || known === kind) return undefined;
    return {
      reason: 'KIND_MISMATCH',
      message: `"${name}" is a ${known}, it cannot be a ${kind} too: choose another name`,
    };
  }

  #add(definition: SeriesDefinition): number {
    const place = this.#definitions.length;
    const kept = { ...definition, help: definition.help.slice(0, HELP_MAX), unit: definition.unit.slice(0, UNIT_MAX) };
    this.#definitions.push(kept);
    this.#places.set(seriesKey(definition), place);
    this.#kinds.set(definition.name, definition.kind);
    return place;
  }
}
