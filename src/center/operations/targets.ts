import { MusterError } from '../../kit/errors.js';
import type { Random } from '../../kit/random.js';
import type { CommandKind, Health, ServiceState } from '../../model/instance.js';
import { explain, matches, parseSelector, requireKnown, type Selectable } from '../../model/selector.js';
import { unknownService } from '../fleet/unknown.js';
import type { Order, Strategy } from './strategy.js';

/** A machine that has the service, as the choice of targets needs to see it. */
export interface Candidate extends Selectable {
  readonly online: boolean;
  readonly agentVersion: string;
  /** Undefined: its agent has not said. */
  readonly capabilities: readonly string[] | undefined;
  /** Undefined: its agent has not told of the instance yet. */
  readonly state: ServiceState | undefined;
  /** Undefined while the state of the instance is not known. */
  readonly health: Health | undefined;
}

/** What the choice of targets asks of the fleet. */
export interface TargetFleet {
  /** Machines that have the service, or shall have it. */
  candidates(service: string): readonly Candidate[];
  /** One of them, as it is now; undefined when the machine was removed. */
  candidate(machine: string, service: string): Candidate | undefined;
  /** Every machine of the site. */
  machines(): readonly Selectable[];
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
  const having = fleet.candidates(service);
  if (having.length === 0) throw unknownService(service, fleet.serviceNames());
  // What was frozen once is not chosen again: labels may have changed since.
  const listed = machines && new Set(machines);
  if (!listed) requireKnown(selector, fleet.machines());
  const found = having.filter((one) => listed?.has(one.id) ?? matches(selector, one));
  if (found.length === 0) throw nothingMatches(wanted, having);
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

function nothingMatches({ service, selector, machines }: Wanted, having: readonly Candidate[]): MusterError {
  const names = having.slice(0, NAMES_SHOWN).map(({ name }) => name);
  const more = having.length > NAMES_SHOWN ? ` and ${having.length - NAMES_SHOWN} more` : '';
  const what = machines
    ? `none of the machines to try again has service "${service}" any more`
    : `no machine with service "${service}" matches "${selector}"`;
  return new MusterError('not_found', `${what}; it is on: ${names.join(', ')}${more}`, { reason: 'NO_TARGETS' });
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

/** Why a target cannot be ordered on this machine; undefined: it can. */
export function problemOf(action: CommandKind, { name, agentVersion, capabilities }: Candidate): string | undefined {
  if (action !== 'SEARCH' || capabilities === undefined || capabilities.includes('search')) return undefined;
  return `the agent of ${name} (version ${agentVersion}) is too old to search logs: upgrade it`;
}

/** Why an instance is not well after the action; undefined: it is, or its state is not known now. */
export function illnessOf(action: CommandKind, candidate: Candidate | undefined): string | undefined {
  if (!candidate) return 'the service is not on its machine any more';
  const { state, health } = candidate;
  const wanted: readonly (ServiceState | undefined)[] = action === 'STOP' ? ['STOPPED'] : ['RUNNING', 'EXITED'];
  if (state !== undefined && !wanted.includes(state)) return `it is ${state}`;
  return health === 'CRITICAL' && action !== 'STOP' ? 'its health is CRITICAL' : undefined;
}
