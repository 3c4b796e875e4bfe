import type { Family, LabelValues, Series } from './registry.js';

/** What counters and gauges share: one handle per series, labels bound by name. */
export class Metric<L extends string, H> {
  readonly #family: Family;
  readonly #make: (series: Series) => H;
  readonly #handles = new Map<Series, H>();
  #plain: H | undefined;

  protected constructor(family: Family, make: (series: Series) => H) {
    this.#family = family;
    this.#make = make;
  }

  /**
   * Binds the labels; keep the handle where changes are frequent. Beyond HANDLES_MAX sets of values, those of the label with the
   * most different ones become `__other__`.
   * @throws invalid when a label is missing or unknown
   */
  with(labels: LabelValues<L>): H {
    return this.#handle(this.#family.with(labels));
  }

  /** The series without labels. */
  protected plain(): H {
    this.#plain ??= this.#handle(this.#family.plain());
    return this.#plain;
  }

  #handle(series: Series): H {
    const known = this.#handles.get(series);
    if (known) return known;
    const handle = this.#make(series);
    this.#handles.set(series, handle);
    return handle;
  }
}
