import {
  PlanOperationResponse,
  type PlannedTarget,
  type StartOperationRequest,
} from '../../../generated/muster/v1/center.js';
import { withCenter } from '../connection.js';
import type { GlobalOptions, Io } from '../io.js';
import { enumWord, Output, type Column } from '../output.js';
import { counted } from '../queue-text.js';
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
    { heading: 'RELEASE', text: ({ from, to }) => changeText(from, to) },
    { heading: 'CANARY', text: (target) => (target.canary ? 'canary' : '') },
    { heading: 'CHANGES', text: (target) => target.changes.join('; ') },
    { heading: 'PROBLEM', text: (target) => target.problem },
  ];
}

/** Columns in which any row says something: a table is to fit the terminal. */
function telling<Row>(rows: readonly Row[], all: readonly Column<Row>[]): Column<Row>[] {
  return all.filter(({ text }) => rows.some((row) => text(row) !== ''));
}

/** Shows every target and why it is one. Orders nothing. */
export async function showPlan(io: Io, options: GlobalOptions, request: StartOperationRequest): Promise<void> {
  const output = new Output(io, options);
  const planned = await withCenter(io, options, (center) => center.planOperation(request));
  await output.document(PlanOperationResponse.toJSON(planned));
  const { targets, strategy, holder } = planned;
  await output.table(targets, telling(targets, columns(targets)));
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
