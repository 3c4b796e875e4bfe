import type { CommandRecord } from '../commands/command.js';
import type { OperationRecord, StopCause } from './operation.js';
import { batchOf, DEPLOY_STRATEGY, type Strategy } from './strategy.js';

/** What the strategy stops a deploy for; a person who cancels one decides what becomes of it too. */
const PUT_BACK: ReadonlySet<StopCause> = new Set(['budget', 'canary', 'deadline']);

/**
 * Targets of a deploy that has come to its end that are to be put back, as it was asked for: those that succeeded, in the order of their
 * turns, or the last batch of them. What is unknown is left alone: whether it failed, and so was put back by itself, nobody can say.
 */
export function toPutBack(
  { action, deploy, stop, strategy }: OperationRecord,
  targets: readonly CommandRecord[],
): readonly CommandRecord[] {
  if (action !== 'DEPLOY' || !stop || !PUT_BACK.has(stop.cause)) return [];
  const changed = targets.filter((target) => target.outcome === 'SUCCEEDED' && hasChanged(target));
  switch (deploy?.onFailure) {
    case 'ALL':
      return changed;
    case 'BATCH':
      return changed.slice(-batchOf(strategy.batch, targets.length));
    case 'TARGET':
    case undefined:
      return [];
  }
}

/** Where the release that was deployed ran before there is nothing to put back. */
function hasChanged({ result }: CommandRecord): boolean {
  const { from, to } = result?.deploy ?? {};
  return from === undefined || from.digest !== to?.digest;
}

/** As many as can be are put back, whatever becomes of the others. */
function strategyOf({ batch, order, queueForMs, timeoutMs }: Strategy): Strategy {
  const all = { kind: 'percent', percent: 100 } as const;
  return { ...DEPLOY_STRATEGY, batch, order, queueForMs, timeoutMs, budget: all, unreachableBudget: all };
}

/** The operation that puts targets of another back. `id`: of the new one. */
export function followUpOf(
  operation: OperationRecord,
  targets: readonly CommandRecord[],
  { id, nowMs }: { readonly id: string; readonly nowMs: number },
): OperationRecord {
  return {
    ...operation,
    id,
    number: 0,
    turnNumber: operation.number,
    // No request of a person can be called like this: one operation has one.
    requestId: `rollback of ${operation.id}`,
    action: 'ROLLBACK',
    deploy: { version: '', onFailure: 'TARGET' },
    release: undefined,
    strategy: strategyOf(operation.strategy),
    reason: `puts back what ${operation.id} deployed: ${operation.stop?.message ?? ''}`,
    createdMs: nowMs,
    startedMs: undefined,
    endedMs: undefined,
    paused: undefined,
    stop: undefined,
    bakeUntilMs: undefined,
    retryOf: undefined,
    rollbackOf: operation.id,
    machines: targets.map(({ machine }) => machine),
  };
}

/** The version that a deploy's target ran from before; empty: from no release; undefined: its agent did not say. */
export function versionBefore(target: CommandRecord | undefined): string | undefined {
  const report = target?.result?.deploy;
  return report && (report.from?.version ?? '');
}
