import { formatDuration } from '../../kit/durations.js';
import type { DeployReport, DeployStepReport, ReleaseRef } from '../../model/release.js';
import type { Before, Deploy, DeployEnd } from './deploy.js';

/** What a deploy did, or has done so far. */
export function reportOf(deploy: Deploy): DeployReport {
  const { from, to, steps, before, at, backup, verified, downtimeMs } = deploy;
  return {
    from: from,
    to,
    steps,
    current: currentOf(deploy),
    rolledBack: before !== undefined && at.phase === 'ended' && at.outcome === 'FAILED' && wasPutBack(steps),
    verified,
    backup,
    downtimeMs,
  };
}

/** What the service runs from after the steps that were done. */
function currentOf({ steps, before, from, to }: Deploy): ReleaseRef | undefined {
  const switched = steps.filter(({ step, outcome }) => step === 'SWITCH' && outcome === 'DONE').at(-1);
  if (!switched) return from;
  return switched.undo ? before?.source?.release?.ref : to;
}

/** Every step of the undo was done, or had nothing to do. */
function wasPutBack(steps: readonly DeployStepReport[]): boolean {
  const undone = steps.filter(({ undo }) => undo);
  return undone.length > 0 && undone.every(({ outcome }) => outcome === 'DONE' || outcome === 'SKIPPED');
}

/** How it ended, in one sentence or two. */
export function endOf(deploy: Deploy): DeployEnd {
  const report = reportOf(deploy);
  const { at, failure } = deploy;
  if (at.phase === 'ended' && at.outcome === 'SUCCEEDED') {
    return { outcome: 'SUCCEEDED', message: succeeded(deploy), report };
  }
  const { exitCode, output } = failure ?? {};
  return {
    outcome: 'FAILED',
    message: `${failed(deploy)}. ${aftermath(deploy, report)}`,
    report,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(output === undefined ? {} : { output }),
  };
}

function succeeded({ to, before, verified, downtimeMs, kind }: Deploy): string {
  const what = kind === 'ROLLBACK' ? `back to ${to.version}` : to.version;
  if (before?.wanted === false) return `${what}; the service was stopped and stays so, so nothing was verified`;
  const checked = verified.length === 0 ? 'it stayed up' : `verified: ${verified.join(', ')}`;
  return `${what}, ${checked}${downtimeMs === undefined ? '' : `, down for ${formatDuration(downtimeMs)}`}`;
}

function failed({ to, failure, kind }: Deploy): string {
  const what = kind === 'ROLLBACK' ? `the rollback to ${to.version}` : to.version;
  return `${what} failed at ${failure?.step ?? 'the end'}: ${failure?.message ?? 'the agent ended too often'}`.replace(
    /\.$/,
    '',
  );
}

function aftermath(deploy: Deploy, report: DeployReport): string {
  const { before, steps } = deploy;
  if (before === undefined) return 'The service was not touched';
  const name = nameOf(before);
  const stuck = steps.find(({ undo, outcome }) => undo && outcome === 'FAILED');
  if (stuck) return `Look at the machine: ${stuckAt(stuck, name)}: ${stuck.message}`;
  if (name === '') return `There was no such service before, and there is none now${advice(deploy)}`;
  const { downtimeMs } = report;
  if (!before.wanted) return `${name} is back, stopped as it was`;
  const after = downtimeMs === undefined ? '' : `, after ${formatDuration(downtimeMs)}`;
  return `${name} runs again${after}${advice(deploy)}`;
}

/** What ended by itself does so again: only another version helps. */
function advice({ kind, failure }: Deploy): string {
  if (kind !== 'DEPLOY' || failure?.step !== 'START') return '';
  const ended = failure.message.includes(`ended with code ${failure.exitCode}`);
  return ended ? ': push a mended version and deploy that' : '';
}

function nameOf({ source }: Before): string {
  if (!source) return '';
  return source.release?.ref.version ?? 'what ran before';
}

function stuckAt({ step }: DeployStepReport, name: string): string {
  if (step === 'STOP') return `it could not be stopped, to put back ${name === '' ? 'that there was none' : name}`;
  if (step === 'SWITCH') return `${name === '' ? 'that there was none' : name} could not be put back`;
  return `${name} was put back and does not run as it should`;
}
