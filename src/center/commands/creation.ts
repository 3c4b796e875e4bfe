import { formatDuration } from '../../kit/durations.js';
import { MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import type { CommandKind } from '../../model/instance.js';
import type { CommandRecord } from './command.js';

/** Commands that are ordered by themselves: what is asked for, and what becomes a record. */

export const COMMAND_EXPIRES_MS = 60_000;
export const COMMAND_EXPIRES_MAX_MS = 7 * 24 * 3_600_000;
/** Commands that may wait for one machine. */
export const WAITING_PER_MACHINE_MAX = 1000;

export interface RunOrder {
  readonly machine: { readonly id: string; readonly name: string };
  readonly service: string;
  readonly action: CommandKind;
  /** Undefined: COMMAND_EXPIRES_MS. */
  readonly expiresInMs: number | undefined;
  readonly requestId: string;
  readonly by: string;
  readonly reason: string;
}

/** How long it may wait, milliseconds. @throws invalid */
export function lifeOf({ expiresInMs = COMMAND_EXPIRES_MS }: RunOrder): number {
  if (expiresInMs > 0 && expiresInMs <= COMMAND_EXPIRES_MAX_MS) return expiresInMs;
  throw new MusterError('invalid', `expires_in must be above 0 and at most ${formatDuration(COMMAND_EXPIRES_MAX_MS)}`, {
    reason: 'EXPIRES_IN',
  });
}

/** @throws exhausted when so many wait for the machine already */
export function assertRoom(waiting: number, machineName: string): void {
  if (waiting < WAITING_PER_MACHINE_MAX) return;
  throw new MusterError(
    'exhausted',
    `${WAITING_PER_MACHINE_MAX} commands wait for ${machineName}: cancel some, or let them expire`,
    { reason: 'COMMANDS_WAITING' },
  );
}

export function newCommand(
  order: RunOrder,
  { number, nowMs, expiresInMs }: { readonly number: number; readonly nowMs: number; readonly expiresInMs: number },
): CommandRecord {
  return {
    id: newId('c'),
    number,
    requestId: order.requestId,
    machine: order.machine.id,
    machineName: order.machine.name,
    service: order.service,
    action: order.action,
    outcome: 'QUEUED',
    message: '',
    createdMs: nowMs,
    expiresMs: nowMs + expiresInMs,
    deliveredMs: undefined,
    startedMs: undefined,
    endedMs: undefined,
    unknownSinceMs: undefined,
    createdBy: order.by,
    reason: order.reason,
  };
}
