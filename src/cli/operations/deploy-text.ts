import type { Command } from '../../../generated/muster/v1/center.js';
import type { DeployReport, DeployStepReport, ReleaseRef } from '../../../generated/muster/v1/types.js';
import { formatDuration } from '../../kit/durations.js';
import { fromDuration } from '../../wire/time.js';
import { enumWord } from '../output.js';

/** What a deploy or a rollback does on one machine, in words. */

/** `VERIFY`; of what puts back what was before, `undo START`. */
function stepName({ step, undo }: DeployStepReport): string {
  return `${undo ? 'undo ' : ''}${enumWord('DEPLOY_STEP', step)}`;
}

/** The step that a target is at, also where it has just failed; undefined unless it is at one. */
export function stepText({ outcome, deploy }: Pick<Command, 'outcome' | 'deploy'>): string | undefined {
  const last = outcome === 'OUTCOME_STARTED' ? deploy?.steps.at(-1) : undefined;
  return last && `${stepName(last)}${last.outcome === 'STEP_OUTCOME_FAILED' ? ' failed' : ''}`;
}

/** `1.4.2`; what is no release at all, `none`. */
export function versionText(release: ReleaseRef | undefined): string {
  return release?.version ?? 'none';
}

/** `shared-lib 2.3.1, ui 1.0.0`. */
export function modulesText(modules: ReleaseRef['modules']): string {
  return modules.map(({ name, version }) => `${name} ${version}`).join(', ');
}

/** `240ms`; empty where it is not known. */
export function downtimeText({ downtime }: DeployReport): string {
  const ms = fromDuration(downtime);
  return ms === undefined ? '' : formatDuration(ms);
}

/** `1.4.1 -> 1.4.2`, `none -> 1.4.2`, `1.4.2 again`. */
export function changeText(from: ReleaseRef | undefined, to: ReleaseRef | undefined): string {
  if (to === undefined) return from === undefined ? '' : `${from.version} -> none`;
  return from?.digest === to.digest ? `${to.version} again` : `${versionText(from)} -> ${to.version}`;
}

function nowText({ current, rolledBack }: DeployReport): string {
  if (rolledBack)
    return current === undefined ? 'what was there before was put back' : `${current.version} was put back`;
  return current === undefined ? '' : `it runs from ${current.version}`;
}

/** What is said of a target on one line, beside its outcome, where its agent has not said it itself. */
export function deploySummary({ outcome, deploy, message }: Pick<Command, 'outcome' | 'deploy' | 'message'>): string {
  if (deploy === undefined || message !== '') return '';
  if (outcome === 'OUTCOME_STARTED') return deploy.steps.at(-1)?.message ?? '';
  return outcome === 'OUTCOME_SUCCEEDED' ? changeText(deploy.from, deploy.current) : nowText(deploy);
}

/** Whether people can read the exit code in the message already: `ended with code 3`, `exited with 3`. */
export function saysCode(message: string, exitCode: number): boolean {
  return new RegExp(`\\b(?:code|exited with) ${exitCode}\\b`).test(message);
}

const STEP_WIDTH = 'undo INSTALL'.length;
const TOOK_WIDTH = 7;

function stepMessage({ outcome, message, exitCode }: DeployStepReport): string {
  const told = exitCode === undefined || exitCode === 0 || saysCode(message, exitCode);
  const word = outcome === 'STEP_OUTCOME_DONE' ? '' : enumWord('STEP_OUTCOME', outcome).toLowerCase();
  return [word, told ? '' : `exit code ${exitCode}`, message].filter((part) => part !== '').join(': ');
}

/** Lines of the output of a failed step that are shown. */
const OUTPUT_LINES_SHOWN = 10;

function outputOf({ output, message }: DeployStepReport): string[] {
  const lines = output.trimEnd() === '' ? [] : output.trimEnd().split('\n');
  // `ended with code 2, saying "no such file"`: one line is not told twice.
  if (lines.every((line) => message.includes(`"${line.trim()}"`))) return [];
  const cut = lines.length - OUTPUT_LINES_SHOWN;
  return [...(cut > 0 ? [`(${cut} lines before)`] : []), ...lines.slice(-OUTPUT_LINES_SHOWN)].map(
    (line) => `  | ${line}`,
  );
}

function stepLines(step: DeployStepReport): string[] {
  const tookMs = step.outcome === 'STEP_OUTCOME_SKIPPED' ? undefined : fromDuration(step.took);
  const took = (tookMs === undefined ? '' : formatDuration(tookMs)).padStart(TOOK_WIDTH);
  const message = stepMessage(step).replaceAll('\n', '\n    ');
  return [`${stepName(step).padEnd(STEP_WIDTH)}${took}  ${message}`.trimEnd(), ...outputOf(step)];
}

/** What was done on one machine, step by step, and what that led to; to be indented. */
export function deployLines(deploy: DeployReport): string[] {
  const { from, to, current, verified, backup, steps } = deploy;
  const line = (name: string, text: string): string[] => (text === '' ? [] : [`${name.padEnd(STEP_WIDTH)}  ${text}`]);
  const same = current?.digest === to?.digest;
  return [
    ...steps.flatMap(stepLines),
    ...line('change', changeText(from, to)),
    ...line('now', same ? '' : nowText(deploy)),
    ...line('modules', modulesText(current?.modules ?? [])),
    ...line('verified', verified.join(', ')),
    ...line('downtime', downtimeText(deploy)),
    ...line('backup', backup),
  ];
}
