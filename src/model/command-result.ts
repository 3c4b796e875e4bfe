import type { Backup } from './backup.js';
import type { InstanceSummary } from './instance.js';
import type { SearchReport } from './log-search.js';
import type { DeployReport } from './release.js';

/** What a command leaves beside its outcome and message; each part only where there is one. */
export interface CommandResult {
  /** Of the program that ended the command or the service. */
  readonly exitCode?: number | undefined;
  /** The end of what the service printed meanwhile, at most COMMAND_OUTPUT_BYTES_MAX bytes. */
  readonly output?: string | undefined;
  /** The instance after the command. */
  readonly instance?: InstanceSummary | undefined;
  /** What a search looked at. */
  readonly search?: SearchReport | undefined;
  /** What a deploy or rollback did, or has done so far. */
  readonly deploy?: DeployReport | undefined;
  /** What a backup, a verify or a restore was about. */
  readonly backup?: Backup | undefined;
}

export const NO_RESULT: CommandResult = {};
export const COMMAND_OUTPUT_BYTES_MAX = 4096;
