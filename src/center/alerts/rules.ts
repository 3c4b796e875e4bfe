import type { CheckResult, InstanceReport } from '../../model/instance.js';
import type { InstanceView } from '../fleet/instances.js';

export type Severity = 'WARNING' | 'CRITICAL';

/** What tells one alert from another; at most one with a key is raised at a time. */
export interface AlertKey {
  /** machine_offline, port_down, ping_failing, service_fatal, service_stopped, duplicate_identity, clock_skew, assignment_failed. */
  readonly kind: string;
  /** Machine id. */
  readonly machine: string;
  /** Empty where it is about the machine. */
  readonly service: string;
  /** Name of the check; empty where it is about no check. */
  readonly check: string;
}

export interface Finding extends AlertKey {
  readonly severity: Severity;
  readonly message: string;
}

/** A clock further off than this is said. */
export const CLOCK_SKEW_MAX_MS = 30_000;
/** A duplicate is over when it was not seen for this long. */
export const DUPLICATE_QUIET_MS = 5 * 60_000;
/** Bytes of a check's output that an alert's message quotes, roughly. */
const OUTPUT_QUOTED_CHARACTERS = 300;

export interface MachineFacts {
  readonly machine: string;
  readonly name: string;
  readonly online: boolean;
  /** How long it has been without contact, monotonic; counted from the center's start where it was offline then. */
  readonly silentMs: number;
  /** Silence after which it counts as offline. */
  readonly graceMs: number;
  readonly lastContactMs: number | undefined;
  readonly clockSkewMs: number | undefined;
  /** How long ago a second agent with its identity was refused, and from where; undefined: not since the start. */
  readonly duplicate: { readonly agoMs: number; readonly address: string } | undefined;
  readonly instances: readonly InstanceView[];
  /** Assignments its agent could not apply. */
  readonly failedAssignments: readonly { readonly service: string; readonly error: string }[];
}

/** A verdict on one key: it is wrong now, it is well now, or nobody can say (then what was said before stands). */
export type Verdict =
  { readonly is: 'wrong'; readonly finding: Finding } | { readonly is: 'unsure'; readonly key: AlertKey };

export function keyText(key: AlertKey): string {
  return [key.kind, key.machine, key.service, key.check].join('\n');
}

/**
 * Everything that is wrong with a machine, or unsure, by these facts. What is not in the answer is well.
 * While a machine is away, what was said of its instances stands: nobody can say better.
 */
export function judgeMachine(facts: MachineFacts): Verdict[] {
  return [
    ...judgeContact(facts),
    ...judgeDuplicate(facts),
    ...judgeClock(facts),
    ...judgeAssignments(facts),
    ...judgeInstances(facts),
  ];
}

function wrong(finding: Finding): Verdict {
  return { is: 'wrong', finding };
}

function judgeContact(facts: MachineFacts): Verdict[] {
  const key = { kind: 'machine_offline', machine: facts.machine, service: '', check: '' };
  if (facts.online) return [];
  if (facts.silentMs < facts.graceMs) return [{ is: 'unsure', key }];
  const last =
    facts.lastContactMs === undefined
      ? 'it never connected'
      : `last contact ${new Date(facts.lastContactMs).toISOString()}`;
  return [wrong({ ...key, severity: 'CRITICAL', message: `machine ${facts.name} is offline: ${last}` })];
}

function judgeDuplicate({ machine, name, duplicate }: MachineFacts): Verdict[] {
  if (!duplicate || duplicate.agoMs > DUPLICATE_QUIET_MS) return [];
  const message =
    `two agents run with the identity of machine ${name}: the second one, from ${duplicate.address}, is refused. ` +
    'If a machine was cloned, delete the identity directory of the copy and join it with a name of its own';
  return [wrong({ kind: 'duplicate_identity', machine, service: '', check: '', severity: 'CRITICAL', message })];
}

function judgeClock({ machine, name, clockSkewMs }: MachineFacts): Verdict[] {
  if (clockSkewMs === undefined || Math.abs(clockSkewMs) <= CLOCK_SKEW_MAX_MS) return [];
  const side = clockSkewMs < 0 ? 'behind' : 'ahead of';
  const message = `the clock of machine ${name} is ${Math.round(Math.abs(clockSkewMs) / 1000)} s ${side} the center's: set it right`;
  return [wrong({ kind: 'clock_skew', machine, service: '', check: '', severity: 'WARNING', message })];
}

function judgeAssignments({ machine, failedAssignments }: MachineFacts): Verdict[] {
  return failedAssignments.map(({ service, error }) =>
    wrong({
      kind: 'assignment_failed',
      machine,
      service,
      check: '',
      severity: 'CRITICAL',
      message: `service ${service} could not be taken over: ${error}`,
    }),
  );
}

function judgeInstances(facts: MachineFacts): Verdict[] {
  return facts.instances.flatMap((instance) => judgeInstance(facts, instance));
}

function judgeInstance({ machine, name }: MachineFacts, { report, unknownSinceMs }: InstanceView): Verdict[] {
  const { service } = report;
  const known = unknownSinceMs === undefined;
  const verdicts = report.checks.flatMap((check) =>
    judgeCheck({ machine, name, service, known, wanted: report.wanted }, check),
  );
  return [
    ...verdicts,
    ...judgeFatal({ machine, name, known }, report),
    ...judgeStopped({ machine, name, known }, report),
  ];
}

interface StateSubject {
  readonly machine: string;
  readonly name: string;
  readonly known: boolean;
}

function judgeFatal({ machine, name, known }: StateSubject, { service, state, reason }: InstanceReport): Verdict[] {
  const key = { kind: 'service_fatal', machine, service, check: '' };
  if (!known) return [{ is: 'unsure', key }];
  if (state !== 'FATAL') return [];
  const message = `service ${service} on ${name} is FATAL: ${reason || 'it could not be kept running'}`;
  return [wrong({ ...key, severity: 'CRITICAL', message })];
}

/** Stopped by others than us: wanted to run, and left as they want it. */
function judgeStopped({ machine, name, known }: StateSubject, { service, ...report }: InstanceReport): Verdict[] {
  const key = { kind: 'service_stopped', machine, service, check: '' };
  if (!known) return [{ is: 'unsure', key }];
  if (!report.wanted || report.state !== 'STOPPED' || report.reason === '') return [];
  const message =
    `service ${service} on ${name} is wanted to run and does not: ${report.reason}. ` +
    `"muster start ${service}" starts it, "muster stop ${service}" says that it shall rest`;
  return [wrong({ ...key, severity: 'WARNING', message })];
}

interface CheckSubject {
  readonly machine: string;
  readonly name: string;
  readonly service: string;
  readonly known: boolean;
  readonly wanted: boolean;
}

/** A service that is not wanted to run fails no check. A check that has just begun to fail, or has not run yet, changes nothing. */
function judgeCheck({ machine, name, service, known, wanted }: CheckSubject, check: CheckResult): Verdict[] {
  const ping = check.name === 'ping';
  const key = { kind: ping ? 'ping_failing' : 'port_down', machine, service, check: check.name };
  if (!known) return [{ is: 'unsure', key }];
  if (!wanted || check.health === 'PASSING') return [];
  if (check.health !== 'CRITICAL') return [{ is: 'unsure', key }];
  const output = check.output === '' ? '' : `: ${check.output.slice(0, OUTPUT_QUOTED_CHARACTERS)}`;
  const what = ping
    ? `ping of service ${service} on ${name} fails`
    : `${check.name} of service ${service} on ${name} is down`;
  return [wrong({ ...key, severity: 'CRITICAL', message: `${what}${output}` })];
}
