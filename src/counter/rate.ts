/** Rates are taken over this. */
export const RATE_WINDOW_MS = 60_000;
/** Samples closer together than this replace each other, so that a window holds at most RATE_WINDOW_MS / SAMPLE_SPACING_MS of them. */
const SAMPLE_SPACING_MS = 5_000;

interface Sample {
  readonly atMs: number;
  readonly values: Float64Array;
}

/** The recent past of a table of values, in memory alone: what rates are taken from. Times are monotonic milliseconds. */
export class RateWindow {
  /** In order of time; the first may be older than the window, being the value at its beginning. */
  #samples: Sample[] = [];

  /** Notes what the values are now. */
  note(atMs: number, values: readonly number[]): void {
    const last = this.#samples.at(-1);
    const before = this.#samples.at(-2);
    const sample = { atMs, values: Float64Array.from(values) };
    if (last && before && last.atMs - before.atMs < SAMPLE_SPACING_MS) this.#samples.pop();
    this.#samples.push(sample);
    while ((this.#samples[1]?.atMs ?? Infinity) <= atMs - RATE_WINDOW_MS) this.#samples.shift();
  }

  /** Growth per second of the value at `place` over the last minute; undefined before two samples of it are known. */
  perSecond(nowMs: number, place: number): number | undefined {
    const first = this.#firstOf(nowMs, place);
    const last = this.#samples.at(-1);
    if (!first || !last || first === last) return this.#settled(nowMs, place);
    const fromMs = Math.max(first.atMs, nowMs - RATE_WINDOW_MS);
    if (nowMs <= fromMs) return undefined;
    const grown = (last.values[place] ?? 0) - (first.values[place] ?? 0);
    return (grown * 1000) / (nowMs - fromMs);
  }

  /** The newest sample at or before the window's beginning that knows the place; otherwise the oldest that does. */
  #firstOf(nowMs: number, place: number): Sample | undefined {
    let first: Sample | undefined;
    for (const sample of this.#samples) {
      if (first && sample.atMs > nowMs - RATE_WINDOW_MS) break;
      if (place < sample.values.length) first = sample;
    }
    return first;
  }

  /** Nothing new for a whole window: no growth. */
  #settled(nowMs: number, place: number): number | undefined {
    const last = this.#samples.at(-1);
    return last && place < last.values.length && last.atMs <= nowMs - RATE_WINDOW_MS ? 0 : undefined;
  }
}
