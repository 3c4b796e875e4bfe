import type { Client } from '../rpc/types.js';
import { ListInstancesRequest, type CenterService } from '../../generated/muster/v1/center.js';
import type { Instance } from '../../generated/muster/v1/types.js';
import { MusterError } from '../kit/errors.js';
import { didYouMean } from '../kit/suggest.js';
import { modulesText } from './operations/deploy-text.js';
import { ago, clockTime, enumWord, type Column } from './output.js';
import { allPages } from './paging.js';

/** Instances as several commands list and show them. */

export function listInstances(
  center: Client<typeof CenterService>,
  filter: { readonly service?: string; readonly on?: string | undefined },
): Promise<Instance[]> {
  return allPages(
    (page) =>
      center.listInstances({
        ...ListInstancesRequest.create(),
        ...page,
        service: filter.service ?? '',
        selector: filter.on ?? '',
      }),
    (page) => page.instances,
  );
}

/**
 * The instances of one service on the machines a selector matches: never none.
 * @throws not_found naming the nearest service, or saying that the selector matches none of its machines
 */
export async function findInstances(
  center: Client<typeof CenterService>,
  service: string,
  on: string | undefined,
): Promise<Instance[]> {
  const found = await listInstances(center, { service, on });
  if (found.length > 0) return found;
  const everywhere = await listInstances(center, {});
  const names = new Set(everywhere.map((instance) => instance.service));
  if (names.has(service)) {
    const machines = everywhere
      .filter((instance) => instance.service === service)
      .map((instance) => instance.machineName);
    throw new MusterError(
      'not_found',
      `no machine with service "${service}" matches "${on ?? ''}"; it is on: ${machines.slice(0, 10).join(', ')}`,
    );
  }
  throw new MusterError(
    'not_found',
    `no machine has a service "${service}".${didYouMean(service, names)} "muster services" lists them.`,
  );
}

/** State as it is known: after contact was lost, UNKNOWN with since when. */
export function stateText(instance: Instance, nowMs: number): string {
  if (instance.unknownSince !== undefined) {
    return `UNKNOWN since ${clockTime(instance.unknownSince, nowMs)} (was ${enumWord('SERVICE_STATE', instance.state)})`;
  }
  return enumWord('SERVICE_STATE', instance.state);
}

export function healthText(instance: Instance): string {
  return instance.unknownSince === undefined ? enumWord('HEALTH', instance.health) : 'UNKNOWN';
}

function reasonText(instance: Instance): string {
  if (instance.reason !== '') return instance.reason;
  const failing = instance.checks.find(
    (check) => check.health === 'HEALTH_CRITICAL' || check.health === 'HEALTH_WARNING',
  );
  return failing === undefined ? '' : `${failing.name}: ${failing.output.split('\n')[0] ?? ''}`;
}

/** The step of a deploy that the instance is at, else its state. */
function placeText(instance: Instance, nowMs: number): string {
  const step = instance.unknownSince === undefined ? deployingText(instance) : '';
  return step === '' ? stateText(instance, nowMs) : `${stateText(instance, nowMs)} (${step})`;
}

/** `deploying: VERIFY`; empty while it is not deployed. */
function deployingText({ deploying }: Instance): string {
  return deploying === 'DEPLOY_STEP_UNSPECIFIED' ? '' : `deploying: ${enumWord('DEPLOY_STEP', deploying)}`;
}

/** `r7`; what the service has not said it applied too. */
function configText({ configRevision, configApplied }: Instance): string {
  if (configRevision === 0) return '-';
  return configApplied > 0 && configApplied !== configRevision
    ? `r${configRevision} (r${configApplied} applied)`
    : `r${configRevision}`;
}

/** One service, machine by machine. */
export function placeColumns(nowMs: number): Column<Instance>[] {
  return [
    { heading: 'MACHINE', text: (instance) => instance.machineName },
    { heading: 'VERSION', text: (instance) => instance.version },
    { heading: 'MODULES', text: ({ release }) => modulesText(release?.modules ?? []) },
    { heading: 'CONFIG', text: configText, right: true },
    { heading: 'STATE', text: (instance) => placeText(instance, nowMs) },
    { heading: 'HEALTH', text: (instance) => healthText(instance) },
    { heading: 'FOR', text: (instance) => ago(instance.unknownSince ?? instance.since, nowMs), right: true },
    { heading: 'DEPLOYED', text: deployedText(nowMs) },
    { heading: 'WHY', text: (instance) => reasonText(instance) },
  ];
}

function deployedText(nowMs: number): (instance: Instance) => string {
  return ({ release, deployed, verified }) =>
    release === undefined ? 'never' : `${clockTime(deployed, nowMs)}${verified ? '' : ' (not verified)'}`;
}

/** What it runs from and what it can go back to, a line each; nothing where it was never deployed. */
export function releaseLines(instance: Instance, nowMs: number): string[] {
  const { release, heldReleases } = instance;
  if (release === undefined) return [];
  const step = deployingText(instance);
  const verified = instance.verified ? 'verified' : 'not verified';
  return [
    `release  ${release.version} (sha256 ${release.digest.slice(0, 12)}), deployed ${clockTime(instance.deployed, nowMs)}, ${verified}`,
    `modules  ${modulesText(release.modules) || 'none'}`,
    `held     ${heldReleases.map(({ version }) => version).join(', ') || 'nothing to go back to'}`,
    ...(step === '' ? [] : [step.replace(': ', ' at ')]),
  ];
}

export function instanceColumns(nowMs: number): Column<Instance>[] {
  return [
    { heading: 'SERVICE', text: (instance) => instance.service },
    { heading: 'MACHINE', text: (instance) => instance.machineName },
    { heading: 'VERSION', text: (instance) => instance.version },
    { heading: 'STATE', text: (instance) => placeText(instance, nowMs) },
    { heading: 'HEALTH', text: (instance) => healthText(instance) },
    { heading: 'FOR', text: (instance) => ago(instance.unknownSince ?? instance.since, nowMs), right: true },
    { heading: 'PID', text: (instance) => (instance.pid > 0 ? String(instance.pid) : '-'), right: true },
    {
      heading: 'CONFIG',
      text: (instance) => (instance.configRevision > 0 ? `r${instance.configRevision}` : '-'),
      right: true,
    },
    { heading: 'WHY', text: (instance) => reasonText(instance) },
  ];
}
