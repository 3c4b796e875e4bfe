import type { ConfigSnapshot } from '../../config/wire.js';
import { Backoff } from '../../kit/backoff.js';
import type { Clock } from '../../kit/clock.js';
import { isCode } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { Wake } from '../../kit/wake.js';
import type { CenterAccess } from '../ports.js';
import type { ConfigCache, StoredReport } from './cache.js';

/** What is asked of the center. Both fail with `unavailable` while it is away. */
export interface ConfigCenter {
  get(service: string, signal: AbortSignal): Promise<ConfigSnapshot>;
  reportApplied(service: string, report: StoredReport, signal: AbortSignal): Promise<void>;
}

export interface ConfigSyncOptions {
  readonly cache: ConfigCache;
  readonly remote: ConfigCenter;
  readonly center: Pick<CenterAccess, 'connected' | 'onConnection'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

const BACKOFF = { initialMs: 200, maxMs: 10_000, multiplier: 2 };

/** Fetches what is missing and hands on what services said, again until it is done. */
export class ConfigSync {
  readonly #options: ConfigSyncOptions;
  readonly #backoff: Backoff;
  readonly #wake = new Wake();

  constructor(options: ConfigSyncOptions) {
    this.#options = options;
    this.#backoff = new Backoff(BACKOFF, options.random);
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { cache, center, clock } = this.#options;
    const wake = (): void => {
      this.#wake.call();
    };
    cache.onWork(wake);
    const unsubscribe = center.onConnection(wake);
    try {
      while (!signal.aborted) {
        this.#wake.arm();
        const failed = center.connected && !(await this.#round(signal));
        await this.#wake.rest(signal, failed ? { ms: this.#backoff.next(), clock } : undefined);
      }
    } finally {
      unsubscribe();
    }
  }

  /** Whether all of it worked. */
  async #round(signal: AbortSignal): Promise<boolean> {
    const { cache, remote } = this.#options;
    let failures = 0;
    const attempt = async (what: string, service: string, work: () => Promise<void>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        failures += 1;
        if (!signal.aborted) this.#options.logger.debug(`${what} failed; trying again`, { service, error });
      }
    };
    for (const [service] of cache.missing()) {
      await attempt('fetching a configuration', service, async () => {
        await cache.take(service, await remote.get(service, signal));
      });
    }
    for (const [service, report] of cache.unsent()) {
      await attempt('handing on what a service applied', service, () => this.#handOn(service, report, signal));
    }
    if (failures === 0) this.#backoff.reset();
    return failures === 0 && cache.missing().length === 0;
  }

  async #handOn(service: string, report: StoredReport, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.remote.reportApplied(service, report, signal);
    } catch (error) {
      // The center knows no such thing and never will: trying again changes nothing.
      if (!isCode(error, 'invalid', 'not_found', 'denied')) throw error;
      this.#options.logger.warn('the center does not take what a service applied', { service, error });
    }
    await this.#options.cache.sent(service, report);
  }
}
