import type {
  Applied as WireApplied,
  Applied_Phase as WirePhase,
  Assignment,
  CommandOrder as WireCommandOrder,
  CommandUpdate,
  ConnectResponse,
  HeldAssignment,
} from '../../../generated/muster/v1/center.js';
import type { Instance } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../kit/errors.js';
import { fromWireInstance, fromWireOutcome, toWireAction } from '../../wire/instance.js';
import { fromDate, toDuration } from '../../wire/time.js';
import type { InstanceRecord } from '../fleet/instances.js';
import type { Applied, AppliedPhase, CommandOrder, CommandReport, Desired, Held, TailOrder } from './parts.js';

type DownFrame = NonNullable<ConnectResponse['frame']>;

export function fromWireHeld(held: HeldAssignment): Held {
  return { service: held.service, generation: held.generation, configRevision: held.configRevision };
}

/** The machine is the session's own, whatever the message says. */
export function fromWireInstanceOf(machine: string, instance: Instance): InstanceRecord {
  if (instance.service === '') {
    throw new MusterError('invalid', 'an instance without a service name was reported', { reason: 'FRAME' });
  }
  return {
    machine,
    report: fromWireInstance(instance),
    configHeld: instance.configRevision,
    configApplied: instance.configApplied,
  };
}

export function fromWireUpdate(update: CommandUpdate): CommandReport {
  return {
    command: update.command,
    outcome: fromWireOutcome(update.outcome),
    message: update.message,
    startedMs: fromDate(update.started),
    endedMs: fromDate(update.ended),
  };
}

/** Undefined for a phase this version does not know. */
function fromWirePhase(phase: WirePhase): AppliedPhase | undefined {
  switch (phase) {
    case 'PHASE_APPLYING':
      return 'applying';
    case 'PHASE_APPLIED':
      return 'applied';
    case 'PHASE_FAILED':
      return 'failed';
    case 'PHASE_UNSPECIFIED':
    case 'UNRECOGNIZED':
      return undefined;
  }
}

export function fromWireApplied(applied: WireApplied): Applied | undefined {
  const phase = fromWirePhase(applied.phase);
  return phase && { service: applied.service, generation: applied.generation, phase, error: applied.error };
}

export function assignmentFrame(desired: Desired): DownFrame {
  const value: Assignment = {
    service: desired.service,
    generation: desired.generation,
    manifest: desired.manifest,
    removed: desired.removed,
    configRevision: desired.configRevision,
    configHash: desired.configHash,
  };
  return { $case: 'assignment', value };
}

export function commandFrame(order: CommandOrder): DownFrame {
  const value: WireCommandOrder = {
    command: order.command,
    action: toWireAction(order.action),
    service: order.service,
    expiresIn: toDuration(order.expiresInMs),
    tail: undefined,
  };
  return { $case: 'command', value };
}

export function tailFrame(order: TailOrder): DownFrame {
  const value: WireCommandOrder = {
    command: order.command,
    action: 'ACTION_UNSPECIFIED',
    service: order.service,
    expiresIn: undefined,
    tail: { lines: order.lines, follow: order.follow },
  };
  return { $case: 'command', value };
}
