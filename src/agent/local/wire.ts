import { Instance, type Backup as WireBackup } from '../../../generated/muster/v1/types.js';
import type { Backup } from '../../model/backup.js';
import type { InstanceReport } from '../../model/instance.js';
import { toWireBackup } from '../../wire/backup.js';
import { toWireInstance } from '../../wire/instance.js';
import type { ConfigRevisions } from '../link/frames.js';

/** What the machine knows of an instance beside its supervision. */
export interface InstanceSurroundings {
  /** Empty before the machine has joined. */
  readonly machine: string;
  readonly machineName: string;
  readonly config: ConfigRevisions;
}

export function toLocalInstance(
  report: InstanceReport,
  { machine, machineName, config }: InstanceSurroundings,
): Instance {
  return {
    ...toWireInstance(report),
    machine,
    machineName,
    configRevision: config.held,
    configApplied: config.applied,
  };
}

export function toLocalBackup(
  backup: Backup,
  { machine, machineName }: Pick<InstanceSurroundings, 'machine' | 'machineName'>,
): WireBackup {
  return { ...toWireBackup(backup), machine, machineName };
}

/** As the contract's JSON: the same that `muster ... --json` prints. */
export function instanceJson(report: InstanceReport, surroundings: InstanceSurroundings): unknown {
  return Instance.toJSON(toLocalInstance(report, surroundings));
}
