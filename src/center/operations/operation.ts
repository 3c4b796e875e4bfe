import type { BackupOrder } from '../../model/backup.js';
import type { CommandKind, Outcome } from '../../model/instance.js';
import type { LogSearch } from '../../model/log-search.js';
import type { DeployWish, ReleaseRef } from '../../model/release.js';
import type { Strategy } from './strategy.js';

/**
 * Why no more targets are ordered. `budget`, `canary`, `deadline`: the strategy says so; `cancelled`: a person; `reader`: nobody reads
 * the hits of a search any more; `enough`: a search has found as much as was asked for; `nothing`: when its turn came, nothing matched.
 */
export type StopCause = 'budget' | 'canary' | 'deadline' | 'cancelled' | 'reader' | 'enough' | 'nothing';

export interface Stop {
  readonly cause: StopCause;
  /** For people. */
  readonly message: string;
}

/**
 * An operation as it is stored: what a person or the engine decided. How far it is follows from its targets, which are commands.
 * Times are wall-clock milliseconds.
 */
export interface OperationRecord {
  readonly id: string;
  /** Rises with each operation: their order. */
  readonly number: number;
  readonly requestId: string;
  readonly action: CommandKind;
  readonly service: string;
  readonly selector: string;
  readonly strategy: Strategy;
  readonly createdBy: string;
  /** The address it was asked from. */
  readonly createdFrom: string;
  readonly reason: string;
  readonly createdMs: number;
  /** When its targets were frozen; undefined while it waits for another operation. */
  readonly startedMs: number | undefined;
  readonly endedMs: number | undefined;
  readonly paused: { readonly by: string; readonly sinceMs: number } | undefined;
  readonly stop: Stop | undefined;
  readonly bakeUntilMs: number | undefined;
  /** The operation whose targets it tries again. */
  readonly retryOf: string | undefined;
  /** Ids of the machines it is limited to; undefined: all that match. */
  readonly machines: readonly string[] | undefined;
  /** With SEARCH. */
  readonly search: LogSearch | undefined;
  /** With DEPLOY and ROLLBACK. */
  readonly deploy?: DeployWish | undefined;
  /** With DEPLOY: what that version was when it was asked for. Nothing else is deployed. */
  readonly release?: ReleaseRef | undefined;
  /** With VERIFY_BACKUP and RESTORE. */
  readonly backup?: BackupOrder | undefined;
  /** The operation whose targets it puts back. */
  readonly rollbackOf?: string | undefined;
  /** Its turn comes as if this were its number; undefined: its own. */
  readonly turnNumber?: number | undefined;
}

export type OperationState =
  'WAITING' | 'RUNNING' | 'PAUSED' | 'STOPPING' | 'SUCCEEDED' | 'PARTIAL' | 'FAILED' | 'CANCELLED';

export type OutcomeCounts = Readonly<Record<Outcome, number>>;

export function countOutcomes(outcomes: Iterable<Outcome>): OutcomeCounts {
  const counts: Record<Outcome, number> = {
    PENDING: 0,
    QUEUED: 0,
    DELIVERED: 0,
    STARTED: 0,
    SUCCEEDED: 0,
    FAILED: 0,
    EXPIRED: 0,
    CANCELLED: 0,
    UNKNOWN: 0,
  };
  for (const outcome of outcomes) counts[outcome] += 1;
  return counts;
}

export function totalOf(counts: OutcomeCounts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

/** An unknown outcome that becomes known after the end changes the state that is shown: it is what is known now. */
export function stateOf(operation: OperationRecord, counts: OutcomeCounts): OperationState {
  if (operation.endedMs === undefined) return openState(operation);
  const stopped = operation.stop && STOPPED_STATES[operation.stop.cause];
  return stopped ?? (counts.SUCCEEDED === totalOf(counts) ? 'SUCCEEDED' : 'PARTIAL');
}

/** What a stop makes of an operation; undefined: that its targets say. */
const STOPPED_STATES: Readonly<Record<StopCause, OperationState | undefined>> = {
  cancelled: 'CANCELLED',
  reader: 'CANCELLED',
  budget: 'FAILED',
  canary: 'FAILED',
  deadline: 'FAILED',
  nothing: 'FAILED',
  enough: undefined,
};

function openState({ startedMs, stop, paused }: OperationRecord): OperationState {
  if (stop) return 'STOPPING';
  if (paused) return 'PAUSED';
  return startedMs === undefined ? 'WAITING' : 'RUNNING';
}

/** Whether one at a time may do this to a service. What only reads waits for nobody and keeps nobody out. */
export function takesTurn(action: CommandKind): boolean {
  return action !== 'SEARCH' && action !== 'BACKUP' && action !== 'VERIFY_BACKUP';
}

/** Whether it keeps other operations on its service out. */
export function holds({ endedMs, action }: OperationRecord): boolean {
  return endedMs === undefined && takesTurn(action);
}

/** Whose turn on a service comes first. */
export function byTurn(a: OperationRecord, b: OperationRecord): number {
  return (a.turnNumber ?? a.number) - (b.turnNumber ?? b.number) || a.number - b.number;
}
