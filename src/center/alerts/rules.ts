import type { CheckResult, InstanceReport, ServiceState } from '../../model/instance.js';
import type { InstanceView } from '../fleet/instances.js';
import { judgeBackups, type BackupFacts } from './backup-rules.js';
import type { AlertKey, Finding, Verdict } from './verdicts.js';
import { RESTARTS_MANY, RESTARTS_WINDOW_MS, type Restarted } from './restarts.js';

export type { AlertKey, Finding, Severity, Verdict } from './verdicts.js';

/** A clock further off than this is said. */
export const CLOCK_SKEW_MAX_MS = 30_000;
/** A duplicate is over when it was not seen for this long. */
export const DUPLICATE_QUIET_MS = 5 * 60_000;
/** Bytes of a check's output that an alert's message quotes, roughly. */
const OUTPUT_QUOTED_CHARACTERS = 300;

/** An instance with what its reports said of restarts. */
export interface InstanceFacts extends InstanceView {
  readonly restarted: Restarted;
}

export interface MachineFacts {
  readonly machine: string;
  readonly name: string;
  readonly online: boolean;
  /** How long it has been without contact, monotonic; counted from the center's start where it was offline then. */
  readonly silentMs: number;
  /** Silence after which it counts as offline. */
  readonly graceMs: number;
  readonly everConnected: boolean;
  readonly clockSkewMs: number | undefined;
  /** How long ago a second agent with its identity was refused, and from where; undefined: not since the start. */
  readonly duplicate: { readonly agoMs: number; readonly address: string } | undefined;
  readonly instances: readonly InstanceFacts[];
  /** Assignments its agent could not apply. */
  readonly failedAssignments: readonly { readonly service: string; readonly error: string }[];
  /** Of services with a backup policy; undefined: none has one. */
  readonly backups?: readonly BackupFacts[];
}

export function keyText(key: AlertKey): string {
  return [key.kind, key.machine, key.service, key.check].join('\n');
}

/**
 * Everything that is wrong with a machine, or unsure, by these facts. What is not in the answer is well.
 * While a machine is away, what was said of its instances stands: nobody can say better. So it does of one that is being deployed.
 */
export function judgeMachine(facts: MachineFacts): Verdict[] {
  return [
    ...judgeContact(facts),
    ...judgeDuplicate(facts),
    ...judgeClock(facts),
    ...judgeAssignments(facts),
    ...judgeInstances(facts),
    ...judgeBackups({ ...facts, backups: facts.backups ?? [] }),
  ];
}

function wrong(finding: Finding): Verdict {
  return { is: 'wrong', finding };
}

function judgeContact(facts: MachineFacts): Verdict[] {
  const key = { kind: 'machine_offline', machine: facts.machine, service: '', check: '' };
  if (facts.online) return [];
  if (facts.silentMs < facts.graceMs) return [{ is: 'unsure', key }];
  const message = `machine ${facts.name} ${facts.everConnected ? 'is not connected' : 'has never connected'}`;
  return [wrong({ ...key, severity: 'CRITICAL', message })];
}

function judgeDuplicate({ machine, name, duplicate }: MachineFacts): Verdict[] {
  if (!duplicate || duplicate.agoMs > DUPLICATE_QUIET_MS) return [];
  const message =
    `two agents run with the identity of machine ${name}: the second one, from ${duplicate.address}, is refused. ` +
    'If a machine was cloned, delete the identity directory of the copy and join it with a name of its own';
  return [wrong({ kind: 'duplicate_identity', machine, service: '', check: '', severity: 'CRITICAL', message })];
}

/** How far off a clock is said to be, whole seconds; 0 where it is not worth a word. */
export function skewSaid(clockSkewMs: number | undefined): number {
  if (clockSkewMs === undefined || Math.abs(clockSkewMs) <= CLOCK_SKEW_MAX_MS) return 0;
  return Math.round(clockSkewMs / 1000);
}

function judgeClock({ machine, name, clockSkewMs }: MachineFacts): Verdict[] {
  const seconds = skewSaid(clockSkewMs);
  if (seconds === 0) return [];
  const side = seconds < 0 ? 'behind' : 'ahead of';
  const message = `the clock of machine ${name} is ${Math.abs(seconds)} s ${side} the center's: set it right`;
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

function judgeInstance({ machine, name }: MachineFacts, instance: InstanceFacts): Verdict[] {
  const { report, restarted } = instance;
  if (isMuted(instance)) return mutedVerdicts(machine, report);
  const subject = { machine, name, known: instance.unknownSinceMs === undefined };
  return [
    ...judgeChecks(subject, report),
    ...judgeFatal(subject, report),
    ...judgeStopped(subject, report),
    ...judgeRestarting(subject, report, restarted),
  ];
}

/**
 * A release of it is being deployed or put back: how it is meanwhile is not how it is. What was said before stands, until that has ended.
 * When contact is lost nobody knows whether it still goes on: then it is judged as any instance of a machine that is away.
 */
function isMuted({ report, unknownSinceMs }: InstanceFacts): boolean {
  return report.deploying !== undefined && unknownSinceMs === undefined;
}

const STATE_KINDS = ['service_fatal', 'service_stopped', 'service_restarting'] as const;

function mutedVerdicts(machine: string, { service }: InstanceReport): Verdict[] {
  const states = STATE_KINDS.map((kind): Verdict => ({ is: 'unsure', key: { kind, machine, service, check: '' } }));
  return [...states, { is: 'unchecked', service }];
}

/** Nothing is checked while nothing runs: of a service that is wanted, what was found before stands until it runs again. */
function judgeChecks({ machine, name, known }: StateSubject, report: InstanceReport): Verdict[] {
  const { service, checks, wanted, state } = report;
  if (checks.length > 0) return checks.flatMap((check) => judgeCheck({ machine, name, service, known, wanted }, check));
  return !known || (wanted && state !== 'RUNNING') ? [{ is: 'unchecked', service }] : [];
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

/** Does not stay up: it waits for its restart, or has been restarted again and again. Over when it has stayed up, or rests. */
function judgeRestarting({ machine, name, known }: StateSubject, report: InstanceReport, past: Restarted): Verdict[] {
  const { service, state, wanted } = report;
  const key = { kind: 'service_restarting', machine, service, check: '' };
  if (!known) return [{ is: 'unsure', key }];
  if (!wanted || isResting(state)) return [];
  if (state === 'BACKOFF' || past.recent >= RESTARTS_MANY) {
    const why = past.reason || `it was restarted ${past.recent} times within 5 minutes`;
    return [wrong({ ...key, severity: 'WARNING', message: `service ${service} on ${name} does not stay up: ${why}` })];
  }
  return state === 'RUNNING' && past.quietMs >= RESTARTS_WINDOW_MS ? [] : [{ is: 'unsure', key }];
}

/** Nothing will start it but a command; other alerts say so where it is not as it should be. */
function isResting(state: ServiceState): boolean {
  return state === 'STOPPED' || state === 'EXITED' || state === 'FATAL';
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
