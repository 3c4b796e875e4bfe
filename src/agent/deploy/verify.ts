import { sleep, type Clock } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import type { CheckResult, InstanceReport } from '../../model/instance.js';
import type { Manifest } from '../../model/manifest.js';
import type { Hold } from '../ports.js';
import { StepFailed } from './failure.js';

/** How long ports and ping may take to pass where the manifest says nothing of a verify. */
const TIMEOUT_MS = 60_000;
const LOOK_EVERY_MS = 50;

/** What must pass for a service to be as its manifest says. */
export type Standing = 'passing' | 'waiting' | 'ended';

/** A service as it was started, and what was known of its checks then. */
export type Started = Pick<InstanceReport, 'pid' | 'restarts'> & Partial<Pick<InstanceReport, 'checks'>>;

/**
 * How far a service is, by its latest report. Results from before its start do not count; those that came since this was looked at do, also
 * where the clock was set back meanwhile.
 * `ended`: it does not run any more, or was started again by itself meanwhile.
 */
export function standing(report: InstanceReport | undefined, started: Started): Standing {
  if (report?.state !== 'RUNNING') return report?.state === 'STARTING' ? 'waiting' : 'ended';
  if (report.pid !== started.pid || report.restarts !== started.restarts) return 'ended';
  return report.checks.every((check) => hasPassed(check, report, started)) ? 'passing' : 'waiting';
}

function hasPassed(
  { name, health, lastRunMs }: CheckResult,
  { startedMs }: InstanceReport,
  { checks = [] }: Started,
): boolean {
  if (health !== 'PASSING' || lastRunMs === undefined) return false;
  const before = checks.find((check) => check.name === name);
  return lastRunMs >= (startedMs ?? 0) || (before !== undefined && before.lastRunMs !== lastRunMs);
}

/**
 * Waits until every port and the ping pass; resolves with what passed.
 * @throws StepFailed when the service ends, or not all pass in time
 */
export async function checksPass(hold: Hold, manifest: Manifest, clock: Clock): Promise<readonly string[]> {
  const timeoutMs = manifest.verify?.timeoutMs ?? TIMEOUT_MS;
  const untilMs = clock.monotonic() + timeoutMs;
  const started: Started = hold.report() ?? { pid: 0, restarts: 0 };
  for (;;) {
    const report = hold.report();
    const now = standing(report, started);
    if (now === 'passing') return (report?.checks ?? []).map(({ name }) => name);
    if (now === 'ended') throw await ended(hold, report);
    if (clock.monotonic() >= untilMs) {
      const why = `not healthy within ${formatDuration(timeoutMs)}: ${failing(report).join('; ')}`;
      throw new StepFailed(why, { output: await lastOutputOf(hold) });
    }
    await sleep(clock, LOOK_EVERY_MS);
  }
}

/** Runs the verify program of the manifest, and looks at the service once more. @throws StepFailed */
export async function programPasses(hold: Hold, manifest: Manifest, directory: string): Promise<readonly string[]> {
  const source = hold.source();
  if (!manifest.verify || !source) return [];
  const started = hold.report() ?? { pid: 0, restarts: 0 };
  const { exec, timeoutMs } = manifest.verify;
  const { code, output, timedOut } = await hold.run(source, { argv: exec, directory, timeoutMs });
  const program = exec.join(' ');
  if (timedOut) throw new StepFailed(`${program} did not end within ${formatDuration(timeoutMs)}`, { output });
  if (code !== 0) {
    throw new StepFailed(code === undefined ? `${program} was ended by a signal` : `${program} exited with ${code}`, {
      exitCode: code,
      output,
    });
  }
  const report = hold.report();
  if (standing(report, started) === 'ended') throw await ended(hold, report);
  return [program];
}

async function ended(hold: Hold, report: InstanceReport | undefined): Promise<StepFailed> {
  const reason = report?.reason ?? '';
  return new StepFailed(`the service did not stay up${reason === '' ? '' : `: ${reason}`}`, {
    exitCode: report?.exitCode,
    output: await lastOutputOf(hold),
  });
}

/** The end of what the service printed; empty where that is not known. */
export async function lastOutputOf(hold: Hold): Promise<string> {
  try {
    return (await hold.lastOutput()).join('\n');
  } catch {
    // It is about a failure that is told anyway.
    return '';
  }
}

function failing(report: InstanceReport | undefined): readonly string[] {
  const open = (report?.checks ?? []).filter(({ health }) => health !== 'PASSING');
  if (open.length === 0) return ['its checks have not run since it started'];
  return open.map(
    ({ name, health, output }) => `${name} is ${health}${output === '' ? '' : ` (${output.slice(0, 200)})`}`,
  );
}
