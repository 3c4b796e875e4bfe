import type { Command } from 'commander';
import { BackupPlan, ListBackupPlansResponse } from '../../../generated/muster/v1/center.js';
import { ListLocalBackupsResponse } from '../../../generated/muster/v1/agent.js';
import { Backup } from '../../../generated/muster/v1/types.js';
import { counted } from '../../kit/counted.js';
import { formatDuration, formatSize } from '../../kit/durations.js';
import { fromDuration } from '../../wire/time.js';
import { selectorArgument } from '../arguments.js';
import { withAgent, withCenter } from '../connection.js';
import { isLocal } from '../context.js';
import { Failed, type GlobalOptions, type Io } from '../io.js';
import { addOrderOptions, assertNoFleetOption, orderOverFleet, type OrderOptions } from '../operations/ordering.js';
import { clockTime, enumWord, Output, telling, type Column } from '../output.js';
import { findBackup, findBackupToRestore, listBackups, type Found } from './finding.js';
import { latePlans, lateText, listPlans } from './late.js';

/** Backups: made, listed, read back, restored. */

function statusText({ status }: Backup): string {
  return enumWord('BACKUP_STATUS', status);
}

function verifiedText({ verified, verifyProblem }: Backup, nowMs: number): string {
  if (verifyProblem !== '') return `FAILED: ${verifyProblem}`;
  return verified === undefined ? 'never' : clockTime(verified, nowMs);
}

function copiesText({ copies, copyProblem }: Backup): string {
  return [...copies, ...(copyProblem === '' ? [] : [`not copied: ${copyProblem}`])].join(', ');
}

function columns(nowMs: number): Column<Backup>[] {
  return [
    { heading: 'ID', text: ({ id }) => id },
    { heading: 'MACHINE', text: ({ machineName }) => machineName },
    { heading: 'SERVICE', text: ({ service }) => service },
    { heading: 'STATUS', text: statusText },
    { heading: 'SIZE', text: ({ bytes }) => formatSize(bytes), right: true },
    { heading: 'FILES', text: ({ files }) => String(files), right: true },
    { heading: 'TOOK', text: ({ took }) => formatDuration(fromDuration(took) ?? 0), right: true },
    { heading: 'VERIFIED', text: (backup) => verifiedText(backup, nowMs) },
    { heading: 'BECAUSE', text: ({ trigger }) => enumWord('BACKUP_TRIGGER', trigger).toLowerCase() },
    { heading: 'COPIES', text: copiesText },
  ];
}

/** What is to be known of backups, one line each. */
async function showProblems(output: Output, backups: readonly Backup[]): Promise<void> {
  for (const { id, machineName, problems } of backups) {
    for (const problem of problems)
      await output.note(`${id}${machineName === '' ? '' : ` on ${machineName}`}: ${problem}`);
  }
}

interface ListOptions extends GlobalOptions {
  readonly on?: string;
}

async function listLocally(io: Io, options: ListOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const answer = await withAgent(io, options, (agent) => agent.listLocalBackups({ service }));
  await output.document(ListLocalBackupsResponse.toJSON(answer));
  await output.table(answer.backups, telling(answer.backups, columns(io.clock.now())));
  await showProblems(output, answer.backups);
  if (answer.backups.length === 0) await output.note('No backups on this machine.');
}

async function list(io: Io, service: string, command: Command): Promise<void> {
  const options: ListOptions = command.optsWithGlobals();
  if (isLocal(options)) {
    assertNoFleetOption(command);
    await listLocally(io, options, service);
    return;
  }
  const output = new Output(io, options);
  const { backups, late } = await withCenter(io, options, async (center) => ({
    backups: await listBackups(center, service, options.on),
    late: latePlans(await listPlans(center, service)),
  }));
  await output.document({
    backups: backups.map((backup) => Backup.toJSON(backup)),
    late: late.map((plan) => BackupPlan.toJSON(plan)),
  });
  const now = io.clock.now();
  await output.table(backups, telling(backups, columns(now)));
  for (const plan of late) await output.line(lateText(plan, now));
  await showProblems(output, backups);
  if (backups.length === 0) {
    await output.note(
      'No backups: services with a "backup" section in their manifest have some, "muster backup now SERVICE" makes one.',
    );
  }
}

async function plans(io: Io, options: GlobalOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const found = await withCenter(io, options, async (center) => {
    const all = await listPlans(center, service);
    // Whether nobody knows a service of that name is the center's to say.
    if (service !== '' && all.length === 0) await listBackups(center, service, undefined);
    return all;
  });
  await output.document(ListBackupPlansResponse.toJSON({ plans: found }));
  const now = io.clock.now();
  await output.table(found, [
    { heading: 'SERVICE', text: (plan) => plan.service },
    { heading: 'MACHINE', text: ({ machineName }) => machineName },
    { heading: 'SCHEDULE', text: ({ schedule }) => schedule },
    { heading: 'ZONE', text: ({ schedule, timeZone }) => (schedule === '' ? '' : timeZone) },
    { heading: 'NEXT', text: ({ nextDue }) => clockTime(nextDue, now) },
    { heading: 'LAST GOOD', text: ({ lastGood }) => clockTime(lastGood, now) },
    { heading: 'LATE SINCE', text: ({ lateSince }) => clockTime(lateSince, now) },
  ]);
  const nothing =
    service === '' ? 'No service that is backed up.' : `${service} has no "backup" section in its manifest.`;
  if (found.length === 0) await output.note(nothing);
}

