import { MusterError } from '../../kit/errors.js';
import type { CommandResult } from '../../model/command-result.js';
import { isFinal, type CommandKind, type Outcome } from '../../model/instance.js';
import type { CommandReport } from '../gateway/parts.js';

/** A one-off order to one instance, as it is stored. Times are wall-clock milliseconds. */
export interface CommandRecord {
  readonly id: string;
  /** Rises with each command: their order. */
  readonly number: number;
  readonly requestId: string;
  readonly machine: string;
  readonly machineName: string;
  readonly service: string;
  readonly action: CommandKind;
  readonly outcome: Outcome;
  /** What the agent said, or why it failed. */
  readonly message: string;
  readonly createdMs: number;
  readonly expiresMs: number;
  readonly deliveredMs: number | undefined;
  readonly startedMs: number | undefined;
  readonly endedMs: number | undefined;
  readonly unknownSinceMs: number | undefined;
  readonly createdBy: string;
  readonly reason: string;
  /**
   * Who asked to cancel it when it had been sent; of a target, why its operation did. Its agent is told, now or when it comes back.
   * Undefined: nobody.
   */
  readonly cancelBy?: string | undefined;
  readonly result?: CommandResult | undefined;
  /** Set for a target of an operation. */
  readonly turn?: Turn | undefined;
  /** Of a target that another operation deployed to and that is put back: the version it ran from before; empty: from no release. */
  readonly backTo?: string | undefined;
  /** Of a target that was given up since it takes too long: only its end is awaited. */
  readonly overdue?: boolean | undefined;
}

/** A target's place in its operation. */
export interface Turn {
  readonly operation: string;
  /** From 0. */
  readonly position: number;
  readonly canary: boolean;
}

/** How far an outcome is: a report may only move a command forward. */
const RANK: Readonly<Record<Outcome, number>> = {
  PENDING: 0,
  QUEUED: 0,
  DELIVERED: 1,
  UNKNOWN: 1,
  STARTED: 2,
  SUCCEEDED: 3,
  FAILED: 3,
  EXPIRED: 3,
  CANCELLED: 3,
};

/** Whether nobody will ever say more: the outcome is final, or the agent itself said that it cannot know. */
export function isSettled(command: CommandRecord): boolean {
  return isFinal(command.outcome) || (command.outcome === 'UNKNOWN' && command.endedMs !== undefined);
}

/** The command as it was sent to its agent. */
export function delivered(command: CommandRecord, nowMs: number): CommandRecord {
  return {
    ...command,
    outcome: 'DELIVERED',
    message: '',
    deliveredMs: command.deliveredMs ?? nowMs,
    unknownSinceMs: undefined,
  };
}

function ended(command: CommandRecord, outcome: Outcome, message: string, nowMs: number): CommandRecord {
  return { ...command, outcome, message, endedMs: nowMs, unknownSinceMs: undefined };
}

/** Its turn has come, and its machine is not connected: it waits, until `untilMs`. */
export function queued(command: CommandRecord, untilMs: number): CommandRecord {
  return isHeld(command) ? { ...command, outcome: 'QUEUED', expiresMs: untilMs } : command;
}

/** Whether it has not been sent. */
export function isHeld({ outcome }: CommandRecord): boolean {
  return outcome === 'PENDING' || outcome === 'QUEUED';
}

/** It cannot be run where it was to be. */
export function refused(command: CommandRecord, why: string, nowMs: number): CommandRecord {
  return isHeld(command) ? ended(command, 'FAILED', why, nowMs) : command;
}

/** What it is to do cannot be said any more, for example since its release was removed. It is not on its agent's disk. */
export function unsendable(command: CommandRecord, why: string, nowMs: number): CommandRecord {
  return ended(command, 'FAILED', `it was not sent: ${why}`, nowMs);
}

/** It takes too long: how far it is, its agent will say. */
export function overdue(command: CommandRecord, why: string, nowMs: number): CommandRecord {
  if (command.outcome !== 'DELIVERED' && command.outcome !== 'STARTED') return command;
  return { ...command, outcome: 'UNKNOWN', message: why, unknownSinceMs: nowMs, overdue: true };
}

/** Time ran out before it started. */
export function expired(command: CommandRecord, nowMs: number): CommandRecord {
  const message =
    command.deliveredMs === undefined
      ? 'the machine was not connected before the command expired; it will not run'
      : 'the agent never stored it before it expired; it will not run';
  return ended(command, 'EXPIRED', message, nowMs);
}

/** `by`: who cancelled it; of a target, why its operation did. */
export function cancelled(command: CommandRecord, by: string, nowMs: number): CommandRecord {
  if (command.turn) return ended(command, 'CANCELLED', `its agent never stored it and will not run it: ${by}`, nowMs);
  const when = command.deliveredMs === undefined ? 'it was sent' : 'its agent stored it; it will not run';
  return ended(command, 'CANCELLED', `cancelled by ${by} before ${when}`, nowMs);
}

/** Its machine was removed before it was sent. */
export function orphaned(command: CommandRecord, by: string, nowMs: number): CommandRecord {
  return ended(command, 'CANCELLED', `the machine was removed by ${by} before it was sent`, nowMs);
}

/** Its operation does not come to it any more. */
export function spared(command: CommandRecord, why: string, nowMs: number): CommandRecord {
  return ended(command, 'CANCELLED', `it was not ordered: ${why}`, nowMs);
}

/** It was sent and has not been seen to start: whether it can still be cancelled, its agent knows. The first to ask is kept. */
export function cancelRequested(command: CommandRecord, by: string): CommandRecord {
  return command.cancelBy === undefined ? { ...command, cancelBy: by } : command;
}

