import { newId } from '../../kit/ids.js';
import type { BackupOrder } from '../../model/backup.js';
import type { CommandKind } from '../../model/instance.js';
import type { LogSearch } from '../../model/log-search.js';
import type { DeployWish, ReleaseRef } from '../../model/release.js';
import type { CommandRecord } from '../commands/command.js';
import type { OperationRecord } from './operation.js';
import { readStrategy, strategyFor, type StrategyWish } from './strategy.js';
import type { Target } from './targets.js';
import type { ReleaseSource } from './work.js';

/** From what is asked for to what is stored. */

/** Who wants something, and why. */
export interface Asking {
  readonly by: string;
  /** The address it was asked from. */
  readonly from: string;
  readonly reason: string;
  /** A repeated one answers with the first operation; empty: every call is a new one. */
  readonly requestId: string;
  /** Wait for other operations on the service instead of being refused. */
  readonly wait: boolean;
}

/** What is wanted. */
export interface OperationWish extends Asking {
  readonly action: CommandKind;
  readonly service: string;
  readonly selector: string;
  readonly strategy: StrategyWish;
  readonly search: LogSearch | undefined;
  /** With DEPLOY and ROLLBACK. */
  readonly deploy?: DeployWish | undefined;
  /** With VERIFY_BACKUP and RESTORE. */
  readonly backup?: BackupOrder | undefined;
}

type Fresh = Pick<
  OperationRecord,
  | 'id'
  | 'number'
  | 'requestId'
  | 'createdBy'
  | 'createdFrom'
  | 'reason'
  | 'createdMs'
  | 'startedMs'
  | 'endedMs'
  | 'paused'
  | 'stop'
  | 'bakeUntilMs'
  | 'turnNumber'
>;

/** What is a new operation's own, whatever it is for. */
export function freshFacts({ by, from, reason, requestId }: Asking, nowMs: number): Fresh {
  return {
    id: newId('op'),
    number: 0,
    requestId,
    createdBy: by,
    createdFrom: from,
    reason,
    createdMs: nowMs,
    startedMs: undefined,
    endedMs: undefined,
    paused: undefined,
    stop: undefined,
    bakeUntilMs: undefined,
    turnNumber: undefined,
  };
}

/** @throws invalid for a strategy; as ReleaseSource.deployOrder */
export function recordOf(wish: OperationWish, releases: ReleaseSource, nowMs: number): OperationRecord {
  const { action, service, selector, search, deploy, backup } = wish;
  const strategy = readStrategy(wish.strategy, strategyFor(action));
  const what = { action, service, selector, strategy, search, deploy, release: releaseOf(wish, releases), backup };
  return { ...freshFacts(wish, nowMs), ...what, retryOf: undefined, machines: undefined };
}

/** What is to be deployed. @throws as ReleaseSource.deployOrder */
export function releaseOf(
  { action, service, deploy }: Pick<OperationRecord, 'action' | 'service' | 'deploy'>,
  releases: ReleaseSource,
): ReleaseRef | undefined {
  return action === 'DEPLOY' ? releases.deployOrder(service, deploy?.version ?? '').release : undefined;
}

export interface Place {
  readonly nowMs: number;
  /** Of the next command. */
  readonly number: () => number;
  /** Of machines that another operation deployed to and that are put back: the version there before. */
  readonly backTo: ReadonlyMap<string, string | undefined>;
}

/** The targets of an operation that begins, as commands. */
export function targetRecords(
  operation: OperationRecord,
  targets: readonly Target[],
  { nowMs, number, backTo }: Place,
): CommandRecord[] {
  const { action, service, createdBy, reason } = operation;
  return targets.map(({ candidate, canary }, position) => ({
    id: newId('c'),
    number: number(),
    requestId: '',
    machine: candidate.id,
    machineName: candidate.name,
    service,
    action,
    outcome: 'PENDING',
    message: '',
    createdMs: nowMs,
    expiresMs: nowMs,
    deliveredMs: undefined,
    startedMs: undefined,
    endedMs: undefined,
    unknownSinceMs: undefined,
    createdBy,
    reason,
    turn: { operation: operation.id, position, canary },
    backTo: backTo.get(candidate.id),
  }));
}
