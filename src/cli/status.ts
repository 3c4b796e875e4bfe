import type { Command } from 'commander';
import { BackupPlan, GetStatusResponse } from '../../generated/muster/v1/center.js';
import { QueueServer } from '../../generated/muster/v1/types.js';
import { counted } from '../kit/counted.js';
import { alertColumns } from './alerts.js';
import { latePlans, listPlans } from './backups/late.js';
import { withCenter } from './connection.js';
import { Failed, type GlobalOptions, type Io } from './io.js';
import { ago, clockTime, Output } from './output.js';

/** What is not as it should be, or cannot be known; empty when all is well. Alerts are listed by themselves. */
export function shortfalls(status: GetStatusResponse): string[] {
  const offline = status.machines - status.machinesOnline;
  const missing = status.instancesWanted - status.instancesRunning;
  return [
    ...(status.storageProblem === '' ? [] : [`the center can store nothing: ${status.storageProblem}`]),
    ...(offline > 0
      ? [`${offline} of ${status.machines} machines are not connected: what runs there is not known`]
      : []),
    ...(missing > 0 ? [`${missing} of ${status.instancesWanted} services that should run are not known to`] : []),
  ];
}

/** A queue that is there says so every minute. */
const QUEUE_SILENT_MS = 150_000;

/** Queues that have not been heard of for so long that they cannot be believed to be there. */
export function silentQueues(queues: readonly QueueServer[], nowMs: number): string[] {
  return queues
    .filter(({ lastSeen }) => lastSeen !== undefined && nowMs - lastSeen.getTime() > QUEUE_SILENT_MS)
    .map(({ name, lastSeen }) => `queue ${name} was last heard of ${ago(lastSeen, nowMs)} ago`);
}

function lateBackups({ length }: readonly BackupPlan[]): string[] {
  return length === 0 ? [] : [`${counted(length, 'backup')} late ("muster backup plans" says which)`];
}

/** One screen: is everything well? Exit status 1 when something is not, or cannot be known. */
async function status(io: Io, options: GlobalOptions): Promise<void> {
  const output = new Output(io, options);
  const { answer, queues, plans } = await withCenter(io, options, async (center) => ({
    answer: await center.getStatus({}),
    queues: (await center.listQueues({})).queues,
    plans: await listPlans(center),
  }));
  const late = latePlans(plans);
  await output.document({
    ...(GetStatusResponse.toJSON(answer) as object),
    queues: queues.map((queue) => QueueServer.toJSON(queue)),
    lateBackups: late.map((plan) => BackupPlan.toJSON(plan)),
  });
  const now = io.clock.now();
  const silent = silentQueues(queues, now);
  const shortfall = [...shortfalls(answer), ...silent, ...lateBackups(late)];
  const well = answer.alerts.length === 0 && shortfall.length === 0;
  await output.line(`site       ${answer.site}`);
  await output.line(
    `center     version ${answer.centerVersion}, up ${ago(answer.started, now)}; its CA ends ${clockTime(answer.caExpires, now)}`,
  );
  await output.line(`machines   ${answer.machinesOnline} of ${answer.machines} online`);
  await output.line(
    `services   ${answer.instancesRunning} running of ${answer.instancesWanted} wanted, ${answer.instances} in all${answer.instancesUnknown > 0 ? `, ${answer.instancesUnknown} unknown` : ''}`,
  );
  if (queues.length > 0)
    await output.line(`queues     ${queues.length - silent.length} of ${queues.length} heard of lately`);
  if (plans.length > 0) await output.line(`backups    ${plans.length - late.length} of ${plans.length} made in time`);
  await output.line(`alerts     ${answer.alerts.length === 0 ? 'none' : String(answer.alerts.length)}`);
  await output.line(`verdict    ${well ? 'all is well' : ['not well', ...shortfall].join('; ')}`);
  if (well) return;
  if (answer.alerts.length > 0) {
    await output.line('');
    await output.table(answer.alerts, alertColumns(now));
  }
  throw new Failed();
}

export function register(program: Command, io: Io): void {
  program
    .command('status')
    .description('one screen: is everything well? (exit status 1 when not)')
    .action((_options, command: Command) => status(io, command.optsWithGlobals()));
}
