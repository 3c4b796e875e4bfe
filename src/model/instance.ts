import type { DeployStep, ReleaseRef } from './release.js';

/** What an instance is doing and how it is, in the words of the contracts. */

export const SERVICE_STATES = ['STOPPED', 'STARTING', 'RUNNING', 'BACKOFF', 'STOPPING', 'EXITED', 'FATAL'] as const;
export type ServiceState = (typeof SERVICE_STATES)[number];

export const HEALTHS = ['PASSING', 'WARNING', 'CRITICAL', 'UNKNOWN'] as const;
export type Health = (typeof HEALTHS)[number];

export const DRIVERS = ['process', 'systemd', 'sysv'] as const;
export type Driver = (typeof DRIVERS)[number];

export const ACTIONS = ['START', 'STOP', 'RESTART'] as const;
export type Action = (typeof ACTIONS)[number];

/** What a command can be: an action on the instance, a search in its logs, or work on its releases and backups. */
export const COMMAND_KINDS = [
  ...ACTIONS,
  'SEARCH',
  'DEPLOY',
  'ROLLBACK',
  'BACKUP',
  'VERIFY_BACKUP',
  'RESTORE',
] as const;
export type CommandKind = (typeof COMMAND_KINDS)[number];

export const OUTCOMES = [
  'PENDING',
  'QUEUED',
  'DELIVERED',
  'STARTED',
  'SUCCEEDED',
  'FAILED',
  'EXPIRED',
  'CANCELLED',
  'UNKNOWN',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Output kept of a check, in UTF-8 bytes. */
export const CHECK_OUTPUT_BYTES_MAX = 4096;

/** The latest result of one check. Times are wall-clock milliseconds since the Unix epoch. */
export interface CheckResult {
  /** `port NAME` or `ping`. */
  readonly name: string;
  readonly kind: 'tcp' | 'http' | 'grpc' | 'exec' | 'ttl';
  readonly health: Health;
  readonly sinceMs: number;
  /** Undefined until it has run. */
  readonly lastRunMs: number | undefined;
  readonly tookMs: number;
  /** At most CHECK_OUTPUT_BYTES_MAX bytes. */
  readonly output: string;
  /** Results in a row like the last one. */
  readonly streak: number;
}

/** An instance as its agent sees it. Times are wall-clock milliseconds. */
export interface InstanceReport {
  readonly service: string;
  readonly version: string;
  readonly driver: Driver;
  readonly state: ServiceState;
  readonly sinceMs: number;
  readonly health: Health;
  /** 0 when not running. */
  readonly pid: number;
  /** Whether it is wanted to run. */
  readonly wanted: boolean;
  /** Why it is in this state; empty when all is as wanted. */
  readonly reason: string;
  readonly exitCode: number | undefined;
  readonly exitSignal: string;
  readonly restarts: number;
  readonly checks: readonly CheckResult[];
  /** 0 for a service declared on the machine itself. */
  readonly generation: number;
  readonly logDirectory: string;
  readonly startedMs: number | undefined;
  /** What it runs from; undefined where it was never deployed. */
  readonly release?: DeployedRelease | undefined;
  /** Releases on the machine that it can be rolled back to, the newest first; not the one it runs from. */
  readonly heldReleases?: readonly ReleaseRef[] | undefined;
  /** The step of a deploy or rollback, from the stop to the end of the verify; else undefined. Meanwhile no alert is raised. */
  readonly deploying?: DeployStep | undefined;
}

export interface DeployedRelease {
  readonly ref: ReleaseRef;
  /** When it became what the instance runs from. */
  readonly deployedMs: number;
  readonly verified: boolean;
}

/** An instance as a command left it. */
export type InstanceSummary = Pick<InstanceReport, 'state' | 'pid' | 'version' | 'health'>;

/** Worst first: the health of an instance is the worst of its checks. */
const WORST_FIRST: readonly Health[] = ['CRITICAL', 'UNKNOWN', 'WARNING', 'PASSING'];

/** The worst of several healths; UNKNOWN where there are none. */
export function worstHealth(healths: Iterable<Health>): Health {
  const seen = new Set(healths);
  return WORST_FIRST.find((health) => seen.has(health)) ?? 'UNKNOWN';
}

/** Whether the outcome can still change. UNKNOWN can: the agent may come back and say how it ended. */
export function isFinal(outcome: Outcome): boolean {
  return outcome === 'SUCCEEDED' || outcome === 'FAILED' || outcome === 'EXPIRED' || outcome === 'CANCELLED';
}
