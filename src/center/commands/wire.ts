import type { Command } from '../../../generated/muster/v1/center.js';
import { NO_RESULT } from '../../model/command-result.js';
import { toWireResult } from '../../wire/command-result.js';
import { toWireAction, toWireOutcome } from '../../wire/instance.js';
import { toDate } from '../../wire/time.js';
import type { CommandRecord } from './command.js';

export function toWireCommand(command: CommandRecord): Command {
  const { machine, machineName } = command;
  const result = toWireResult(command.result ?? NO_RESULT);
  return {
    id: command.id,
    machine: command.machine,
    machineName: command.machineName,
    service: command.service,
    action: toWireAction(command.action),
    outcome: toWireOutcome(command.outcome),
    message: command.message,
    created: toDate(command.createdMs),
    delivered: toDate(command.deliveredMs),
    started: toDate(command.startedMs),
    ended: toDate(command.endedMs),
    expires: toDate(command.expiresMs),
    unknownSince: toDate(command.unknownSinceMs),
    createdBy: command.createdBy,
    reason: command.reason,
    operation: command.turn?.operation ?? '',
    position: command.turn?.position ?? 0,
    canary: command.turn?.canary ?? false,
    ...result,
    backup: result.backup && { ...result.backup, machine, machineName },
  };
}
