import type { CheckResult, Health } from '../../model/instance.js';
import type { Manifest } from '../../model/manifest.js';

/** What supervision asks of probing: it starts checks when a service starts and stops them when it stops. */

/** The running service that is checked. */
export interface CheckSubject {
  readonly service: string;
  readonly manifest: Manifest;
  /** When it was started: wall-clock milliseconds since the Unix epoch. Checks are UNKNOWN since then, until their first result. */
  readonly startedMs: number;
  /** The whole environment of an exec ping. */
  readonly environment: Readonly<Record<string, string>>;
  /** User and group of an exec ping; the agent's own where left out. */
  readonly uid?: number;
  readonly gid?: number;
  /** Absolute working directory of an exec ping. */
  readonly directory: string;
}

/** What a service may say of itself. */
export type ReportedHealth = Exclude<Health, 'UNKNOWN'>;

/** The checks of one running service. */
export interface Checks {
  /** One result per declared port, then the ping's; empty where the manifest declares neither. UNKNOWN until a check has run. */
  readonly current: readonly CheckResult[];
  /**
   * Takes a report of a service with a ttl ping.
   * @returns milliseconds within which the next report is due
   * @throws precondition where the service has no ttl ping, or the checks were stopped
   */
  report(health: ReportedHealth, output: string): number;
  /** Ends all checking at once: no result is told afterwards. Safe to call twice. */
  stop(): void;
}

export interface ChecksFactory {
  /** Starts checking. `onResult` hears all checks after each result, never during this call. */
  start(subject: CheckSubject, onResult: (checks: readonly CheckResult[]) => void): Checks;
}
