import { MusterError } from '../../kit/errors.js';
import type { Random } from '../../kit/random.js';
import type { CommandKind, Health, InstanceReport, ServiceState } from '../../model/instance.js';
import { explain, matches, parseSelector, requireKnown, type Selectable } from '../../model/selector.js';
import { unknownService } from '../fleet/unknown.js';
import { takesTurn } from './operation.js';
import type { Order, Strategy } from './strategy.js';

/** A machine that has the service, or with DEPLOY may get it, as the choice of targets needs to see it. */
export interface Candidate extends Selectable {
  readonly online: boolean;
  readonly agentVersion: string;
  /** Undefined: its agent has not said. */
  readonly capabilities: readonly string[] | undefined;
  /** Undefined: its agent has not told of the instance yet. */
  readonly state: ServiceState | undefined;
  /** Undefined while the state of the instance is not known. */
  readonly health: Health | undefined;
  /** The instance as its agent tells it; undefined: it has not, or does not now. */
  readonly report?: InstanceReport | undefined;
  /** The machine does not have the service: it can only be deployed to. */
  readonly absent?: boolean | undefined;
}

/** What the choice of targets asks of the fleet. */
export interface TargetFleet {
  /** Machines that have the service, or shall have it. */
  candidates(service: string): readonly Candidate[];
  /** One of them, as it is now; undefined when the machine was removed. */
  candidate(machine: string, service: string): Candidate | undefined;
  /** Every machine of the site, as one to which the service may be deployed. */
  anywhere(service: string): readonly Candidate[];
  /** One of them; undefined when it was removed. */
  somewhere(machine: string, service: string): Candidate | undefined;
  serviceNames(): readonly string[];
}

export interface Wanted {
  readonly action: CommandKind;
  readonly service: string;
  readonly selector: string;
  /** Ids of the machines it is limited to, whatever their labels are now; undefined: all that match. */
  readonly machines: readonly string[] | undefined;
  readonly strategy: Strategy;
}

export interface Target {
  readonly candidate: Candidate;
  /** What of the machine matched. */
  readonly why: string;
  readonly canary: boolean;
}

/** Targets of one operation. */
export const TARGETS_MAX = 20_000;
const NAMES_SHOWN = 10;

/**
 * The targets in the order of their turns, the canaries first: those are connected ones where there are enough.
 * @throws invalid for a selector that cannot be read; not_found when nothing matches, naming what is nearest
 */
export function chooseTargets(fleet: TargetFleet, wanted: Wanted, random: Random): Target[] {
  const { service, machines, strategy } = wanted;
  const selector = parseSelector(wanted.selector);
  const eligible = eligibleFor(fleet, wanted);
  // What was frozen once is not chosen again: labels may have changed since.
  const listed = machines && new Set(machines);
  if (!listed) requireKnown(selector, fleet.anywhere(service));
  const found = eligible.filter((one) => listed?.has(one.id) ?? matches(selector, one));
  if (found.length === 0) throw nothingMatches(wanted, eligible);
  if (found.length > TARGETS_MAX) {
    throw new MusterError('invalid', `${found.length} machines match; an operation may have ${TARGETS_MAX} targets`, {
      reason: 'TARGETS_MAX',
    });
  }
  const ordered = inOrder(found, strategy.order, random);
  const canaries = new Set(firstConnected(ordered, strategy.canary));
  const turns = [...ordered.filter((one) => canaries.has(one)), ...ordered.filter((one) => !canaries.has(one))];
  return turns.map((candidate) => ({
    candidate,
    why: explain(selector, candidate) || `has ${service}`,
    canary: canaries.has(candidate),
  }));
}

/** Machines that can be targets at all: with DEPLOY and a selector also those that do not have the service. */
function eligibleFor(fleet: TargetFleet, { action, service, selector, machines }: Wanted): readonly Candidate[] {
  if (action === 'DEPLOY' && (selector.trim() !== '' || machines)) return fleet.anywhere(service);
  const having = fleet.candidates(service);
  if (having.length > 0) return having;
  if (action !== 'DEPLOY') throw unknownService(service, fleet.serviceNames());
  throw new MusterError(
    'not_found',
    `no machine has service "${service}" yet: say where to deploy it with --on, for example --on role=web`,
    { reason: 'NO_TARGETS' },
  );
}

