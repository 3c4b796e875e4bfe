import type { Clock } from '../../kit/clock.js';
import type { CommandReport } from '../gateway/parts.js';

/** How far a command is is stored, and so shown, at most this often. */
export const PROGRESS_INTERVAL_MS = 1000;

/** How far commands are that run: of each the newest report that is not stored yet, and when one was stored last. */
export class Progress {
  readonly #clock: Clock;
  readonly #waiting = new Map<string, CommandReport>();
  /** Monotonic milliseconds, by command. */
  readonly #stored = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Takes a report, in place of an older one that waits. Whether it may be stored at once. */
  take(report: CommandReport): boolean {
    this.#waiting.set(report.command, report);
    return this.#isDue(report.command);
  }

  /** Commands with a report whose time has come. */
  due(): string[] {
    return [...this.#waiting.keys()].filter((id) => this.#isDue(id));
  }

  /** The report that waits, if there is one: it is being stored now. */
  withdraw(id: string): CommandReport | undefined {
    const report = this.#waiting.get(id);
    if (report) this.#stored.set(id, this.#clock.monotonic());
    this.#waiting.delete(id);
    return report;
  }

  /** It could not be stored: it waits again, unless a newer one does. */
  giveBack(report: CommandReport): void {
    if (!this.#waiting.has(report.command)) this.#waiting.set(report.command, report);
  }

  /** Nothing more is told of the command. */
  forget(id: string): void {
    this.#waiting.delete(id);
    this.#stored.delete(id);
  }

  #isDue(id: string): boolean {
    const storedMs = this.#stored.get(id);
    return storedMs === undefined || this.#clock.monotonic() - storedMs >= PROGRESS_INTERVAL_MS;
  }
}
