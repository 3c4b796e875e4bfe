import type { Clock } from '../../kit/clock.js';

/**
 * Stored times, which are the wall clock's, as times of a clock that does not jump: the wall clock of the beginning, carried on by the
 * monotonic one. A stored time is read as it stood to the wall clock when it was first seen here, so a later jump hurries and delays
 * nothing.
 */
export class SteadyTimes {
  readonly #clock: Clock;
  readonly #anchorMs: number;
  readonly #seen = new Map<string, { readonly wallMs: number; readonly steadyMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#anchorMs = clock.now() - clock.monotonic();
  }

  now(): number {
    return this.#anchorMs + this.#clock.monotonic();
  }

  /** `key` says what the time is of. */
  of(key: string, wallMs: number | undefined): number | undefined {
    if (wallMs === undefined) return undefined;
    const seen = this.#seen.get(key);
    if (seen?.wallMs === wallMs) return seen.steadyMs;
    const steadyMs = wallMs - this.#ahead();
    this.#seen.set(key, { wallMs, steadyMs });
    return steadyMs;
  }

  /** What to store for a steady time. */
  toWall(steadyMs: number): number {
    return Math.round(steadyMs + this.#ahead());
  }

  /** So far the wall clock has jumped since the beginning. */
  #ahead(): number {
    return this.#clock.now() - this.now();
  }
}
