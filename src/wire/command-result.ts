import type { InstanceSummary } from '../../generated/muster/v1/center.js';
import type { Backup, DeployReport, SearchReport } from '../../generated/muster/v1/types.js';
import { COMMAND_OUTPUT_BYTES_MAX, type CommandResult } from '../model/command-result.js';
import { fromWireBackup, toWireBackup } from './backup.js';
import { fromWireSummary, toWireSummary } from './instance.js';
import { fromWireReport, toWireReport } from './log-search.js';
import { fromWireDeployReport, toWireDeployReport } from './release.js';

/** The fields in which CommandUpdate and Command carry a result. */
export interface WireResult {
  exitCode?: number | undefined;
  output: string;
  instance: InstanceSummary | undefined;
  search: SearchReport | undefined;
  deploy: DeployReport | undefined;
  backup: Backup | undefined;
}

export function toWireResult({ exitCode, output, instance, search, deploy, backup }: CommandResult): WireResult {
  return {
    exitCode,
    output: output ?? '',
    instance: instance && toWireSummary(instance),
    search: search && toWireReport(search),
    deploy: deploy && toWireDeployReport(deploy),
    backup: backup && toWireBackup(backup),
  };
}

/** What a peer tells is kept and sent on: so much of it and no more. */
export function fromWireResult({ exitCode, output, instance, search, deploy, backup }: WireResult): CommandResult {
  return {
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(output === '' ? {} : { output: output.slice(-COMMAND_OUTPUT_BYTES_MAX) }),
    ...(instance === undefined ? {} : { instance: fromWireSummary(instance) }),
    ...(search === undefined ? {} : { search: fromWireReport(search) }),
    ...(deploy === undefined ? {} : { deploy: fromWireDeployReport(deploy) }),
    ...(backup === undefined ? {} : { backup: fromWireBackup(backup) }),
  };
}
