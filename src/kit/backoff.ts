import type { Random } from './random.js';

export interface BackoffOptions {
  /** Upper bound of the first delay, milliseconds. */
  readonly initialMs: number;
  /** Upper bound of any delay, milliseconds. */
  readonly maxMs: number;
  /** Growth of the upper bound per attempt. */
  readonly multiplier: number;
}

/**
 * Exponential backoff with full jitter: each delay is uniform in [0, bound), and the bound grows by
 * `multiplier` up to `maxMs`. Jitter from the first try, so that a fleet that lost its center together does not return together.
 * Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: Random;
  #attempt = 0;

  constructor(options: BackoffOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  /** Attempts since the last reset. */
  get attempt(): number {
    return this.#attempt;
  }

  /** The next delay in milliseconds. */
  next(): number {
    const { initialMs, maxMs, multiplier } = this.#options;
    const boundMs = Math.min(maxMs, initialMs * multiplier ** this.#attempt);
    this.#attempt += 1;
    return this.#random.next() * boundMs;
  }

  /** Call after a success. */
  reset(): void {
    this.#attempt = 0;
  }
}
