import type { Command as CliCommand } from 'commander';
import {
  Command as WireCommand,
  type Command,
  ListOperationsResponse,
  Operation,
  type CenterService,
} from '../../../generated/muster/v1/center.js';
import { newId } from '../../kit/ids.js';
import type { Client } from '../../rpc/types.js';
import { countArgument } from '../arguments.js';
import { withCenter } from '../connection.js';
import type { GlobalOptions, Io } from '../io.js';
import { deploySteps, deployTable, hasSteps } from './deploy-report.js';
import { runOperation, showToEnd } from './running.js';
import {
  countsText,
  messageText,
  outputLines,
  placeText,
  progressText,
  stateOf,
  strategyText,
  titleOf,
  tookText,
} from './text.js';
import { countTargets, hasEnded } from './view.js';
import { findOperation } from './lookup.js';
import { clockTime, enumWord, Output } from '../output.js';
import { allPages } from '../paging.js';

type Center = Client<typeof CenterService>;

/** `restart`, `deploy 1.4.2`. */
function actionText({ action, deploy }: Operation): string {
  return `${enumWord('ACTION', action).toLowerCase().replace('_', ' ')} ${deploy?.version ?? ''}`.trimEnd();
}

interface ListOptions extends GlobalOptions {
  readonly service?: string;
  readonly open?: boolean;
  readonly limit: number;
}

async function list(io: Io, options: ListOptions): Promise<void> {
  const output = new Output(io, options);
  const answer = await withCenter(io, options, (center) =>
    center.listOperations({
      pageSize: options.limit,
      pageToken: '',
      service: options.service ?? '',
      openOnly: options.open === true,
    }),
  );
  await output.document(ListOperationsResponse.toJSON(answer));
  const now = io.clock.now();
  await output.table(answer.operations, [
    { heading: 'ID', text: ({ id }) => id },
    { heading: 'ACTION', text: actionText },
    { heading: 'SERVICE', text: ({ service }) => service },
    { heading: 'ON', text: ({ selector }) => selector },
    { heading: 'STATE', text: (operation) => stateOf(operation) },
    { heading: 'TARGETS', text: ({ counts }) => progressText(counts) },
    { heading: 'STARTED', text: ({ started, created }) => clockTime(started ?? created, now) },
    { heading: 'BY', text: ({ createdBy }) => createdBy },
    { heading: 'REASON', text: ({ reason }) => reason },
  ]);
  if (answer.operations.length === 0) {
    const narrowed = options.service !== undefined || options.open === true;
    await output.note(narrowed ? 'No such operation.' : 'No operations yet: "muster restart SERVICE" begins one.');
  } else if (answer.nextPageToken !== '') {
    await output.note(`Only the newest ${answer.operations.length}: --limit shows more.`);
  }
}

function headLines(operation: Operation, nowMs: number): string[] {
  const { createdBy, createdFrom, reason, retryOf, search, rollbackOf, rolledBackBy } = operation;
  const line = (name: string, text: string): string[] => (text === '' ? [] : [`${name.padEnd(9)} ${text}`]);
  const at = (name: string, date: Date | undefined): string[] => line(name, date ? clockTime(date, nowMs) : '');
  return [
    `${titleOf(operation)}  (${operation.id})`,
    ...line('state', `${stateOf(operation)}${operation.message === '' ? '' : `: ${operation.message}`}`),
    ...line('on', operation.selector || 'every machine with the service'),
    ...line('pattern', search === undefined ? '' : `${search.pattern}${search.regex ? ' (regular expression)' : ''}`),
    ...line('strategy', strategyText(operation.strategy)),
    ...line('by', `${createdBy}${createdFrom === '' ? '' : ` from ${createdFrom}`}`),
    ...line('reason', reason),
    ...line('retry of', retryOf),
    ...line('undoes', rollbackOf),
    ...line('undone by', rolledBackBy),
    ...at('created', operation.created),
    ...at('started', operation.started),
    ...(hasEnded(operation) ? [] : at('bakes to', operation.bakeUntil)),
    ...at('ended', operation.ended),
  ];
}

/** Targets whose steps are shown unasked. */
const STEPS_SHOWN_TARGETS_MAX = 3;

interface ShowOptions extends GlobalOptions {
  readonly steps?: boolean;
}

/** Each step of a deploy on few machines, or on all where that is asked for; else on those where it did not succeed. */
async function showSteps(io: Io, output: Output, targets: readonly Command[], all: boolean): Promise<void> {
  await deployTable(io, output, targets);
  const some = targets.filter(({ outcome }) => outcome !== 'OUTCOME_SUCCEEDED');
  const shown = all || targets.length <= STEPS_SHOWN_TARGETS_MAX ? targets : some;
  const now = io.clock.now();
  for (const target of shown.filter(({ deploy }) => deploy !== undefined)) {
    await output.line(`\n${target.machineName}  ${placeText(target, now)}  ${target.message}`.trimEnd());
    await deploySteps(output, [target], '  ');
  }
  if (shown.length < targets.length) await output.note('The steps of every machine: --steps.');
}

