import { MusterError } from '../../kit/errors.js';
import type { BackupOrder } from '../../model/backup.js';
import { COMMAND_KINDS, type CommandKind } from '../../model/instance.js';
import { ROLLBACK_SCOPES, type DeployWish, type RollbackScope } from '../../model/release.js';

/** What a caller asks for, as it came. */
export interface Requested {
  /** Undefined: one that this version does not know. */
  readonly action: CommandKind | undefined;
  readonly service: string;
  /** `onFailure` undefined: one that this version does not know. */
  readonly deploy: { readonly version: string; readonly onFailure: RollbackScope | undefined } | undefined;
  readonly backup: BackupOrder | undefined;
}

/** What of it is for the action. */
export interface Checked {
  readonly action: CommandKind;
  readonly deploy: DeployWish | undefined;
  readonly backup: BackupOrder | undefined;
}

const VERSION_CHARACTERS_MAX = 200;
const BACKUP_CHARACTERS_MAX = 200;
export const RESTORE_PATHS_MAX = 1000;
const PATH_CHARACTERS_MAX = 4096;

/** @throws invalid naming the field that cannot be used, and why */
export function checkRequested(requested: Requested): Checked {
  const action = actionOf(requested);
  return { action, deploy: deployOf(action, requested), backup: backupOf(action, requested) };
}

function refuse(field: string, description: string): MusterError {
  return new MusterError('invalid', `${field}: ${description}`, {
    reason: field.toUpperCase().replace('.', '_'),
    fields: [{ field, description }],
  });
}

function actionOf({ action }: Requested): CommandKind {
  if (action !== undefined && action !== 'SEARCH') return action;
  const known = COMMAND_KINDS.filter((kind) => kind !== 'SEARCH').map((kind) => `ACTION_${kind}`);
  const last = known.pop() ?? '';
  throw refuse('action', `must be ${known.join(', ')} or ${last}; a search is begun with SearchLogs`);
}

function deployOf(action: CommandKind, { service, deploy }: Requested): DeployWish | undefined {
  if (action !== 'DEPLOY' && action !== 'ROLLBACK') {
    if (deploy) throw refuse('deploy', 'goes with ACTION_DEPLOY and ACTION_ROLLBACK only');
    return undefined;
  }
  const { version, onFailure } = deploy ?? { version: '', onFailure: 'TARGET' };
  if (onFailure === undefined) {
    throw refuse('deploy.on_failure', `must be ROLLBACK_SCOPE_${ROLLBACK_SCOPES.join(', ROLLBACK_SCOPE_')}`);
  }
  assertDeploy(action, service, { version, onFailure });
  return { version, onFailure };
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

function backupOf(action: CommandKind, { backup }: Requested): BackupOrder | undefined {
  if (action !== 'VERIFY_BACKUP' && action !== 'RESTORE') {
    if (backup) throw refuse('backup', 'goes with ACTION_VERIFY_BACKUP and ACTION_RESTORE only');
    return undefined;
  }
  const order = backup ?? { backup: '', paths: [], aside: false, stop: false };
  if (action === 'VERIFY_BACKUP') assertWhole(order);
  if (order.backup.length > BACKUP_CHARACTERS_MAX) {
    throw refuse('backup.backup', `may have at most ${BACKUP_CHARACTERS_MAX} characters`);
  }
  assertPaths(order.paths);
  return order;
}

function assertWhole({ aside, stop, paths }: BackupOrder): void {
  if (aside) throw refuse('backup.aside', 'goes with ACTION_RESTORE only');
  if (stop === true) throw refuse('backup.stop', 'goes with ACTION_RESTORE only');
  if (paths.length > 0) throw refuse('backup.paths', 'goes with ACTION_RESTORE only: a backup is verified as a whole');
}

function assertPaths(paths: readonly string[]): void {
  if (paths.length > RESTORE_PATHS_MAX) {
    throw refuse('backup.paths', `at most ${RESTORE_PATHS_MAX}: restore a directory, or all of it`);
  }
  const unfit = paths.find((path) => path === '' || path.length > PATH_CHARACTERS_MAX || path.includes('\0'));
  if (unfit === undefined) return;
  throw refuse(
    'backup.paths',
    `each must have 1 to ${PATH_CHARACTERS_MAX} characters: leave all out to restore everything`,
  );
}
