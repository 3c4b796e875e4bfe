import type {
  Action as WireAction,
  Check,
  Driver as WireDriver,
  Health as WireHealth,
  Outcome as WireOutcome,
  ServiceState as WireState,
} from '../../generated/muster/v1/types.js';
import type { InstanceSummary as WireSummary } from '../../generated/muster/v1/center.js';
import { Instance } from '../../generated/muster/v1/types.js';
import {
  ACTIONS,
  COMMAND_KINDS,
  DRIVERS,
  HEALTHS,
  OUTCOMES,
  SERVICE_STATES,
  type Action,
  type CheckResult,
  type CommandKind,
  type Driver,
  type Health,
  type InstanceReport,
  type InstanceSummary,
  type Outcome,
  type ServiceState,
} from '../model/instance.js';
import { fromWireRelease, fromWireStep, toWireRelease, toWireStep } from './release.js';
import { fromDate, fromDuration, toDate, toDuration } from './time.js';

/** Instances and their words, between the contracts and the domain. Center and agent both speak them. */

/** The domain word behind an enum's wire name, or `fallback` for one this version does not know. */
function word<W extends string>(words: readonly W[], prefix: string, wire: string, fallback: W): W {
  return words.find((candidate) => `${prefix}_${candidate.toUpperCase()}` === wire) ?? fallback;
}

export const toWireState = (state: ServiceState): WireState => `SERVICE_STATE_${state}`;
export const toWireHealth = (health: Health): WireHealth => `HEALTH_${health}`;
export const toWireAction = (action: CommandKind): WireAction => `ACTION_${action}`;
export const toWireOutcome = (outcome: Outcome): WireOutcome => `OUTCOME_${outcome}`;

export function toWireDriver(driver: Driver): WireDriver {
  return `DRIVER_${driver.toUpperCase() as Uppercase<Driver>}`;
}

export const fromWireState = (wire: WireState): ServiceState => word(SERVICE_STATES, 'SERVICE_STATE', wire, 'STOPPED');
export const fromWireHealth = (wire: WireHealth): Health => word(HEALTHS, 'HEALTH', wire, 'UNKNOWN');
export const fromWireOutcome = (wire: WireOutcome): Outcome => word(OUTCOMES, 'OUTCOME', wire, 'UNKNOWN');
export const fromWireDriver = (wire: WireDriver): Driver => word(DRIVERS, 'DRIVER', wire, 'process');

/** Undefined for an action this version does not know: it must be refused, never guessed. */
export function fromWireAction(wire: WireAction): Action | undefined {
  return ACTIONS.find((action) => toWireAction(action) === wire);
}

/** Like fromWireAction, for what a command can be. */
export function fromWireCommandKind(wire: WireAction): CommandKind | undefined {
  return COMMAND_KINDS.find((kind) => toWireAction(kind) === wire);
}

export function toWireSummary({ state, pid, version, health }: InstanceSummary): WireSummary {
  return { state: toWireState(state), pid, version, health: toWireHealth(health) };
}

/** Of a version a peer tells of. */
const VERSION_CHARACTERS_MAX = 200;

export function fromWireSummary({ state, pid, version, health }: WireSummary): InstanceSummary {
  return {
    state: fromWireState(state),
    pid,
    version: version.slice(0, VERSION_CHARACTERS_MAX),
    health: fromWireHealth(health),
  };
}

const CHECK_KINDS: readonly CheckResult['kind'][] = ['tcp', 'http', 'grpc', 'exec', 'ttl'];

function toWireCheck(check: CheckResult): Check {
  return {
    name: check.name,
    kind: check.kind,
    health: toWireHealth(check.health),
    since: toDate(check.sinceMs),
    lastRun: toDate(check.lastRunMs),
    took: toDuration(check.tookMs),
    output: check.output,
    streak: check.streak,
  };
}

function fromWireCheck(check: Check): CheckResult {
  return {
    name: check.name,
    kind: CHECK_KINDS.find((kind) => kind === check.kind) ?? 'tcp',
    health: fromWireHealth(check.health),
    sinceMs: fromDate(check.since) ?? 0,
    lastRunMs: fromDate(check.lastRun),
    tookMs: fromDuration(check.took) ?? 0,
    output: check.output,
    streak: check.streak,
  };
}

/** The contract's instance. What only the sender knows (machine, configuration, unknown_since, labels) is left empty for it to fill in. */
export function toWireInstance(report: InstanceReport): Instance {
  return {
    ...Instance.create(),
    service: report.service,
    version: report.version,
    driver: toWireDriver(report.driver),
    state: toWireState(report.state),
    since: toDate(report.sinceMs),
    health: toWireHealth(report.health),
    pid: report.pid,
    wanted: report.wanted,
    reason: report.reason,
    exitCode: report.exitCode,
    exitSignal: report.exitSignal,
    restarts: report.restarts,
    checks: report.checks.map(toWireCheck),
    generation: report.generation,
    logDirectory: report.logDirectory,
    started: toDate(report.startedMs),
    ...toWireDeployed(report),
  };
}

export function fromWireInstance(instance: Instance): InstanceReport {
  return {
    service: instance.service,
    version: instance.version,
    driver: fromWireDriver(instance.driver),
    state: fromWireState(instance.state),
    sinceMs: fromDate(instance.since) ?? 0,
    health: fromWireHealth(instance.health),
    pid: instance.pid,
    wanted: instance.wanted,
    reason: instance.reason,
    exitCode: instance.exitCode,
    exitSignal: instance.exitSignal,
    restarts: instance.restarts,
    checks: instance.checks.map(fromWireCheck),
    generation: instance.generation,
    logDirectory: instance.logDirectory,
    startedMs: fromDate(instance.started),
    ...fromWireDeployed(instance),
  };
}

type WireDeployed = Pick<Instance, 'release' | 'deployed' | 'heldReleases' | 'deploying' | 'verified'>;

function toWireDeployed({ release, heldReleases = [], deploying }: InstanceReport): WireDeployed {
  return {
    release: release && toWireRelease(release.ref),
    deployed: toDate(release?.deployedMs),
    heldReleases: heldReleases.map(toWireRelease),
    deploying: toWireStep(deploying),
    verified: release?.verified ?? false,
  };
}

/** Releases a peer tells of for one instance. */
const HELD_RELEASES_MAX = 100;

function fromWireDeployed({
  release,
  deployed,
  heldReleases,
  deploying,
  verified,
}: WireDeployed): Pick<InstanceReport, 'release' | 'heldReleases' | 'deploying'> {
  const step = fromWireStep(deploying);
  return {
    ...(release ? { release: { ref: fromWireRelease(release), deployedMs: fromDate(deployed) ?? 0, verified } } : {}),
    ...(heldReleases.length > 0 ? { heldReleases: heldReleases.slice(0, HELD_RELEASES_MAX).map(fromWireRelease) } : {}),
    ...(step === undefined ? {} : { deploying: step }),
  };
}
