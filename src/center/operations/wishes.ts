import type {
  BackupOrder as WireBackupOrder,
  DeployWish as WireDeployWish,
  RollbackScope as WireScope,
  StartOperationRequest,
} from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../kit/errors.js';
import type { BackupOrder } from '../../model/backup.js';
import { COMMAND_KINDS, type CommandKind } from '../../model/instance.js';
import { ROLLBACK_SCOPES, type DeployWish, type RollbackScope } from '../../model/release.js';
import { describePrincipal } from '../../rpc/principal.js';
import type { CallContext } from '../../rpc/types.js';
import { fromWireBackupOrder } from '../../wire/backup.js';
import { fromWireCommandKind, toWireAction } from '../../wire/instance.js';
import type { Asking, OperationWish } from './records.js';
import { fromWireStrategy } from './wire.js';

/** What callers ask for, read and checked. */

const WORDS_MAX = 1000;
const VERSION_CHARACTERS_MAX = 200;
const BACKUP_CHARACTERS_MAX = 200;
export const RESTORE_PATHS_MAX = 1000;
const PATH_CHARACTERS_MAX = 4096;

export function askingOf(
  request: { readonly reason: string; readonly requestId: string; readonly wait: boolean },
  { principal, peer }: CallContext,
): Asking {
  const { reason, requestId, wait } = request;
  return { by: describePrincipal(principal), from: peer, reason: reason.slice(0, WORDS_MAX), requestId, wait };
}

/** @throws invalid naming the field that cannot be used */
export function wishOf(request: StartOperationRequest, context: CallContext): OperationWish {
  const action = actionOf(request);
  return {
    ...askingOf(request, context),
    action,
    service: request.service,
    selector: request.selector,
    strategy: fromWireStrategy(request.strategy),
    search: undefined,
    deploy: deployOf(action, request.service, request.deploy),
    backup: backupOf(action, request.backup),
  };
}

function refuse(field: string, description: string): MusterError {
  return new MusterError('invalid', `${field}: ${description}`, {
    reason: field.toUpperCase().replace('.', '_'),
    fields: [{ field, description }],
  });
}

function actionOf(request: StartOperationRequest): CommandKind {
  const action = fromWireCommandKind(request.action);
  if (action !== undefined && action !== 'SEARCH') return action;
  const known = COMMAND_KINDS.filter((kind) => kind !== 'SEARCH').map(toWireAction);
  const last = known.pop() ?? '';
  throw refuse('action', `must be ${known.join(', ')} or ${last}; a search is begun with SearchLogs`);
}

function deployOf(action: CommandKind, service: string, wire: WireDeployWish | undefined): DeployWish | undefined {
  if (action !== 'DEPLOY' && action !== 'ROLLBACK') {
    if (wire) throw refuse('deploy', 'goes with ACTION_DEPLOY and ACTION_ROLLBACK only');
    return undefined;
  }
  const wish = { version: wire?.version ?? '', onFailure: scopeOf(wire?.onFailure) };
  assertDeploy(action, service, wish);
  return wish;
}

function assertDeploy(action: 'DEPLOY' | 'ROLLBACK', service: string, { version, onFailure }: DeployWish): void {
  if (version.length > VERSION_CHARACTERS_MAX) {
    throw refuse('deploy.version', `may have at most ${VERSION_CHARACTERS_MAX} characters`);
  }
  if (action === 'DEPLOY' && version === '') {
    throw refuse('deploy.version', `say which version to deploy; "muster release ls ${service}" lists them`);
  }
  if (action === 'ROLLBACK' && onFailure !== 'TARGET') {
    throw refuse('deploy.on_failure', 'goes with ACTION_DEPLOY only: a rollback is not rolled back');
  }
}

function scopeOf(wire: WireScope | undefined): RollbackScope {
  if (wire === undefined || wire === 'ROLLBACK_SCOPE_UNSPECIFIED') return 'TARGET';
  const found = ROLLBACK_SCOPES.find((scope) => `ROLLBACK_SCOPE_${scope}` === wire);
  if (found) return found;
  throw refuse('deploy.on_failure', `must be ROLLBACK_SCOPE_${ROLLBACK_SCOPES.join(', ROLLBACK_SCOPE_')}`);
}

function backupOf(action: CommandKind, wire: WireBackupOrder | undefined): BackupOrder | undefined {
  if (action !== 'VERIFY_BACKUP' && action !== 'RESTORE') {
    if (wire) throw refuse('backup', 'goes with ACTION_VERIFY_BACKUP and ACTION_RESTORE only');
    return undefined;
  }
  if (action === 'VERIFY_BACKUP') assertWholeBackup(wire);
  if ((wire?.backup.length ?? 0) > BACKUP_CHARACTERS_MAX) {
    throw refuse('backup.backup', `may have at most ${BACKUP_CHARACTERS_MAX} characters`);
  }
  assertPaths(wire?.paths ?? []);
  return fromWireBackupOrder(wire);
}

function assertWholeBackup(wire: WireBackupOrder | undefined): void {
  if (wire?.aside === true) throw refuse('backup.aside', 'goes with ACTION_RESTORE only');
  if (wire?.stop === true) throw refuse('backup.stop', 'goes with ACTION_RESTORE only');
  if ((wire?.paths.length ?? 0) > 0) {
    throw refuse('backup.paths', 'goes with ACTION_RESTORE only: a backup is verified as a whole');
  }
}

function assertPaths(paths: readonly string[]): void {
  if (paths.length > RESTORE_PATHS_MAX) {
    throw refuse('backup.paths', `at most ${RESTORE_PATHS_MAX}: restore a directory, or all of it`);
  }
  const unfit = paths.find((path) => path === '' || path.length > PATH_CHARACTERS_MAX || path.includes('\0'));
  if (unfit !== undefined) {
    throw refuse(
      'backup.paths',
      `each must have 1 to ${PATH_CHARACTERS_MAX} characters: leave all out to restore everything`,
    );
  }
}
