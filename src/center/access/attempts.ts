import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';

/** Failed attempts one address may make at once, and how fast they are forgiven. */
const BURST = 20;
const FORGIVEN_PER_SECOND = 0.5;
const ADDRESSES_MAX = 10_000;

/**
 * Slows down guessing: counts failed attempts per address as a bucket that leaks. Successes cost nothing, so a fleet that joins at once
 * from behind one address is not held up. At ADDRESSES_MAX the address that failed longest ago is forgotten.
 */
export class Attempts {
  readonly #clock: Clock;
  readonly #failures = new Map<string, { level: number; atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws exhausted, with when to try again, while the address has failed too often */
  assertAllowed(address: string): void {
    const level = this.#levelOf(address);
    if (level < BURST) return;
    const retryAfterMs = Math.ceil(((level - BURST + 1) / FORGIVEN_PER_SECOND) * 1000);
    throw new MusterError(
      'exhausted',
      `too many failed attempts from ${address}: wait ${Math.ceil(retryAfterMs / 1000)} s, then try again`,
      {
        reason: 'TOO_MANY_ATTEMPTS',
        retryAfterMs,
      },
    );
  }

  failed(address: string): void {
    const level = this.#levelOf(address) + 1;
    this.#failures.delete(address);
    this.#failures.set(address, { level, atMs: this.#clock.monotonic() });
    if (this.#failures.size > ADDRESSES_MAX) {
      const [oldest] = this.#failures.keys();
      if (oldest !== undefined) this.#failures.delete(oldest);
    }
  }

  #levelOf(address: string): number {
    const found = this.#failures.get(address);
    if (!found) return 0;
    return Math.max(0, found.level - ((this.#clock.monotonic() - found.atMs) / 1000) * FORGIVEN_PER_SECOND);
  }
}
