import {
  PlanOperationResponse,
  type PlannedTarget,
  type StartOperationRequest,
} from '../../../generated/muster/v1/center.js';
import { counted } from '../../kit/counted.js';
import { withCenter } from '../connection.js';
import type { GlobalOptions, Io } from '../io.js';
import { enumWord, Output, telling, type Column } from '../output.js';
import { changeText } from './deploy-text.js';
import { stateOf, strategyText, titleOf } from './text.js';

/** What an operation would do, without doing it. */

function columns(targets: readonly PlannedTarget[]): Column<PlannedTarget>[] {
  const turns = new Map(targets.map((target, index) => [target, String(index + 1)]));
  return [
    { heading: 'TURN', text: (target) => turns.get(target) ?? '', right: true },
    { heading: 'MACHINE', text: (target) => target.machineName },
    { heading: 'WHY', text: (target) => target.why },
    { heading: 'STATUS', text: (target) => (target.online ? 'online' : 'offline') },
    {
      heading: 'STATE',
      text: ({ state }) => (state === 'SERVICE_STATE_UNSPECIFIED' ? '' : enumWord('SERVICE_STATE', state)),
    },
    { heading: 'RELEASE', text: releaseText },
    { heading: 'CANARY', text: (target) => (target.canary ? 'canary' : '') },
    { heading: 'CHANGES', text: (target) => target.changes.join('; ') },
    { heading: 'PROBLEM', text: (target) => target.problem },
  ];
}

/** Of a machine that is away nobody can say what it runs from. */
function releaseText({ online, state, from, to }: PlannedTarget): string {
  const unknown = !online && state === 'SERVICE_STATE_UNSPECIFIED' && from === undefined && to !== undefined;
  return unknown ? `? -> ${to.version}` : changeText(from, to);
}

const COLUMNS_DEFAULT = 80;
/** Between two columns. */
const GAP = 2;

function widthOf<Row>(rows: readonly Row[], all: readonly Column<Row>[]): number {
  const widths = all.map(({ heading, text }) => Math.max(heading.length, ...rows.map((row) => text(row).length)));
  return widths.reduce((sum, width) => sum + width + GAP, -GAP);
}

/** Sentences: where the table would be wider than the terminal with them, they stand below it. */
const SENTENCES = ['CHANGES', 'PROBLEM'];

async function showTargets(io: Io, output: Output, targets: readonly PlannedTarget[]): Promise<void> {
  const all = telling(targets, columns(targets));
  if (widthOf(targets, all) <= (io.columns ?? COLUMNS_DEFAULT)) {
    await output.table(targets, all);
    return;
  }
  await output.table(
    targets,
    all.filter(({ heading }) => !SENTENCES.includes(heading)),
  );
  for (const { machineName, changes, problem } of targets) {
    for (const change of changes) await output.line(`  ${machineName}: ${change}`);
    if (problem !== '') await output.line(`  ${machineName} would not run: ${problem}`);
  }
}

/** Shows every target and why it is one. Orders nothing. */
export async function showPlan(io: Io, options: GlobalOptions, request: StartOperationRequest): Promise<void> {
  const output = new Output(io, options);
  const planned = await withCenter(io, options, (center) => center.planOperation(request));
  await output.document(PlanOperationResponse.toJSON(planned));
  const { targets, strategy, holder } = planned;
  await showTargets(io, output, targets);
  const offline = targets.filter(({ online }) => !online).length;
  const problems = targets.filter(({ problem }) => problem !== '').length;
  await output.line(
    `${titleOf(request)}: ${counted(targets.length, 'target')}${offline > 0 ? `, ${offline} not connected` : ''}${problems > 0 ? `, ${problems} that would not run` : ''}; ${strategyText(strategy)}`,
  );
  if (holder !== undefined) {
    await output.line(
      `now it would be refused: ${holder.id} (${titleOf(holder)}, ${stateOf(holder)}, by ${holder.createdBy}) is under way; with --wait it goes behind that`,
    );
  }
  await output.note('Nothing was ordered.');
}
