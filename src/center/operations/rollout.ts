import { formatDuration } from '../../kit/durations.js';
import type { Outcome } from '../../model/instance.js';
import type { Stop } from './operation.js';
import { batchOf, budgetOf, formatAmount, type Strategy } from './strategy.js';

/** A target as the decision needs to see it. Times are milliseconds of the clock that `nowMs` is read from. */
export interface RolloutTarget {
  readonly id: string;
  readonly name: string;
  readonly outcome: Outcome;
  readonly canary: boolean;
  /** Whether its machine has a live session. */
  readonly connected: boolean;
  /** Nobody will ever say more of it. */
  readonly settled: boolean;
  /** When its order was sent. */
  readonly orderedMs: number | undefined;
  /** Until when a QUEUED one waits for its machine. */
  readonly queuedUntilMs: number | undefined;
  readonly unknownSinceMs: number | undefined;
  /** Somebody asked to cancel it, and its agent has not answered. */
  readonly cancelling: boolean;
  /** A cancel may still keep it from running, or running on: it was not seen to start, or it is a search. */
  readonly recallable: boolean;
  /** Why it cannot be ordered at all, for example that its agent is too old; undefined: it can. */
  readonly problem: string | undefined;
  /** Of a canary that is looked at: why its instance is not well; undefined: it is, or nothing is known against it. */
  readonly illness: string | undefined;
  /** Of a canary that is looked at: since when its machine has no live session or its instance is not known, in this run of the center. */
  readonly awaySinceMs: number | undefined;
}

export interface Rollout {
  readonly strategy: Strategy;
  readonly startedMs: number;
  readonly paused: boolean;
  readonly stop: Stop | undefined;
  readonly bakeUntilMs: number | undefined;
  /** In the order of their turns, the canaries first. */
  readonly targets: readonly RolloutTarget[];
  /** How long a lost contact is waited for before its target counts as out of reach. */
  readonly patienceMs: number;
}

export type Step =
  | { readonly kind: 'order'; readonly target: string }
  /** Its turn came and its machine is not connected. */
  | { readonly kind: 'queue'; readonly target: string; readonly untilMs: number }
  | { readonly kind: 'expire'; readonly target: string }
  /** It cannot be ordered: it fails. */
  | { readonly kind: 'refuse'; readonly target: string; readonly why: string }
  | { readonly kind: 'cancel'; readonly target: string; readonly why: string }
  /** It took too long: unknown from now on, until its agent says more. */
  | { readonly kind: 'give up'; readonly target: string; readonly why: string }
  | { readonly kind: 'bake'; readonly untilMs: number }
  | { readonly kind: 'stop'; readonly stop: Stop }
  | { readonly kind: 'end' };

export interface Plan {
  readonly steps: readonly Step[];
  /** When it must be planned again though nothing has changed; undefined: only a change matters. */
  readonly wakeMs: number | undefined;
}

/** Where a target stands, for the decision. */
type Standing = 'waiting' | 'under way' | 'succeeded' | 'failed' | 'out of reach' | 'cancelled';

/**
 * What to do next with an operation: a pure decision, taken anew after every change. Invariants: never more than the batch under way
 * (except what was under way before, as after a restart of the center); a target is ordered only from PENDING or QUEUED, so never twice;
 * after a stop nothing is ordered; it ends only when nothing is under way and nothing waits; what is not known to have started then has
 * been asked to be cancelled, so that it never starts later.
 */
export function planRollout(rollout: Rollout, nowMs: number): Plan {
  const standings = new Map(rollout.targets.map((target) => [target, standingOf(target, rollout, nowMs)]));
  const due = dueSteps(rollout, nowMs);
  const stop = rollout.stop ? undefined : stopOf(rollout, standings, nowMs);
  if (stop) return { steps: [...due, { kind: 'stop', stop }], wakeMs: undefined };
  const steps = [...due, ...(rollout.stop ? cancelSteps(rollout, rollout.stop) : turnSteps(rollout, standings, nowMs))];
  if (steps.length > 0) return { steps, wakeMs: undefined };
  if (isOver(rollout, standings, nowMs)) return { steps: endSteps(rollout), wakeMs: undefined };
  return { steps, wakeMs: wakeOf(rollout, standings, nowMs) };
}

const STANDINGS: Readonly<Record<Exclude<Outcome, 'UNKNOWN'>, Standing>> = {
  PENDING: 'waiting',
  QUEUED: 'waiting',
  DELIVERED: 'under way',
  STARTED: 'under way',
  SUCCEEDED: 'succeeded',
  FAILED: 'failed',
  EXPIRED: 'out of reach',
  CANCELLED: 'cancelled',
};

