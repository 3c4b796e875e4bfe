import {
  OperationCounts,
  type Command,
  type Operation,
  type OperationState,
  type WatchOperationResponse,
} from '../../../generated/muster/v1/center.js';
import { isFinal, type Outcome } from '../../model/instance.js';
import { fromWireOutcome } from '../../wire/instance.js';
import { stepText } from './deploy-text.js';

const ENDED: readonly OperationState[] = [
  'OPERATION_STATE_SUCCEEDED',
  'OPERATION_STATE_PARTIAL',
  'OPERATION_STATE_FAILED',
  'OPERATION_STATE_CANCELLED',
];

export function hasEnded(operation: Operation): boolean {
  return ENDED.includes(operation.state);
}

/** Whether nothing more will be heard of it: also of one whose agent died meanwhile, of which nobody can ever say how it ended. */
export function isSettled({ outcome, ended }: Command): boolean {
  return isFinal(fromWireOutcome(outcome)) || (outcome === 'OUTCOME_UNKNOWN' && ended !== undefined);
}

/** The counter each outcome is counted by. */
const COUNTED = {
  PENDING: 'pending',
  QUEUED: 'queued',
  DELIVERED: 'delivered',
  STARTED: 'started',
  SUCCEEDED: 'succeeded',
  FAILED: 'failed',
  EXPIRED: 'expired',
  CANCELLED: 'cancelled',
  UNKNOWN: 'unknown',
} as const satisfies Record<Outcome, keyof OperationCounts>;

export function countTargets(targets: Iterable<Command>): OperationCounts {
  const counts = OperationCounts.fromPartial({});
  for (const target of targets) {
    counts.total += 1;
    counts[COUNTED[fromWireOutcome(target.outcome)]] += 1;
  }
  return counts;
}

/** An operation and its targets as far as they have been heard of. Holds one record per target. */
export class OperationView {
  #operation: Operation;
  readonly #targets = new Map<string, Command>();

  constructor(operation: Operation) {
    this.#operation = operation;
  }

  get operation(): Operation {
    return this.#operation;
  }

  /** In the order of their turns. */
  get targets(): Command[] {
    return [...this.#targets.values()].sort((a, b) => a.position - b.position);
  }

  /** Targets there are; 0 while they are not frozen. */
  get total(): number {
    return Math.max(this.#operation.counts?.total ?? 0, this.#targets.size);
  }

  /** By what was heard of each target; until all have been heard of, as the center counts them. */
  get counts(): OperationCounts {
    const counts = this.#operation.counts;
    if (counts !== undefined && this.#targets.size < counts.total) return counts;
    return countTargets(this.#targets.values());
  }

  /** Whether nothing can change any more. */
  get settled(): boolean {
    const known = [...this.#targets.values()];
    return hasEnded(this.#operation) && known.length >= this.total && known.every((target) => isSettled(target));
  }

  /** Takes in what a watch says. Returns the targets that are new or whose outcome, or step of a deploy, is another one than before. */
  apply({ operation, targets }: Pick<WatchOperationResponse, 'operation' | 'targets'>): Command[] {
    if (operation !== undefined) this.#operation = operation;
    const changed = targets.filter((target) => {
      const before = this.#targets.get(target.id);
      return before?.outcome !== target.outcome || stepText(before) !== stepText(target);
    });
    for (const target of targets) this.#targets.set(target.id, target);
    return changed;
  }
}
