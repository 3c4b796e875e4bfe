import type { BackupOrder as WireBackupOrder } from '../../generated/muster/v1/center.js';
import type { Backup as WireBackup } from '../../generated/muster/v1/types.js';
import {
  BACKUP_PROBLEMS_MAX,
  BACKUP_STATUSES,
  BACKUP_TRIGGERS,
  type Backup,
  type BackupOrder,
} from '../model/backup.js';
import { fromDate, fromDuration, toDate, toDuration } from './time.js';

/** Backups between the contracts and the domain. What a peer tells is kept and sent on: so much of it and no more. */
const NAME_CHARACTERS_MAX = 200;
const TEXT_CHARACTERS_MAX = 1000;
const COPIES_MAX = 10;
const PATHS_MAX = 1000;

function clipped(text: string): string {
  return text.slice(0, NAME_CHARACTERS_MAX);
}

/** The contract's backup. What only the sender knows (machine and its name) is left empty for it to fill in. */
export function toWireBackup(backup: Backup): WireBackup {
  return {
    id: backup.id,
    machine: '',
    machineName: '',
    service: backup.service,
    version: backup.version,
    trigger: `BACKUP_TRIGGER_${backup.trigger}`,
    status: `BACKUP_STATUS_${backup.status}`,
    started: toDate(backup.startedMs),
    took: toDuration(backup.tookMs),
    bytes: backup.bytes,
    contentBytes: backup.contentBytes,
    files: backup.files,
    digest: backup.digest,
    problems: [...backup.problems],
    verified: toDate(backup.verifiedMs),
    verifyProblem: backup.verifyProblem,
    copies: [...backup.copies],
    copyProblem: backup.copyProblem,
    command: backup.command,
  };
}

export function fromWireBackup(wire: WireBackup): Backup {
  return {
    id: clipped(wire.id),
    service: clipped(wire.service),
    version: clipped(wire.version),
    trigger: BACKUP_TRIGGERS.find((trigger) => `BACKUP_TRIGGER_${trigger}` === wire.trigger) ?? 'MANUAL',
    status: BACKUP_STATUSES.find((status) => `BACKUP_STATUS_${status}` === wire.status) ?? 'ERROR',
    startedMs: fromDate(wire.started) ?? 0,
    tookMs: fromDuration(wire.took) ?? 0,
    bytes: wire.bytes,
    contentBytes: wire.contentBytes,
    files: wire.files,
    digest: clipped(wire.digest),
    problems: wire.problems.slice(0, BACKUP_PROBLEMS_MAX).map((problem) => problem.slice(0, TEXT_CHARACTERS_MAX)),
    verifiedMs: fromDate(wire.verified),
    verifyProblem: wire.verifyProblem.slice(0, TEXT_CHARACTERS_MAX),
    copies: wire.copies.slice(0, COPIES_MAX).map(clipped),
    copyProblem: wire.copyProblem.slice(0, TEXT_CHARACTERS_MAX),
    command: clipped(wire.command),
  };
}

export function toWireBackupOrder({ backup, paths, aside, stop = false }: BackupOrder): WireBackupOrder {
  return { backup, paths: [...paths], aside, stop };
}

export function fromWireBackupOrder(wire: WireBackupOrder | undefined): BackupOrder {
  return {
    backup: clipped(wire?.backup ?? ''),
    paths: (wire?.paths ?? []).slice(0, PATHS_MAX),
    aside: wire?.aside ?? false,
    stop: wire?.stop ?? false,
  };
}
