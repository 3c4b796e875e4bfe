import { isCode, MusterError } from '../../kit/errors.js';
import { didYouMean } from '../../kit/suggest.js';
import type { CommandKind } from '../../model/instance.js';
import type { DeployOrder, ReleaseRef, RollbackOrder } from '../../model/release.js';
import type { CommandRecord } from '../commands/command.js';
import type { CommandWork } from '../gateway/parts.js';
import type { OperationRecord } from './operation.js';
import type { Candidate } from './targets.js';

/** The releases that the center has, as operations need them. */
export interface ReleaseSource {
  /** @throws not_found naming the nearest version; precondition when it may not be deployed any more */
  deployOrder(service: string, version: string): DeployOrder;
  /** Undefined: the center does not have it. `manifest`: YAML. */
  find(service: string, version: string): { readonly manifest: string } | undefined;
}

/**
 * What a target is ordered to do, from its operation's record: the same whenever it is asked for.
 * @throws as ReleaseSource.deployOrder; precondition when the version is another archive by now
 */
export function workOf(
  operation: OperationRecord | undefined,
  command: CommandRecord,
  releases: ReleaseSource,
): CommandWork {
  return operation ? WORK[operation.action](operation, command, releases) : {};
}

type WorkFor = (operation: OperationRecord, command: CommandRecord, releases: ReleaseSource) => CommandWork;

const nothingMore: WorkFor = () => ({});
const onBackup: WorkFor = ({ backup }) => ({ backup: backup ?? { backup: '', paths: [], aside: false } });

const WORK: Readonly<Record<CommandKind, WorkFor>> = {
  START: nothingMore,
  STOP: nothingMore,
  RESTART: nothingMore,
  SEARCH: ({ search }) => ({ search }),
  DEPLOY: (operation, _, releases) => ({ deploy: deployOrderOf(operation, releases) }),
  ROLLBACK: (operation, command, releases) => ({ rollback: rollbackOrderOf(operation, command, releases) }),
  BACKUP: nothingMore,
  VERIFY_BACKUP: onBackup,
  RESTORE: onBackup,
};

function deployOrderOf({ service, deploy, release }: OperationRecord, releases: ReleaseSource): DeployOrder {
  const order = releases.deployOrder(service, deploy?.version ?? '');
  if (release === undefined || order.release.digest === release.digest) return order;
  throw new MusterError(
    'precondition',
    `release ${order.release.version} of ${service} is another archive than when the operation began: deploy it anew`,
    { reason: 'RELEASE_REPLACED' },
  );
}

/** What the machine still holds it takes from there, so a release that the center cannot send any more is no failure. */
function rollbackOrderOf(
  { service, deploy }: OperationRecord,
  { backTo }: CommandRecord,
  releases: ReleaseSource,
): RollbackOrder {
  const version = backTo ?? deploy?.version ?? '';
  return { version, release: version === '' ? undefined : sendable(releases, service, version) };
}

/** The release as it can be sent to a machine; undefined: it cannot. */
export function sendable(releases: ReleaseSource, service: string, version: string): DeployOrder | undefined {
  try {
    return releases.deployOrder(service, version);
  } catch (error) {
    if (isCode(error, 'not_found', 'precondition', 'data_loss')) return undefined;
    throw error;
  }
}

/** Why the target of a rollback has nothing to be put back to; undefined: its agent decides. */
export function noWayBack({ rollbackOf }: OperationRecord, { backTo, machineName }: CommandRecord): string | undefined {
  if (rollbackOf === undefined || backTo !== '') return undefined;
  return `${machineName} ran from no release before operation ${rollbackOf}: there is none to put back`;
}

/**
 * A version to go back to must be somewhere: on one of the machines, or at the center.
 * @throws not_found naming the nearest
 */
export function assertHeld(
  { service, deploy }: OperationRecord,
  candidates: readonly Candidate[],
  releases: ReleaseSource,
): void {
  const version = deploy?.version ?? '';
  if (version === '' || releases.find(service, version)) return;
  const held = new Set(candidates.flatMap((candidate) => heldVersions(candidate)));
  // Of machines that are away nobody knows.
  if (held.has(version) || candidates.some(({ report }) => report === undefined)) return;
  const known = held.size === 0 ? 'none is held on these machines' : `held are: ${[...held].slice(0, 10).join(', ')}`;
  throw new MusterError(
    'not_found',
    `service "${service}" has no release "${version}" to go back to.${didYouMean(version, held)} At the center it is not, and ${known}`,
    { reason: 'RELEASE_UNKNOWN' },
  );
}

function heldVersions({ report }: Candidate): string[] {
  const current: readonly ReleaseRef[] = report?.release ? [report.release.ref] : [];
  return [...current, ...(report?.heldReleases ?? [])].map(({ version }) => version);
}
