import type { Command } from 'commander';
import { ListAlertsResponse, type CenterService, type WatchAlertsResponse } from '../../generated/muster/v1/center.js';
import { Alert } from '../../generated/muster/v1/types.js';
import { sleep } from '../kit/clock.js';
import { isCode } from '../kit/errors.js';
import type { Client } from '../rpc/types.js';
import { withCenter } from './connection.js';
import { inertLine } from './inert.js';
import type { GlobalOptions, Io } from './io.js';
import { ago, clockTime, enumWord, Output, type Column } from './output.js';

interface AlertOptions extends GlobalOptions {
  readonly all?: boolean;
  readonly follow?: boolean;
}

/** Alerts shown by one listing. */
const ALERTS_SHOWN_MAX = 200;
const AGAIN_MS = 500;

export function alertColumns(nowMs: number): Column<Alert>[] {
  return [
    { heading: 'SEVERITY', text: (alert) => enumWord('SEVERITY', alert.severity) },
    { heading: 'KIND', text: (alert) => alert.kind },
    { heading: 'MACHINE', text: (alert) => alert.machineName },
    { heading: 'SERVICE', text: (alert) => alert.service },
    { heading: 'SINCE', text: (alert) => `${clockTime(alert.raised, nowMs)} (${ago(alert.raised, nowMs)})` },
    { heading: 'STATUS', text: (alert) => alertStatus(alert, nowMs) },
    { heading: 'MESSAGE', text: (alert) => alert.message },
  ];
}

function alertStatus(alert: Alert, nowMs: number): string {
  if (alert.cleared !== undefined) return `cleared ${clockTime(alert.cleared, nowMs)}`;
  if (alert.unknownSince !== undefined) return `unknown since ${clockTime(alert.unknownSince, nowMs)}`;
  return 'raised';
}

/** When it last became what it is: raised, not to be known, or cleared. */
function changedAt(alert: Alert): Date | undefined {
  return alert.cleared ?? alert.unknownSince ?? alert.raised;
}

async function list(io: Io, options: AlertOptions): Promise<void> {
  const output = new Output(io, options);
  const answer = await withCenter(io, options, (center) =>
    center.listAlerts({ includeCleared: options.all === true, pageSize: ALERTS_SHOWN_MAX, pageToken: '' }),
  );
  await output.document(ListAlertsResponse.toJSON(answer));
  await output.table(answer.alerts, alertColumns(io.clock.now()));
  if (answer.alerts.length === 0) await output.note('No alerts.');
}

async function show(io: Io, output: Output, { snapshot, alerts }: WatchAlertsResponse): Promise<void> {
  if (snapshot && alerts.length === 0) await output.note('No alerts now; each is shown as it comes.');
  for (const alert of alerts) {
    await output.document(Alert.toJSON(alert));
    const about = [alert.machineName, alert.service].filter(Boolean).join('/');
    const now = io.clock.now();
    await output.line(
      `${clockTime(changedAt(alert), now)}  ${enumWord('SEVERITY', alert.severity)}  ${alert.kind}  ${about}  ${alertStatus(alert, now)}: ${inertLine(alert.message)}`,
    );
  }
}

/** Goes on over ends of the center: what holds then is shown once more. @throws what is refused, and what cannot be reached from the start */
async function follow(io: Io, options: AlertOptions): Promise<void> {
  const output = new Output(io, options);
  let heard = false;
  let away = false;
  const watch = async (center: Pick<Client<typeof CenterService>, 'watchAlerts'>): Promise<void> => {
    for await (const change of center.watchAlerts({}, { signal: io.signal })) {
      if (away) await output.note('the center is back; what is wrong now:');
      [heard, away] = [true, false];
      await show(io, output, change);
    }
  };
  await withCenter(io, options, async (center) => {
    for (;;) {
      try {
        await watch(center);
      } catch (error) {
        if (!io.signal.aborted && !(heard && isCode(error, 'unavailable', 'cancelled', 'deadline'))) throw error;
      }
      if (io.signal.aborted) return;
      const now = io.clock.now();
      if (!away) await output.note(`the center cannot be reached since ${clockTime(new Date(now), now)}: trying again`);
      away = true;
      await sleep(io.clock, AGAIN_MS, io.signal).catch(() => undefined);
    }
  });
}

export function register(program: Command, io: Io): void {
  program
    .command('alerts')
    .description('what is wrong now')
    .option('--all', 'cleared ones too, newest first')
    .option('-f, --follow', 'go on and show each change')
    .action((_options, command: Command) => {
      const options: AlertOptions = command.optsWithGlobals();
      return options.follow === true ? follow(io, options) : list(io, options);
    });
}