/** Whether somebody asked to cancel it, and it is not too late as far as is known. A search can be ended at any time. */
export function isCancelDue(command: CommandRecord): command is CommandRecord & { readonly cancelBy: string } {
  const { cancelBy, startedMs, action } = command;
  return cancelBy !== undefined && (startedMs === undefined || action === 'SEARCH') && !isSettled(command);
}

/** Contact with its machine is lost: nobody can say how far it is. A command that was never sent just waits on. */
export function contactLost(command: CommandRecord, nowMs: number): CommandRecord {
  if (command.outcome !== 'DELIVERED' && command.outcome !== 'STARTED') return command;
  const how = command.outcome === 'STARTED' ? 'started' : 'sent';
  const message = `contact with the machine was lost after the command was ${how}; its agent will say how it ended`;
  return { ...command, outcome: 'UNKNOWN', message, unknownSinceMs: nowMs };
}

/** The agent came back from a start and does not have a command on its disk that had started there. It is never run again. */
export function forgotten(command: CommandRecord, nowMs: number): CommandRecord {
  const message =
    'the command had started, and the agent has no record of it any more: nobody can say how it ended. It is not run again';
  return { ...command, outcome: 'UNKNOWN', message, endedMs: nowMs, unknownSinceMs: command.unknownSinceMs ?? nowMs };
}

/** The machine was removed: nobody will say how far a command that was sent had come. */
export function abandoned(command: CommandRecord, by: string, nowMs: number): CommandRecord {
  const message = `the machine was removed by ${by} after the command was sent: nobody can say how it ended`;
  return { ...command, outcome: 'UNKNOWN', message, endedMs: nowMs, unknownSinceMs: command.unknownSinceMs ?? nowMs };
}

/** What an agent's report makes of a command; the same object when it says nothing new. A settled command never changes. */
export function reported(command: CommandRecord, report: CommandReport, nowMs: number): CommandRecord {
  if (isSettled(command)) return command;
  if (report.outcome === 'UNKNOWN') return lostByAgent(command, report, report.endedMs ?? nowMs);
  if (goesBack(command, report.outcome)) return command;
  return { ...command, ...progress(command, report, nowMs), unknownSinceMs: undefined };
}

function progress(command: CommandRecord, report: CommandReport, nowMs: number): Partial<CommandRecord> {
  const { outcome, message } = report;
  const startedMs = outcome === 'STARTED' ? nowMs : command.startedMs;
  return {
    outcome,
    message,
    deliveredMs: command.deliveredMs ?? nowMs,
    startedMs: report.startedMs ?? startedMs,
    endedMs: isFinal(outcome) ? (report.endedMs ?? nowMs) : undefined,
    result: { ...parting(command.result), ...report.result },
  };
}

/** What stays of what was told of the way when an end says nothing of it. */
function parting(result: CommandResult | undefined): CommandResult {
  return result?.deploy ? { deploy: result.deploy } : {};
}

/** Whether a report says no more than how far a command is that is known to run, or was given up while it did. */
export function isProgress(command: CommandRecord, report: CommandReport): boolean {
  if (report.outcome !== 'STARTED' || isSettled(command)) return false;
  const { outcome, overdue: late, startedMs } = command;
  return outcome === 'STARTED' || (outcome === 'UNKNOWN' && late === true && startedMs !== undefined);
}

/** A command that runs, as far as its agent says that it is; the same object when that is no news, or it does not run any more. */
export function progressed(command: CommandRecord, report: CommandReport): CommandRecord {
  if (!isProgress(command, report)) return command;
  const { deploy, backup } = report.result;
  if (deploy === undefined && backup === undefined) return command;
  const result = { ...parting(command.result), ...report.result };
  return JSON.stringify(result) === JSON.stringify(command.result) ? command : { ...command, result };
}

/** The agent itself cannot know any more how it ended. */
function lostByAgent(command: CommandRecord, report: CommandReport, endedMs: number): CommandRecord {
  const message = report.message || 'the agent was restarted while the command ran: nobody can say how it ended';
  const startedMs = report.startedMs ?? command.startedMs;
  const result = { ...parting(command.result), ...report.result };
  return { ...command, outcome: 'UNKNOWN', message, endedMs, startedMs, unknownSinceMs: endedMs, result };
}

/** A report that is older than what is known, or no news. A lost command becomes known again at least as far as it had come. */
function goesBack(command: CommandRecord, outcome: Outcome): boolean {
  if (outcome === command.outcome || outcome === 'QUEUED' || outcome === 'PENDING') return true;
  if (command.outcome === 'UNKNOWN' && command.startedMs !== undefined) return RANK[outcome] < RANK.STARTED;
  return RANK[outcome] < RANK[command.outcome];
}

export type ResumeStep = 'leave' | 'send' | 'expire' | 'cancel' | 'give up';

/**
 * What to do with a command whose machine just connected and does not have it on its disk. An agent stores a command before it starts
 * it, so one that is not there and was never seen to start has not run: it may be sent (again). One that was seen to start is never
 * sent again.
 */
export function resumeStep(command: CommandRecord, nowMs: number): ResumeStep {
  // A target of an operation that was not ordered waits for its turn.
  if (isSettled(command) || (command.turn && isHeld(command))) return 'leave';
  if (command.startedMs !== undefined) return 'give up';
  if (isCancelDue(command)) return 'cancel';
  return command.expiresMs <= nowMs ? 'expire' : 'send';
}

/** What a person does to a target is done to its operation. */
export function partOfOperation(operation: string): MusterError {
  return new MusterError('precondition', `the command is a target of operation ${operation}: cancel that`, {
    reason: 'PART_OF_OPERATION',
    metadata: { operation },
  });
}
