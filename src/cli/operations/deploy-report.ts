import type { Command, Operation } from '../../../generated/muster/v1/center.js';
import type { Io } from '../io.js';
import type { Column, Output } from '../output.js';
import { deployLines, downtimeText, versionText } from './deploy-text.js';
import { outcomeText, tookText } from './text.js';

/** What a deploy or a rollback did, machine by machine. */

/** Operations whose targets have steps. */
export function hasSteps({ action }: Pick<Operation, 'action'>): boolean {
  return action === 'ACTION_DEPLOY' || action === 'ACTION_ROLLBACK';
}

function columns(nowMs: number): Column<Command>[] {
  return [
    { heading: 'MACHINE', text: ({ machineName, canary }) => `${machineName}${canary ? ' (canary)' : ''}` },
    { heading: 'OUTCOME', text: (target) => outcomeText(target, nowMs) },
    { heading: 'BEFORE', text: ({ deploy }) => (deploy === undefined ? '' : versionText(deploy.from)) },
    { heading: 'NOW', text: ({ deploy }) => (deploy === undefined ? '' : versionText(deploy.current)) },
    { heading: 'DOWN', text: ({ deploy }) => (deploy === undefined ? '' : downtimeText(deploy)), right: true },
    { heading: 'TOOK', text: (target) => tookText(target), right: true },
    { heading: 'VERIFIED', text: ({ deploy }) => deploy?.verified.join(', ') ?? '' },
  ];
}

/** A row for each machine: what it ran from, what it runs from, how long it was down. */
export async function deployTable(io: Io, output: Output, targets: readonly Command[]): Promise<void> {
  await output.table(targets, columns(io.clock.now()));
}

/** Each step of each of these targets. */
export async function deploySteps(output: Output, targets: readonly Command[], indent: string): Promise<void> {
  for (const { deploy } of targets) {
    for (const line of deploy === undefined ? [] : deployLines(deploy)) await output.line(`${indent}${line}`);
  }
}
