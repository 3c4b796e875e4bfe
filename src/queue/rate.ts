import type { Clock } from '../kit/clock.js';

/** Time over which a rate is averaged, milliseconds. */
const WINDOW_MS = 10_000;

/** How many a second, lately: an average that forgets exponentially. */
export class RateMeter {
  readonly #clock: Clock;
  #perSecond = 0;
  #pending = 0;
  #sinceMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sinceMs = clock.monotonic();
  }

  add(count: number): void {
    this.#pending += count;
  }

  get perSecond(): number {
    const nowMs = this.#clock.monotonic();
    const elapsedMs = nowMs - this.#sinceMs;
    if (elapsedMs < 100) return this.#perSecond;
    const weight = Math.exp(-elapsedMs / WINDOW_MS);
    this.#perSecond = this.#perSecond * weight + (this.#pending / elapsedMs) * 1000 * (1 - weight);
    this.#pending = 0;
    this.#sinceMs = nowMs;
    return this.#perSecond;
  }
}
