import type { Clock } from '../../../kit/clock.js';
import { SEARCH_PROBLEMS_MAX, type SearchLimit, type SearchReport } from '../../../model/log-search.js';

/** Adds up what a search has looked at. */
export class Progress {
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #limits = new Set<SearchLimit>();
  readonly #problems: string[] = [];
  #firstMs: number | undefined;
  #lastMs: number | undefined;
  files = 0;
  filesTotal = 0;
  bytes = 0;
  hits = 0;
  cpuMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startedMs = clock.monotonic();
  }

  /** Something to be known; with a limit, something that was not seen. */
  say(problem: string, limit?: SearchLimit): void {
    if (limit) this.#limits.add(limit);
    if (this.#problems.length < SEARCH_PROBLEMS_MAX && !this.#problems.includes(problem)) this.#problems.push(problem);
  }

  cut(limit: SearchLimit): void {
    this.#limits.add(limit);
  }

  sawTime(ms: number | undefined): void {
    if (ms === undefined) return;
    this.#firstMs = Math.min(this.#firstMs ?? ms, ms);
    this.#lastMs = Math.max(this.#lastMs ?? ms, ms);
  }

  report(): SearchReport {
    const { files, filesTotal, bytes, hits } = this;
    return {
      files,
      filesTotal,
      bytes,
      hits,
      firstMs: this.#firstMs,
      lastMs: this.#lastMs,
      limits: [...this.#limits],
      problems: [...this.#problems],
      tookMs: Math.round(this.#clock.monotonic() - this.#startedMs),
    };
  }
}
