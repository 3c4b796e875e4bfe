import { defaultRegistry } from './default.js';
import { Metric } from './metric.js';
import type { FamilyOptions, Registry, Series } from './registry.js';

/** Sets one series. */
export class GaugeHandle {
  readonly #series: Series;
  readonly #registry: Registry;

  /** Made by Gauge. */
  constructor(series: Series, registry: Registry) {
    this.#series = series;
    this.#registry = registry;
  }

  /** Never throws: a number that is not finite is left out, and said once. */
  set(value: number): void {
    if (Number.isFinite(value)) this.#series.value = value;
    else this.#misused(value);
  }

  /** Adds `by`, which may be negative. */
  add(by: number): void {
    this.set(this.#series.value + by);
  }

  #misused(value: number): void {
    const { name } = this.#series.definition;
    this.#registry.misused(name, `gauge "${name}" was set to ${value}, which is left out: use finite numbers`);
  }
}

/** A value that goes up and down; the newest counts. */
export class Gauge<L extends string = never> extends Metric<L, GaugeHandle> {
  /** As Counter's. */
  constructor(name: string, options: FamilyOptions<L> = {}, registry: Registry = defaultRegistry) {
    super(registry.family(name, 'gauge', options), (series) => new GaugeHandle(series, registry));
  }

  set(value: number): void {
    this.plain().set(value);
  }

  add(by: number): void {
    this.plain().add(by);
  }
}
