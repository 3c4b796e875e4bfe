import { Operation, type CenterService } from '../../../generated/muster/v1/center.js';
import { isCode, MusterError } from '../../kit/errors.js';
import type { Client } from '../../rpc/types.js';
import { Failed, type Io } from '../io.js';
import { followOperation, orderOperation, type FollowEnd } from './following.js';
import { linesProgress, objectsProgress, quietProgress, type Progress } from './lines.js';
import { hasSteps } from './deploy-report.js';
import { endDocument, reportEnd } from './report.js';
import { screenProgress } from './screen.js';
import { titleOf } from './text.js';
import { OperationView } from './view.js';
import type { Output } from '../output.js';

type Center = Client<typeof CenterService>;

/** Ordering an operation, and showing it until it has ended. */

const SILENT: Progress = {
  changed: () => undefined,
  away: () => undefined,
  back: () => undefined,
  close: () => Promise.resolve(),
};

function progressOf(io: Io, output: Output, view: OperationView, stream: boolean): Progress {
  if (output.json) return stream ? objectsProgress(output, view) : SILENT;
  if (io.terminal) return screenProgress(io, view);
  // What goes through many steps is told of as it goes, also where there is one machine.
  return view.total === 1 && !hasSteps(view.operation)
    ? quietProgress(io, output, view)
    : linesProgress(io, output, view);
}

export interface Shown {
  readonly operation: Operation;
  /** In JSON: an object for each change, before the document at the end. */
  readonly stream?: boolean;
}

/** An operation that was followed, and how that ended. */
interface Followed {
  readonly view: OperationView;
  readonly end: FollowEnd;
  readonly succeeded: boolean;
}

async function follow(io: Io, output: Output, center: Center, shown: Required<Shown>): Promise<Followed> {
  const view = new OperationView(shown.operation);
  const progress = progressOf(io, output, view, shown.stream);
  const end = await followOperation(io, center, view, progress).finally(() => progress.close());
  return { view, end, succeeded: await reportEnd(io, output, view, end) };
}

/**
 * The rollback that the end of a deploy set off, if there is one. What the watch of a deploy last said may be older than its rollback.
 */
async function followUp(center: Center, { view, end }: Followed): Promise<Operation | undefined> {
  if (end !== 'ended' || view.operation.action !== 'ACTION_DEPLOY') return undefined;
  const mayHave = view.operation.deploy?.onFailure ?? 'ROLLBACK_SCOPE_TARGET';
  let id = view.operation.rolledBackBy;
  const asked = mayHave === 'ROLLBACK_SCOPE_BATCH' || mayHave === 'ROLLBACK_SCOPE_ALL';
  if (id === '' && asked && view.operation.state === 'OPERATION_STATE_FAILED') {
    id = (await center.getOperation({ id: view.operation.id })).rolledBackBy;
  }
  return id === '' ? undefined : center.getOperation({ id });
}

/**
 * Shows an operation until it has ended, the user gives up, or the center cannot be reached any more, and says which. A rollback that it
 * set off is shown too.
 * @throws Failed unless the operation succeeded
 */
export async function showToEnd(
  io: Io,
  output: Output,
  center: Center,
  { operation, stream = false }: Shown,
): Promise<void> {
  const first = await follow(io, output, center, { operation, stream });
  const next = await followUp(center, first);
  if (next === undefined) await output.document(endDocument(first.view, first.end));
  else {
    await output.line(`\nwhat had succeeded is put back: ${titleOf(next)} as ${next.id}`);
    const second = await follow(io, output, center, { operation: next, stream });
    await output.document({
      ...endDocument(first.view, first.end),
      rollback: endDocument(second.view, second.end),
    });
  }
  if (!first.succeeded) throw new Failed();
}

/** A refusal because of another operation, with what can be done about it. */
function explained(error: unknown): unknown {
  if (!isCode(error, 'conflict') || error.reason !== 'OPERATION_HELD' || error.message.includes('--wait')) return error;
  const { code, message, fields, metadata } = error;
  return new MusterError(code, `${message.replace(/[.\s]*$/, '')}. To go behind it: --wait. "muster ops" shows both.`, {
    reason: error.reason,
    fields,
    metadata,
    cause: error,
  });
}

export interface Running {
  /** Sends the order; called again, under the same request id, when the answer was lost. */
  readonly order: () => Promise<Operation>;
  /** Do not follow it. */
  readonly detach: boolean;
}

/**
 * Orders an operation and follows it.
 * @throws the center's refusal; Failed when it did not succeed, or it is not known whether it was ordered
 */
export async function runOperation(io: Io, output: Output, center: Center, { order, detach }: Running): Promise<void> {
  const ordered = await orderOperation(io, order).catch((error: unknown) => {
    throw explained(error);
  });
  if (ordered.kind === 'unclear') {
    await output.line(`not known whether it was ordered (${ordered.why}): "muster ops" shows it`);
    await output.document({ ordered: null, error: ordered.why });
    throw new Failed();
  }
  const { operation } = ordered;
  if (!detach) {
    await showToEnd(io, output, center, { operation });
    return;
  }
  await output.document({ operation: Operation.toJSON(operation) });
  await output.line(`${operation.id}  ${titleOf(operation)}`);
  await output.note(
    `"muster ops watch ${operation.id}" shows how it goes, "muster ops cancel ${operation.id}" ends it.`,
  );
}
