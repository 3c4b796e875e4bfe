import { defaultRegistry } from './default.js';
import { Metric } from './metric.js';
import type { FamilyOptions, Registry, Series } from './registry.js';

/** Counts one series. */
export class CounterHandle {
  readonly #series: Series;
  readonly #registry: Registry;

  /** Made by Counter. */
  constructor(series: Series, registry: Registry) {
    this.#series = series;
    this.#registry = registry;
  }

  /** Adds `by`, a finite number that is not negative. Never throws: anything else is left out, and said once. */
  increment(by = 1): void {
    if (by >= 0 && by < Infinity) this.#series.value += by;
    else this.#misused(by);
  }

  #misused(by: number): void {
    const { name } = this.#series.definition;
    this.#registry.misused(
      name,
      `counter "${name}" was incremented by ${by}, which is left out: use numbers from 0 up, or a Gauge`,
    );
  }
}

/**
 * A number that only grows. Counting is an addition in memory; a background reporter hands the sums to the machine's agent.
 *
 *     const requests = new Counter('requests', { labels: ['route'] });
 *     const home = requests.with({ route: '/' });
 *     home.increment();
 */
export class Counter<L extends string = never> extends Metric<L, CounterHandle> {
  /**
   * Counters of the same name in a process are one counter.
   * @param registry default: the process's own
   * @throws invalid when the name or a label's name cannot be one, or the name is taken by another kind
   */
  constructor(name: string, options: FamilyOptions<L> = {}, registry: Registry = defaultRegistry) {
    super(registry.family(name, 'counter', options), (series) => new CounterHandle(series, registry));
    // A counter without labels is there from the start, with 0.
    if ((options.labels ?? []).length === 0) this.plain();
  }

  /** Counts the series without labels. */
  increment(by = 1): void {
    this.plain().increment(by);
  }
}
