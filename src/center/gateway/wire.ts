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
import { toWireBackupOrder } from '../../wire/backup.js';
import { fromWireInstance, fromWireOutcome, toWireAction } from '../../wire/instance.js';
import { fromWireResult } from '../../wire/command-result.js';
import { toWireSearch } from '../../wire/log-search.js';
import { toWireDeployOrder, toWireRollbackOrder } from '../../wire/release.js';
import { fromDate, toDuration } from '../../wire/time.js';
import { CHECK_OUTPUT_BYTES_MAX, type InstanceReport } from '../../model/instance.js';
import type { Inventory } from '../../model/machine.js';
import type { InstanceRecord } from '../fleet/instances.js';
import type { Applied, AppliedPhase, CommandOrder, CommandReport, Desired, Held, TailOrder } from './parts.js';

/** Checks kept of an instance. */
const CHECKS_MAX = 16;
const TEXT_CHARACTERS_MAX = 2000;
/** Of a version, a name of a check or of a signal. */
const WORD_CHARACTERS_MAX = 200;
const PATH_CHARACTERS_MAX = 4096;
/** Of what all checks of an instance said; each may have its equal share. */
const CHECK_OUTPUTS_CHARACTERS_MAX = 16 * 1024;
/** Disks, and network interfaces, kept of a machine. */
const INVENTORY_ITEMS_MAX = 200;

type DownFrame = NonNullable<ConnectResponse['frame']>;

export function fromWireHeld(held: HeldAssignment): Held {
  return { service: held.service, generation: held.generation, configRevision: held.configRevision };
}

/** The machine is the session's own, whatever the message says. */
export function fromWireInstanceOf(machine: string, instance: Instance): InstanceRecord {
  return {
    machine,
    report: bounded(fromWireInstance(instance)),
    configHeld: instance.configRevision,
    configApplied: instance.configApplied,
  };
}

/** What an agent reports is kept and sent on: so much of it and no more, whoever the agent is. */
function bounded(report: InstanceReport): InstanceReport {
  const checks = report.checks.slice(0, CHECKS_MAX);
  const share = Math.min(CHECK_OUTPUT_BYTES_MAX, Math.floor(CHECK_OUTPUTS_CHARACTERS_MAX / Math.max(checks.length, 1)));
  return {
    ...report,
    version: report.version.slice(0, WORD_CHARACTERS_MAX),
    reason: report.reason.slice(0, TEXT_CHARACTERS_MAX),
    exitSignal: report.exitSignal.slice(0, WORD_CHARACTERS_MAX),
    logDirectory: report.logDirectory.slice(0, PATH_CHARACTERS_MAX),
    checks: checks.map((check) => ({
      ...check,
      name: check.name.slice(0, WORD_CHARACTERS_MAX),
      output: check.output.slice(0, share),
    })),
  };
}

export function boundedInventory(inventory: Inventory): Inventory {
  return {
    ...inventory,
    disks: inventory.disks.slice(0, INVENTORY_ITEMS_MAX),
    interfaces: inventory.interfaces.slice(0, INVENTORY_ITEMS_MAX),
  };
}

export function fromWireUpdate(update: CommandUpdate): CommandReport {
  return {
    command: update.command,
    outcome: fromWireOutcome(update.outcome),
    message: update.message.slice(0, TEXT_CHARACTERS_MAX),
    startedMs: fromDate(update.started),
    endedMs: fromDate(update.ended),
    result: fromWireResult(update),
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
  return (
    phase && {
      service: applied.service,
      generation: applied.generation,
      phase,
      error: applied.error.slice(0, TEXT_CHARACTERS_MAX),
    }
  );
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
    search: order.search && toWireSearch(order.search),
    deploy: order.deploy && toWireDeployOrder(order.deploy),
    rollback: order.rollback && toWireRollbackOrder(order.rollback),
    backup: order.backup && toWireBackupOrder(order.backup),
  };
  return { $case: 'command', value };
}

export function tailFrame(order: TailOrder): DownFrame {
  const value: WireCommandOrder = {
    command: order.command,
    action: 'ACTION_UNSPECIFIED',
    service: order.service,
    expiresIn: undefined,
    tail: { lines: order.lines, follow: order.follow, position: order.position, file: order.file },
    search: undefined,
    deploy: undefined,
    rollback: undefined,
    backup: undefined,
  };
  return { $case: 'command', value };
}