function nothingMatches({ action, service, selector, machines }: Wanted, eligible: readonly Candidate[]): MusterError {
  const names = eligible.slice(0, NAMES_SHOWN).map(({ name }) => name);
  const more = eligible.length > NAMES_SHOWN ? ` and ${eligible.length - NAMES_SHOWN} more` : '';
  const anywhere = action === 'DEPLOY';
  const which = anywhere ? 'is there' : `has service "${service}"`;
  const what = machines
    ? `none of the machines that it is to go over ${which} any more`
    : `no machine ${anywhere ? '' : `with service "${service}" `}matches "${selector}"`;
  const there = `${anywhere ? 'there are' : 'it is on'}: ${names.length === 0 ? 'none' : names.join(', ')}${more}`;
  return new MusterError('not_found', `${what}; ${there}`, { reason: 'NO_TARGETS' });
}

function byName(a: Candidate, b: Candidate): number {
  return compare(a.name, b.name);
}

/** Text order with numbers in it counted: web-2 before web-10. */
function compare(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

function inOrder(candidates: readonly Candidate[], order: Order, random: Random): Candidate[] {
  const sorted = [...candidates].sort(byName);
  switch (order.by) {
    case 'name':
      return sorted;
    case 'label':
      return sorted.sort((a, b) => compare(labelOf(a, order.key), labelOf(b, order.key)) || byName(a, b));
    case 'random':
      return sorted
        .map((candidate) => ({ candidate, at: random.next() }))
        .sort((a, b) => a.at - b.at)
        .map(({ candidate }) => candidate);
  }
}

function labelOf({ labels }: Candidate, key: string): string {
  return Object.hasOwn(labels, key) ? (labels[key] ?? '') : '';
}

function firstConnected(ordered: readonly Candidate[], count: number): Candidate[] {
  const connectedFirst = [...ordered.filter(({ online }) => online), ...ordered.filter(({ online }) => !online)];
  return connectedFirst.slice(0, count);
}

/** The word with which an agent says that it can do it, and what it is then too old for; undefined: every agent can. */
const ABILITIES: Readonly<Record<CommandKind, readonly [word: string, what: string] | undefined>> = {
  START: undefined,
  STOP: undefined,
  RESTART: undefined,
  SEARCH: ['search', 'search logs'],
  DEPLOY: ['deploy', 'deploy releases'],
  ROLLBACK: ['deploy', 'roll back releases'],
  BACKUP: ['backup', 'make backups'],
  VERIFY_BACKUP: ['backup', 'verify backups'],
  RESTORE: ['backup', 'restore backups'],
};

/** Why a target cannot be ordered on this machine; undefined: it can. */
export function problemOf(action: CommandKind, { name, agentVersion, capabilities }: Candidate): string | undefined {
  const [word, what] = ABILITIES[action] ?? [];
  if (word === undefined || capabilities === undefined || capabilities.includes(word)) return undefined;
  return `the agent of ${name} (version ${agentVersion}) is too old to ${what}: upgrade it`;
}

/** Why an instance is not well after the action; undefined: it is, or its state is not known now. */
export function illnessOf(action: CommandKind, candidate: Candidate | undefined): string | undefined {
  // What it was before it was read, it may be again.
  if (!takesTurn(action)) return undefined;
  // A service that has just come to its machine may not have been told of yet.
  if (!candidate) return action === 'DEPLOY' ? undefined : 'the service is not on its machine any more';
  if (!isSeen(action, candidate) || rests(action, candidate)) return undefined;
  return notRunning(action, candidate) ?? (candidate.health === 'CRITICAL' ? 'its health is CRITICAL' : undefined);
}

function notRunning(action: CommandKind, { state }: Candidate): string | undefined {
  const runs = state === 'RUNNING' || state === 'EXITED';
  return runs && action !== 'STOP' ? undefined : `it is ${state ?? 'not known'}`;
}

/** Whether it is stopped as it should be. A deploy leaves a service stopped that was. */
function rests(action: CommandKind, { state, report }: Candidate): boolean {
  if (state !== 'STOPPED') return false;
  return action === 'STOP' || (action !== 'START' && action !== 'RESTART' && report?.wanted === false);
}

/** Whether its agent says how the instance is, and nothing is being done to it. One that is not on its machine any more is ill, not away. */
export function isSeen(action: CommandKind, candidate: Candidate | undefined): boolean {
  if (!candidate) return action !== 'DEPLOY';
  return candidate.state !== undefined && candidate.report?.deploying === undefined;
}
