import type { Logger } from '../kit/logger.js';
import { aborted } from '../kit/tasks.js';
import type { QueueLog } from './log/port.js';

/** Damage remembered; the log of the process has all. */
const DAMAGE_MAX = 20;

/** Reads everything that is stored once after the start, slowly, and remembers what is damaged: before anyone needs it. */
export class Scrub {
  readonly #log: QueueLog;
  readonly #logger: Logger;
  readonly #damage: string[] = [];

  constructor(log: QueueLog, logger: Logger) {
    this.#log = log;
    this.#logger = logger;
  }

  get damage(): readonly string[] {
    return this.#damage;
  }

  /** Reads once, then waits until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      for await (const damage of this.#log.scrub(signal)) {
        this.#logger.error('stored data is damaged', { damage });
        if (this.#damage.length < DAMAGE_MAX) this.#damage.push(damage);
      }
    } catch (error) {
      if (!signal.aborted) this.#logger.error('the stored data could not be checked', { error });
    }
    await aborted(signal);
  }
}
