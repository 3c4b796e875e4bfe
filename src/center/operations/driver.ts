import { sleep, type Clock, type Timer } from '../../kit/clock.js';
import type { Logger } from '../../kit/logger.js';
import { mapBounded } from '../../kit/tasks.js';
import type { Step } from './rollout.js';
import { planRollout, type Rollout } from './rollout.js';

export interface DriverOptions {
  /** The operation as it is now; undefined when it has ended. */
  readonly rollout: () => Rollout | undefined;
  /** Takes one step. Resolves once it is durable. */
  readonly take: (step: Step) => Promise<void>;
  /** Milliseconds of the clock the rollout's times are of. */
  readonly now: () => number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Steps taken at once: what they write then shares a sync of the disk. */
const STEPS_AT_ONCE_MAX = 256;
/** Planning takes at most the fifth of a processor, however large the operation and however often something changes. */
const REST_SHARE = 4;
/** A plan that was made faster needs no rest. */
const FAST_PLAN_MS = 0.25;
const REST_MAX_MS = 250;
/** After a step could not be taken, for example because the disk is full. */
const AGAIN_MS = 1000;

/**
 * Carries one operation on: plans, takes the steps, and plans anew when something has changed or the time has come. Nothing is
 * remembered between two plans, so it goes on after a restart of the center as it would have without.
 */
export class Driver {
  readonly #options: DriverOptions;
  #dirty = false;
  #wake: () => void = () => undefined;

  constructor(options: DriverOptions) {
    this.#options = options;
  }

  /** Something the plan depends on has changed. */
  poke(): void {
    this.#dirty = true;
    this.#wake();
  }

  /** Runs until the operation has ended, or the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      this.#dirty = false;
      const beganMs = clock.monotonic();
      const rollout = this.#options.rollout();
      if (!rollout) return;
      const { steps, wakeMs } = planRollout(rollout, this.#options.now());
      const tookMs = clock.monotonic() - beganMs;
      if (steps.length > 0) await this.#takeAll(steps, signal);
      // What changes meanwhile is seen together.
      if (tookMs > FAST_PLAN_MS) await quietly(clock, Math.min(tookMs * REST_SHARE, REST_MAX_MS), signal);
      if (steps.length === 0) await this.#rest(wakeMs, signal);
    }
  }

  async #takeAll(steps: readonly Step[], signal: AbortSignal): Promise<void> {
    try {
      await mapBounded(steps, STEPS_AT_ONCE_MAX, (step) => this.#options.take(step));
    } catch (error) {
      this.#options.logger.error('an operation could not go on, trying again', { error });
      await quietly(this.#options.clock, AGAIN_MS, signal);
    }
  }

  #rest(wakeMs: number | undefined, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const done = (): void => {
        timer?.cancel();
        signal.removeEventListener('abort', done);
        this.#wake = () => undefined;
        resolve();
      };
      this.#wake = done;
      signal.addEventListener('abort', done, { once: true });
      if (wakeMs !== undefined) timer = this.#options.clock.after(Math.max(1, wakeMs - this.#options.now()), done);
      if (this.#dirty || signal.aborted) done();
    });
  }
}

/** Also when the signal aborts meanwhile. */
function quietly(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return sleep(clock, ms, signal).catch(() => undefined);
}
