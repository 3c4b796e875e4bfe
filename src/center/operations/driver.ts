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
    const { clock, logger } = this.#options;
    while (!signal.aborted) {
      this.#dirty = false;
      const rollout = this.#options.rollout();
      if (!rollout) return;
      const { steps, wakeMs } = planRollout(rollout, this.#options.now());
      if (steps.length === 0) {
        await this.#rest(wakeMs, signal);
        continue;
      }
      try {
        await mapBounded(steps, STEPS_AT_ONCE_MAX, (step) => this.#options.take(step));
      } catch (error) {
        logger.error('an operation could not go on, trying again', { error });
        await sleep(clock, AGAIN_MS, signal).catch(() => undefined);
      }
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