function standingOf(target: RolloutTarget, { patienceMs, strategy }: Rollout, nowMs: number): Standing {
  if (target.outcome !== 'UNKNOWN') return STANDINGS[target.outcome];
  const silent = nowMs - (target.unknownSinceMs ?? nowMs) >= patienceMs;
  const late = nowMs - (target.orderedMs ?? nowMs) >= strategy.targetTimeoutMs;
  return target.settled || silent || late ? 'out of reach' : 'under way';
}

type Standings = ReadonlyMap<RolloutTarget, Standing>;

/** Nothing waits and nothing is under way, nor are canaries still being looked at. */
function isOver(rollout: Rollout, standings: Standings, nowMs: number): boolean {
  if (!rollout.stop && isBaking(rollout, nowMs)) return false;
  return [...standings.values()].every((standing) => standing !== 'waiting' && standing !== 'under way');
}

/** Whether others had their turns: then the canaries have done their duty. */
function othersBegun({ targets }: Rollout): boolean {
  return targets.some(({ canary, outcome }) => !canary && outcome !== 'PENDING' && outcome !== 'CANCELLED');
}

/** Whether canaries are being looked at. One that cannot be seen is waited for, so that nothing goes on because of what nobody saw. */
function isBaking(rollout: Rollout, nowMs: number): boolean {
  const { bakeUntilMs, targets } = rollout;
  if (bakeUntilMs === undefined || othersBegun(rollout)) return false;
  return nowMs < bakeUntilMs || targets.some(({ canary, awaySinceMs }) => canary && awaySinceMs !== undefined);
}

/** What was sent and never seen to start shall not start after the end, whenever its machine comes back. */
function endSteps({ targets }: Rollout): Step[] {
  const loose = targets.filter((target) => isLost(target) && canRecall(target));
  const why = 'its operation has ended';
  return loose.length === 0 ? [{ kind: 'end' }] : loose.map(({ id }) => ({ kind: 'cancel', target: id, why }));
}

function isLost({ outcome, settled }: RolloutTarget): boolean {
  return outcome === 'UNKNOWN' && !settled;
}

function isRunning({ outcome }: RolloutTarget): boolean {
  return outcome === 'DELIVERED' || outcome === 'STARTED';
}

function canRecall({ recallable, cancelling }: RolloutTarget): boolean {
  return recallable && !cancelling;
}

/** What time alone brings, whatever state the operation is in. */
function dueSteps({ targets, strategy }: Rollout, nowMs: number): Step[] {
  return targets.flatMap((target): Step[] => {
    if (target.outcome === 'QUEUED' && (target.queuedUntilMs ?? 0) <= nowMs && !target.connected) {
      return [{ kind: 'expire', target: target.id }];
    }
    if (isRunning(target) && nowMs - (target.orderedMs ?? nowMs) >= strategy.targetTimeoutMs) {
      const why = `it did not end within ${formatDuration(strategy.targetTimeoutMs)}; its agent will say how it ends`;
      return [{ kind: 'give up', target: target.id, why }];
    }
    return [];
  });
}

/** Why the operation must not go on, if it must not. */
function stopOf(rollout: Rollout, standings: Standings, nowMs: number): Stop | undefined {
  return (
    canaryStop(rollout, standings, nowMs) ?? budgetStop(rollout, standings) ?? deadlineStop(rollout, standings, nowMs)
  );
}

function canaryStop(rollout: Rollout, standings: Standings, nowMs: number): Stop | undefined {
  if (othersBegun(rollout)) return undefined;
  for (const target of rollout.targets) {
    if (!target.canary) continue;
    const standing = standings.get(target);
    if (standing === 'failed' || standing === 'out of reach' || standing === 'cancelled') {
      return { cause: 'canary', message: `canary ${target.name} did not succeed: the others were not touched` };
    }
    const illness = rollout.bakeUntilMs === undefined ? undefined : illnessNow(target, rollout.patienceMs, nowMs);
    if (illness !== undefined) {
      const message = `canary ${target.name} did not stay well (${illness}): the others were not touched`;
      return { cause: 'canary', message };
    }
  }
  return undefined;
}

function illnessNow(target: RolloutTarget, patienceMs: number, nowMs: number): string | undefined {
  const { awaySinceMs, illness } = target;
  const lost = awaySinceMs !== undefined && nowMs - awaySinceMs >= patienceMs;
  return lost ? 'contact with its machine is lost, or its agent does not say how it is' : illness;
}

