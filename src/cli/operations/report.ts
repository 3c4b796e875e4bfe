import { Command as WireCommand, Operation, type Command } from '../../../generated/muster/v1/center.js';
import { counted } from '../../kit/counted.js';
import { formatDuration } from '../../kit/durations.js';
import type { Io } from '../io.js';
import { deploySteps, deployTable, hasSteps } from './deploy-report.js';
import type { FollowEnd } from './following.js';
import { countsText, messageText, outcomeText, outputLines, stateOf, titleOf, tookText } from './text.js';
import { hasEnded, isSettled, type OperationView } from './view.js';
import type { Output } from '../output.js';

/** What is said when following is over. */

/** Targets that went wrong and are told of one by one. */
const TROUBLES_SHOWN = 20;

const RETRIED = ['OUTCOME_FAILED', 'OUTCOME_EXPIRED', 'OUTCOME_UNKNOWN'];

/** `web-1  orders  SUCCEEDED`: one target as one line. */
export function targetLine(target: Command, nowMs: number): string {
  const message = messageText(target, nowMs);
  return `${target.machineName}  ${target.service}  ${outcomeText(target, nowMs)}${message === '' ? '' : `  ${message}`}`;
}

/** A restore to the place of a service that runs is refused unless it may be stopped. */
function stopAdvice({ operation, counts }: OperationView): string[] {
  const { action, backup } = operation;
  if (action !== 'ACTION_RESTORE' || counts.failed === 0 || backup?.stop === true || backup?.aside === true) return [];
  return ['A service that runs: with --stop it is stopped for the restore and started again, with --aside it goes on.'];
}

/** What can be done about an operation that did not succeed; empty where nothing can. */
function nextSteps(view: OperationView): string[] {
  const { id, action } = view.operation;
  // A search is made anew.
  if (action === 'ACTION_SEARCH') return [];
  const { failed, expired, unknown, cancelled } = view.counts;
  const open = view.targets.some((target) => !isSettled(target));
  return [
    ...(open
      ? [
          `What is unknown is resolved when the agent is back; it never runs again by itself. "muster ops ${id}" shows it.`,
        ]
      : []),
    ...(failed + expired + unknown > 0
      ? [
          `To try those again: "muster ops retry ${id}"${cancelled > 0 ? '; with --include-cancelled also those never reached' : ''}.`,
        ]
      : cancelled > 0
        ? [`To go on with those never reached: "muster ops retry ${id} --include-cancelled".`]
        : []),
  ];
}

function tookOf({ started, created, ended }: Operation): string {
  const from = started ?? created;
  return from && ended ? ` in ${formatDuration(Math.max(0, ended.getTime() - from.getTime()))}` : '';
}

async function troubles(io: Io, output: Output, targets: readonly Command[]): Promise<void> {
  const now = io.clock.now();
  for (const target of targets.slice(0, TROUBLES_SHOWN)) {
    const message = messageText(target, now).replaceAll('\n', '\n    ');
    const took = tookText(target);
    await output.line(
      `  ${target.machineName}  ${outcomeText(target, now)}${took === '' ? '' : ` after ${took}`}${message === '' ? '' : `  ${message}`}`,
    );
    if (target.deploy === undefined) for (const line of outputLines(target)) await output.line(`    | ${line}`);
    await deploySteps(output, [target], '    ');
  }
  if (targets.length > TROUBLES_SHOWN) await output.line(`  and ${targets.length - TROUBLES_SHOWN} more`);
}

/** A canary that succeeded may not have stayed well: then that is said, too. */
async function endOfOne(io: Io, output: Output, operation: Operation, only: Command): Promise<void> {
  await output.line(targetLine(only, io.clock.now()));
  if (only.deploy === undefined) for (const line of outputLines(only)) await output.line(`  | ${line}`);
  await deploySteps(output, [only], '  ');
  if (only.outcome !== 'OUTCOME_SUCCEEDED' || operation.message === '') return;
  await output.line(`${titleOf(operation)}  ${stateOf(operation)}: ${operation.message}`);
}

async function ended(io: Io, output: Output, view: OperationView): Promise<void> {
  const { operation, targets, counts } = view;
  const [only] = targets;
  if (only !== undefined && view.total === 1) {
    await endOfOne(io, output, operation, only);
  } else {
    const message = operation.message === '' ? '' : `: ${operation.message}`;
    await output.line(`${titleOf(operation)}  ${stateOf(operation)}${tookOf(operation)}${message}`);
    if (view.total > 0) await output.line(`  ${counted(view.total, 'target')}: ${countsText(counts)}`);
    if (hasSteps(operation)) await deployTable(io, output, targets);
    await troubles(
      io,
      output,
      targets.filter(({ outcome }) => RETRIED.includes(outcome)),
    );
  }
  for (const line of [...stopAdvice(view), ...nextSteps(view)]) await output.note(line);
}

/** What is known when following ended before the operation did. */
async function unfinished(output: Output, view: OperationView, end: FollowEnd): Promise<void> {
  const { id } = view.operation;
  const known = view.total === 0 ? 'no target has been ordered' : countsText(view.counts);
  if (end === 'lost') {
    await output.line(
      `ordered as ${id}, and then the center could not be reached any more; last heard of it: ${known}. How it went on is not known: "muster ops watch ${id}" shows it when the center is back.`,
    );
    return;
  }
  await output.line(`${titleOf(view.operation)} goes on without this command (${id}): ${known}`);
  await output.note(`"muster ops watch ${id}" shows how it goes on, "muster ops cancel ${id}" ends it.`);
}

/** What following an operation came to, for programs. */
export function endDocument({ operation, targets }: OperationView, end: FollowEnd): object {
  return {
    operation: Operation.toJSON(operation),
    targets: targets.map((target) => WireCommand.toJSON(target)),
    contactLost: end === 'lost',
  };
}

/** Says how it ended, or what is known. True: the operation succeeded. */
export async function reportEnd(io: Io, output: Output, view: OperationView, end: FollowEnd): Promise<boolean> {
  const { operation } = view;
  if (hasEnded(operation)) await ended(io, output, view);
  else await unfinished(output, view, end);
  return operation.state === 'OPERATION_STATE_SUCCEEDED';
}
