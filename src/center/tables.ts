import type { Clock } from '../kit/clock.js';
import type { Logger } from '../kit/logger.js';
import type { Inventory } from '../model/machine.js';
import type { Store } from '../store/port.js';
import type { Revocation } from './access/revocations.js';
import type { TokenRecord } from './access/tokens.js';
import type { AlertRecord } from './alerts/alerts.js';
import type { BackupRecord, PlanRecord } from './backups/backups.js';
import type { AppliedRecord } from './catalog/catalog.js';
import type { AssignmentRecord, Definition } from './catalog/plan.js';
import type { CommandRecord } from './commands/command.js';
import type { InstanceRecord } from './fleet/instances.js';
import type { MachineRecord } from './fleet/machines.js';
import type { OperationRecord } from './operations/operation.js';
import type { QueueRecord } from './queues/queues.js';
import type { ModuleRecord, ReleaseRecord } from './releases/release.js';
import type { SigningKeyRecord } from './releases/signing-keys.js';
import { Table } from './table.js';

/** The center's documents, by kind. */
export interface Tables {
  readonly machines: Table<MachineRecord>;
  readonly inventories: Table<Inventory>;
  readonly instances: Table<InstanceRecord>;
  readonly definitions: Table<Definition>;
  readonly assignments: Table<AssignmentRecord>;
  readonly applied: Table<AppliedRecord>;
  readonly alerts: Table<AlertRecord>;
  readonly commands: Table<CommandRecord>;
  readonly operations: Table<OperationRecord>;
  readonly tokens: Table<TokenRecord>;
  readonly revoked: Table<Revocation>;
  readonly queues: Table<QueueRecord>;
  readonly releases: Table<ReleaseRecord>;
  readonly modules: Table<ModuleRecord>;
  readonly signingKeys: Table<SigningKeyRecord>;
  readonly backups: Table<BackupRecord>;
  readonly backupPlans: Table<PlanRecord>;
}

/** Reads all of them. @throws data_loss, internal when a document cannot be read */
export async function openTables(store: Store, clock: Clock, logger: Logger): Promise<Tables> {
  const open = <T>(prefix: string): Promise<Table<T>> => Table.open<T>({ store, prefix, clock, logger });
  return {
    machines: await open<MachineRecord>('machine/'),
    inventories: await open<Inventory>('inventory/'),
    instances: await open<InstanceRecord>('instance/'),
    definitions: await open<Definition>('service/'),
    assignments: await open<AssignmentRecord>('assignment/'),
    applied: await open<AppliedRecord>('applied/'),
    alerts: await open<AlertRecord>('alert/'),
    commands: await open<CommandRecord>('command/'),
    operations: await open<OperationRecord>('operation/'),
    tokens: await open<TokenRecord>('token/'),
    revoked: await open<Revocation>('revoked/'),
    queues: await open<QueueRecord>('queue/'),
    releases: await open<ReleaseRecord>('release/'),
    modules: await open<ModuleRecord>('module/'),
    signingKeys: await open<SigningKeyRecord>('signing-key/'),
    backups: await open<BackupRecord>('backup/'),
    backupPlans: await open<PlanRecord>('backup-plan/'),
  };
}
