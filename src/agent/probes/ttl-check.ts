import type { Clock, Timer } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import type { CheckResult } from '../../model/instance.js';
import type { Verdict } from './answer.js';
import type { ReportedHealth } from './checks.js';
import { CheckRecord } from './record.js';

const VERDICTS = { PASSING: 'pass', WARNING: 'warn', CRITICAL: 'fail' } as const satisfies Record<
  ReportedHealth,
  Verdict
>;

/** A service's word is taken at once, and so is its silence: it has had its whole ttl. */
const AT_ONCE = { failures: 1, successes: 1 };

/** A check that waits to be told. Silence for longer than the ttl is a failure. */
export class TtlCheck {
  readonly #ttlMs: number;
  readonly #clock: Clock;
  readonly #record: CheckRecord;
  readonly #onResult: () => void;
  #timer: Timer;

  constructor(ttlMs: number, clock: Clock, onResult: () => void) {
    this.#ttlMs = ttlMs;
    this.#clock = clock;
    this.#onResult = onResult;
    this.#record = new CheckRecord({ name: 'ping', kind: 'ttl', thresholds: AT_ONCE }, clock);
    this.#timer = clock.after(ttlMs, this.#silent);
  }

  get result(): CheckResult {
    return this.#record.result;
  }

  /** @returns milliseconds within which the next report is due */
  report(health: ReportedHealth, output: string): number {
    this.#timer.cancel();
    this.#timer = this.#clock.after(this.#ttlMs, this.#silent);
    this.#record.add({ verdict: VERDICTS[health], output }, 0);
    this.#onResult();
    return this.#ttlMs;
  }

  stop(): void {
    this.#timer.cancel();
  }

  readonly #silent = (): void => {
    this.#record.add({ verdict: 'fail', output: `no report within ${formatDuration(this.#ttlMs)}` }, 0);
    this.#onResult();
  };
}