/** A backup reads all it holds. */
const LOCAL_DEADLINE_MS = 24 * 3_600_000;

async function nowLocally(io: Io, options: GlobalOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const backup = await withAgent(io, options, (agent) =>
    agent.backUpService({ service }, { signal: io.signal, timeoutMs: LOCAL_DEADLINE_MS }),
  );
  await output.document(Backup.toJSON(backup));
  const took = formatDuration(fromDuration(backup.took) ?? 0);
  await output.line(
    `${service}: backup ${backup.id} ${statusText(backup)}, ${counted(backup.files, 'file')}, ${formatSize(backup.bytes)} in ${took}`,
  );
  await showProblems(output, [backup]);
  if (backup.status === 'BACKUP_STATUS_ERROR') throw new Failed();
}

async function now(io: Io, service: string, command: Command): Promise<void> {
  const options: OrderOptions = command.optsWithGlobals();
  if (!isLocal(options)) {
    await orderOverFleet(io, options, { action: 'ACTION_BACKUP', service });
    return;
  }
  assertNoFleetOption(command);
  await nowLocally(io, options, service);
}

interface RestoreOptions extends OrderOptions {
  readonly path?: string[];
  readonly aside?: boolean;
  readonly stop?: boolean;
}

function wholeOf({ backup }: Found): { backup: string; paths: string[]; aside: boolean; stop: boolean } {
  return { backup, paths: [], aside: false, stop: false };
}

async function verify(io: Io, options: OrderOptions, service: string, id: string | undefined): Promise<void> {
  const found = await withCenter(io, options, (center) => findBackup(center, { service, id, on: options.on }));
  await orderOverFleet(io, options, {
    action: 'ACTION_VERIFY_BACKUP',
    service,
    selector: found.selector,
    backup: wholeOf(found),
  });
}

async function restore(io: Io, options: RestoreOptions, service: string, id: string | undefined): Promise<void> {
  const found = await withCenter(io, options, (center) => findBackupToRestore(center, { service, id, on: options.on }));
  await orderOverFleet(io, options, {
    action: 'ACTION_RESTORE',
    service,
    selector: found.selector,
    backup: {
      ...wholeOf(found),
      paths: options.path ?? [],
      aside: options.aside === true,
      stop: options.stop === true,
    },
  });
}

function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}

const RESTORE_EXAMPLES = `
Examples:
  muster backup restore orders 20261123T0300 --aside       # beside the service's own files: look at it first
  muster backup restore orders --on machine=web-1 --path data/orders.db
  muster backup restore orders --on machine=web-1 --stop   # the service is stopped for it and started again

Without an id it is the latest one. Ids may be shortened.`;

const VERIFY_EXAMPLES = `
Examples:
  muster backup verify orders                   # the latest one on every machine
  muster backup verify orders 20261123T0300     # that one, on the machine that has it`;

export function register(program: Command, io: Io): void {
  const backup = program.command('backup').description('backups of services: make, list, read back, restore');
  addOrderOptions(backup.command('now <service>').description('make one more backup, now')).action(
    (service: string, _options, command: Command) => now(io, service, command),
  );
  backup
    .command('ls [service]')
    .description('backups, the newest first, and those that are late')
    .option('--on <selector>', 'only on machines that match, for example role=web', selectorArgument)
    .action((service: string | undefined, _options, command: Command) => list(io, service ?? '', command));
  backup
    .command('plans [service]')
    .description('when each service is backed up next, and whether that is late')
    .action((service: string | undefined, _options, command: Command) =>
      plans(io, command.optsWithGlobals(), service ?? ''),
    );
  addOrderOptions(
    backup
      .command('verify <service> [id]')
      .description('read a backup back and compare every file with what its manifest says'),
  )
    .addHelpText('after', VERIFY_EXAMPLES)
    .action((service: string, id: string | undefined, _options, command: Command) =>
      verify(io, command.optsWithGlobals(), service, id),
    );
  addOrderOptions(
    backup
      .command('restore <service> [id]')
      .description('put back what a backup holds, or some of it, whole or not at all'),
  )
    .option('--path <path>', 'only this, as the backup names it; may be repeated', collect)
    .option('--aside', "into a new directory beside the service's own")
    .option('--stop', 'stop a service that runs for it, and start it again')
    .addHelpText('after', RESTORE_EXAMPLES)
    .action((service: string, id: string | undefined, _options, command: Command) =>
      restore(io, command.optsWithGlobals(), service, id),
    );
}
