import type { AppliedReport } from '../config/applied.js';
import { Backoff } from '../kit/backoff.js';
import { sleep, type Clock } from '../kit/clock.js';
import type { Random } from '../kit/random.js';

export interface ReportSenderOptions {
  readonly send: (report: AppliedReport, signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
}

const BACKOFF = { initialMs: 200, maxMs: 10_000, multiplier: 2 };

/** Sends what became of the newest revision until it has arrived; of older ones nobody needs to know. */
export class ReportSender {
  readonly #options: ReportSenderOptions;
  #newest: AppliedReport | undefined;
  #sending: Promise<void> | undefined;

  constructor(options: ReportSenderOptions) {
    this.#options = options;
  }

  report(report: AppliedReport): void {
    this.#newest = report;
    this.#sending ??= this.#work();
  }

  async #work(): Promise<void> {
    const { send, clock, random, signal } = this.#options;
    const backoff = new Backoff(BACKOFF, random);
    while (this.#newest && !signal.aborted) {
      const report: AppliedReport = this.#newest;
      try {
        await send(report, signal);
        if (this.#newest === report) this.#newest = undefined;
        backoff.reset();
      } catch {
        await sleep(clock, backoff.next(), signal).catch(() => undefined);
      }
    }
    this.#sending = undefined;
  }
}
