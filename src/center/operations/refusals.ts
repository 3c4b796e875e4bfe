import { MusterError } from '../../kit/errors.js';
import type { CommandRecord } from '../commands/command.js';
import type { OperationView } from './ledger.js';
import type { OperationRecord } from './operation.js';

/** Why an operation is not begun or changed, in words. */

export const REQUEST_ID_CHARACTERS_MAX = 200;

export function requestIdTooLong(): MusterError {
  return new MusterError('invalid', `request_id may have at most ${REQUEST_ID_CHARACTERS_MAX} characters`, {
    reason: 'REQUEST_ID',
  });
}

export function heldBy({ record: { id, action, service, createdBy, reason } }: OperationView): MusterError {
  const why = reason === '' ? '' : ` (${reason})`;
  return new MusterError(
    'conflict',
    `operation ${id}, ${action.toLowerCase()} of ${service} by ${createdBy}${why}, is under way: follow it with "muster ops watch ${id}", or wait for it with --wait`,
    { reason: 'OPERATION_HELD', metadata: { operation: id } },
  );
}

export function assertRetriable({ id, action, endedMs }: OperationRecord): void {
  if (action === 'SEARCH')
    throw new MusterError('invalid', 'a search is not tried again: make it anew', { reason: 'ACTION' });
  if (endedMs !== undefined) return;
  throw new MusterError('precondition', `operation ${id} has not ended: wait for it, or cancel it first`, {
    reason: 'OPERATION_OPEN',
  });
}

export function nothingToRetry(id: string, targets: readonly CommandRecord[]): MusterError {
  const spared = targets.filter(({ outcome }) => outcome === 'CANCELLED').length;
  const hint =
    spared === 0 ? '' : `; ${spared} were cancelled before they started: include those with --include-cancelled`;
  return new MusterError('precondition', `no target of operation ${id} failed, expired or is unknown${hint}`, {
    reason: 'NOTHING_TO_RETRY',
  });
}

export function nothingToChange(id: string, how: string): MusterError {
  return new MusterError('precondition', `operation ${id} ${how}: nothing can be changed any more`, {
    reason: 'OPERATION_ENDED',
  });
}