async function show(io: Io, options: ShowOptions, typed: string): Promise<void> {
  const output = new Output(io, options);
  const { operation, targets } = await withCenter(io, options, async (center) => {
    const found = await findOperation(center, typed);
    const all = await allPages(
      (page) => center.listTargets({ ...page, operation: found.id, outcomes: [] }),
      (page) => page.targets,
    );
    return { operation: found, targets: all };
  });
  await output.document({
    operation: Operation.toJSON(operation),
    targets: targets.map((target) => WireCommand.toJSON(target)),
  });
  const now = io.clock.now();
  for (const line of headLines(operation, now)) await output.line(line);
  if (targets.length === 0) return;
  await output.line(`targets   ${targets.length}: ${countsText(countTargets(targets))}\n`);
  if (hasSteps(operation)) {
    await showSteps(io, output, targets, options.steps === true);
    return;
  }
  await output.table(targets, [
    { heading: 'MACHINE', text: ({ machineName, canary }) => `${machineName}${canary ? ' (canary)' : ''}` },
    { heading: 'OUTCOME', text: (target) => placeText(target, now) },
    { heading: 'ORDERED', text: ({ delivered }) => clockTime(delivered, now) },
    { heading: 'STARTED', text: ({ started }) => clockTime(started, now) },
    { heading: 'TOOK', text: (target) => tookText(target), right: true },
    { heading: 'EXIT', text: ({ exitCode }) => (exitCode === undefined ? '' : String(exitCode)), right: true },
    { heading: 'MESSAGE', text: (target) => messageText(target, now).split('\n')[0] ?? '' },
  ]);
  for (const target of targets) {
    const lines = outputLines(target);
    if (lines.length > 0) await output.line(`\n${target.machineName} printed last:`);
    for (const line of lines) await output.line(`  | ${line}`);
  }
}

async function watch(io: Io, options: GlobalOptions, typed: string): Promise<void> {
  await withCenter(io, options, async (center) =>
    showToEnd(io, new Output(io, options), center, { operation: await findOperation(center, typed), stream: true }),
  );
}

/** Pauses, resumes or cancels, and says what is so now. */
async function steer(
  io: Io,
  options: GlobalOptions,
  typed: string,
  call: (center: Center, id: string) => Promise<Operation>,
): Promise<void> {
  const output = new Output(io, options);
  const operation = await withCenter(io, options, async (center) =>
    call(center, (await findOperation(center, typed)).id),
  );
  await output.document({ operation: Operation.toJSON(operation) });
  const { counts, message } = operation;
  await output.line(
    `${operation.id}  ${titleOf(operation)}  ${stateOf(operation)}${message === '' ? '' : `: ${message}`}`,
  );
  const underWay = (counts?.started ?? 0) + (counts?.delivered ?? 0);
  if (!hasEnded(operation) && operation.state !== 'OPERATION_STATE_RUNNING' && underWay > 0) {
    await output.note(`${underWay} under way run to their end: "muster ops watch ${operation.id}" shows them.`);
  }
}

interface RetryOptions extends GlobalOptions {
  readonly reason?: string;
  readonly wait?: boolean;
  readonly includeCancelled?: boolean;
  readonly detach?: boolean;
}

async function retry(io: Io, options: RetryOptions, typed: string): Promise<void> {
  const requestId = newId('r');
  await withCenter(io, options, async (center) => {
    const { id } = await findOperation(center, typed);
    const request = {
      id,
      reason: options.reason ?? '',
      requestId,
      wait: options.wait === true,
      includeCancelled: options.includeCancelled === true,
    };
    await runOperation(io, new Output(io, options), center, {
      order: () => center.retryOperation(request, { signal: io.signal }),
      detach: options.detach === true,
    });
  });
}

const LISTED = 50;

export function register(program: CliCommand, io: Io): void {
  const ops = program
    .command('ops [id]')
    .description('operations over machines: the newest, or one of them; ids may be shortened')
    .option('--service <name>', 'only those on this service')
    .option('--open', 'only those that have not ended')
    .option('--steps', 'of a deploy: every step on every machine')
    .option('-n, --limit <count>', 'so many', countArgument, LISTED)
    .action((id: string | undefined, _options, command: CliCommand) => {
      const options: ListOptions & ShowOptions = command.optsWithGlobals();
      return id === undefined ? list(io, options) : show(io, options, id);
    });
  ops
    .command('watch <id>')
    .description('follow it until it has ended (exit status 0 only when it succeeded)')
    .action((id: string, _options, command: CliCommand) => watch(io, command.optsWithGlobals(), id));
  ops
    .command('pause <id>')
    .description('order no more targets until it is resumed; what is under way runs to its end')
    .action((id: string, _options, command: CliCommand) =>
      steer(io, command.optsWithGlobals(), id, (center, found) => center.pauseOperation({ id: found })),
    );
  ops
    .command('resume <id>')
    .description('go on with a paused one')
    .action((id: string, _options, command: CliCommand) =>
      steer(io, command.optsWithGlobals(), id, (center, found) => center.resumeOperation({ id: found })),
    );
  ops
    .command('cancel <id>')
    .description('order no more targets for good; what has started runs to its end')
    .action((id: string, _options, command: CliCommand) =>
      steer(io, command.optsWithGlobals(), id, (center, found) => center.cancelOperation({ id: found })),
    );
  ops
    .command('retry <id>')
    .description('a new operation over the failed, expired and unknown targets of one that has ended')
    .option('--reason <text>', 'why, for the record')
    .option('--wait', 'go behind operations on the service that are under way, instead of being refused')
    .option('--include-cancelled', 'the targets that were never reached too')
    .option('--detach', 'do not wait for the end: print the id and leave')
    .action((id: string, _options, command: CliCommand) => retry(io, command.optsWithGlobals(), id));
}