function budgetStop({ strategy, targets }: Rollout, standings: Standings): Stop | undefined {
  const count = (wanted: Standing): number => [...standings.values()].filter((standing) => standing === wanted).length;
  const over = (found: number, what: string, amount: Strategy['budget']): Stop | undefined =>
    found > budgetOf(amount, targets.length)
      ? {
          cause: 'budget',
          message: `${found} of ${targets.length} targets ${what}, more than the budget of ${formatAmount(amount)}`,
        }
      : undefined;
  return (
    over(count('failed'), 'failed', strategy.budget) ??
    over(count('out of reach'), 'are out of reach', strategy.unreachableBudget)
  );
}

function deadlineStop(rollout: Rollout, standings: Standings, nowMs: number): Stop | undefined {
  const { strategy, startedMs } = rollout;
  if (nowMs - startedMs < strategy.timeoutMs || isOver(rollout, standings, nowMs)) return undefined;
  return { cause: 'deadline', message: `it took longer than ${formatDuration(strategy.timeoutMs)}` };
}

/**
 * After a stop: what has not started is not to start, and whatever is lost may not have. What a person or the reader ended is also taken
 * back from agents; else what is under way goes on to its end.
 */
function cancelSteps({ targets }: Rollout, { cause, message }: Stop): Step[] {
  const recall = cause === 'cancelled' || cause === 'reader' || cause === 'enough';
  return targets
    .filter((target) => isWaiting(target) || ((isLost(target) || (recall && isRunning(target))) && canRecall(target)))
    .map(({ id }) => ({ kind: 'cancel', target: id, why: message }));
}

function isWaiting({ outcome }: RolloutTarget): boolean {
  return outcome === 'PENDING' || outcome === 'QUEUED';
}

/** Who has a turn now. */
function turnSteps(rollout: Rollout, standings: Standings, nowMs: number): Step[] {
  const { targets, strategy } = rollout;
  const canaries = targets.filter(({ canary }) => canary);
  const canariesDone = canaries.every((target) => standings.get(target) === 'succeeded');
  if (canaries.length > 0 && canariesDone && strategy.bakeMs > 0 && rollout.bakeUntilMs === undefined) {
    return [{ kind: 'bake', untilMs: nowMs + strategy.bakeMs }];
  }
  if (rollout.paused || isBaking(rollout, nowMs)) return [];
  const underWay = [...standings.values()].filter((standing) => standing === 'under way').length;
  return turnsOf(canariesDone ? targets : canaries, {
    free: batchOf(strategy.batch, targets.length) - underWay,
    queuedUntilMs: nowMs + strategy.queueForMs,
  });
}

/** Goes along the targets while a place is free: one that is connected takes it, one that is not begins to wait and takes none. */
function turnsOf(
  targets: readonly RolloutTarget[],
  { free, queuedUntilMs }: { readonly free: number; readonly queuedUntilMs: number },
): Step[] {
  const steps: Step[] = [];
  let places = free;
  for (const target of targets) {
    if (places <= 0) break;
    if (!isWaiting(target)) continue;
    if (target.problem !== undefined) steps.push({ kind: 'refuse', target: target.id, why: target.problem });
    else if (target.connected) {
      steps.push({ kind: 'order', target: target.id });
      places -= 1;
    } else if (target.outcome === 'PENDING') steps.push({ kind: 'queue', target: target.id, untilMs: queuedUntilMs });
  }
  return steps;
}

function wakeOf(rollout: Rollout, standings: Standings, nowMs: number): number | undefined {
  const { strategy, startedMs, bakeUntilMs, stop, patienceMs } = rollout;
  const times = rollout.targets.flatMap((target) => {
    const { outcome, orderedMs = nowMs, awaySinceMs } = target;
    if (awaySinceMs !== undefined) return [awaySinceMs + patienceMs];
    if (outcome === 'QUEUED') return target.connected ? [] : [target.queuedUntilMs ?? nowMs];
    if (standings.get(target) !== 'under way') return [];
    const lateMs = orderedMs + strategy.targetTimeoutMs;
    return [outcome === 'UNKNOWN' ? Math.min((target.unknownSinceMs ?? nowMs) + patienceMs, lateMs) : lateMs];
  });
  if (!stop) times.push(startedMs + strategy.timeoutMs, ...(bakeUntilMs === undefined ? [] : [bakeUntilMs]));
  const ahead = times.filter((time) => time > nowMs);
  return ahead.length === 0 ? undefined : ahead.reduce((least, time) => Math.min(least, time));
}
