import type { CommandResult } from '../../src/model/command-result.js';
import type { DeployReport, DeployStep, ReleaseRef } from '../../src/model/release.js';

/** How far a deploy is: the steps before the last of them are done. */
export function deployReport(
  steps: readonly DeployStep[],
  facts: Partial<DeployReport> & { readonly from?: ReleaseRef | undefined } = {},
): DeployReport {
  return {
    from: undefined,
    to: undefined,
    steps: steps.map((step, index) => ({
      step,
      undo: false,
      outcome: index === steps.length - 1 ? 'RUNNING' : 'DONE',
      startedMs: index,
      tookMs: index === steps.length - 1 ? undefined : 1,
      message: '',
    })),
    current: undefined,
    rolledBack: false,
    verified: [],
    backup: '',
    downtimeMs: undefined,
    ...facts,
  };
}

export function deployed(from: ReleaseRef | undefined, to: ReleaseRef): { readonly result: CommandResult } {
  return { result: { deploy: deployReport(['SWITCH', 'START', 'VERIFY'], { from, to, current: to }) } };
}
