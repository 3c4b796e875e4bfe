import {
  Command as WireCommand,
  Operation,
  type Command,
  type OperationState,
} from '../../../generated/muster/v1/center.js';
import { sleep } from '../../kit/clock.js';
import { counted } from '../../kit/counted.js';
import type { Io } from '../io.js';
import type { Listener } from './following.js';
import { messageText, paceText, placeText, titleOf } from './text.js';
import { stepText } from './deploy-text.js';
import { hasEnded, type OperationView } from './view.js';
import { clockTime, type Output } from '../output.js';

/** How an operation is shown while it goes on. */
export interface Progress extends Listener {
  /** Nothing more is shown. */
  readonly close: () => Promise<void>;
}

/** Of the states in which an operation does not simply go on, where its message says no more. */
const HOLDS: Partial<Record<OperationState, string>> = {
  OPERATION_STATE_PAUSED: 'paused',
  OPERATION_STATE_STOPPING: 'no more targets are ordered',
};

/** What is to be said behind it. */
function afterwards({ id, state }: Operation): string {
  if (state === 'OPERATION_STATE_PAUSED') return ` ("muster ops resume ${id}" goes on)`;
  return state === 'OPERATION_STATE_STOPPING' ? ' (stopping: what has started runs to its end)' : '';
}

/** What holds the operation as a whole, for people; undefined while it simply goes on. */
export function holdText(operation: Operation, nowMs: number): string | undefined {
  const { state, message, bakeUntil } = operation;
  // One that waits says for which; else its turn is about to come.
  if (state === 'OPERATION_STATE_WAITING') return message || undefined;
  const text = HOLDS[state];
  if (text !== undefined) return `${message || text}${afterwards(operation)}`;
  const bakes = state === 'OPERATION_STATE_RUNNING' && bakeUntil !== undefined && bakeUntil.getTime() > nowMs;
  return bakes ? `the canaries succeeded, and are looked at until ${clockTime(bakeUntil, nowMs)}` : undefined;
}

/** What changes of the operation as a whole, line by line. */
class Holds {
  readonly #io: Io;
  #last: string | undefined;

  constructor(io: Io) {
    this.#io = io;
  }

  /** A line where there is something new to say. */
  next(operation: Operation): string | undefined {
    const text = hasEnded(operation) ? undefined : holdText(operation, this.#io.clock.now());
    const before = this.#last;
    this.#last = text;
    if (text === before) return undefined;
    return text ?? (hasEnded(operation) ? undefined : 'goes on');
  }
}

/** Why no more are ordered says nothing where there are no more. */
function sayingNothing({ operation, total }: OperationView): boolean {
  return operation.state === 'OPERATION_STATE_STOPPING' && total <= 1;
}

function awayText(sinceMs: number, nowMs: number): string {
  return `the center cannot be reached since ${clockTime(new Date(sinceMs), nowMs)}: trying again; what has started goes on meanwhile`;
}

const BACK = 'the center is back';

/** On more machines than this the steps of each are not told one by one. */
const STEPS_TOLD_MACHINES_MAX = 20;

/** For output that is no terminal: one line for each change of a target's outcome. */
export function linesProgress(io: Io, output: Output, view: OperationView): Progress {
  const holds = new Holds(io);
  let named = false;
  const stamp = (): string => clockTime(new Date(io.clock.now()), io.clock.now());
  const say = (text: string): Promise<void> => output.line(`${stamp()}  ${text}`);
  const name = async (): Promise<void> => {
    if (named || view.total === 0) return;
    named = true;
    const { operation } = view;
    await say(
      `${titleOf(operation)} on ${counted(view.total, 'machine')} as ${operation.id} (${operation.strategy ? paceText(operation.strategy) : ''})`,
    );
  };
  return {
    changed: async (targets) => {
      await name();
      const hold = holds.next(view.operation);
      if (hold !== undefined && !sayingNothing(view)) await say(hold);
      for (const target of targets) {
        if (target.outcome === 'OUTCOME_PENDING' || (view.total > STEPS_TOLD_MACHINES_MAX && stepText(target)))
          continue;
        const message = messageText(target, io.clock.now()).split('\n')[0] ?? '';
        await say(
          `${target.machineName}  ${placeText(target, io.clock.now())}${target.canary ? ' (canary)' : ''}${message === '' ? '' : `  ${message}`}`,
        );
      }
    },
    away: (sinceMs) => say(awayText(sinceMs, io.clock.now())),
    back: () => say(BACK),
    close: () => Promise.resolve(),
  };
}

/** An order to a machine that is connected is on its way sooner than this. */
const NOT_CONNECTED_AFTER_MS = 1500;

/** For a single target: its result alone is the output; what holds it up is said beside. */
export function quietProgress(io: Io, output: Output, view: OperationView): Progress {
  const holds = new Holds(io);
  const closed = new AbortController();
  let waiting: Command | undefined;
  let notes: Promise<void> = Promise.resolve();
  const noteAbsent = async (target: Command): Promise<void> => {
    await sleep(io.clock, NOT_CONNECTED_AFTER_MS, closed.signal).catch(() => undefined);
    if (waiting?.id !== target.id || closed.signal.aborted) return;
    const until = target.expires === undefined ? '' : ` at ${clockTime(target.expires, io.clock.now())}`;
    await output.note(
      `${target.machineName} is not connected: the order waits for it until it expires${until} (Ctrl-C leaves it waiting)`,
    );
  };
  return {
    changed: async (targets) => {
      const hold = holds.next(view.operation);
      if (hold !== undefined && !sayingNothing(view)) await output.note(hold);
      for (const target of targets) {
        const queued = target.outcome === 'OUTCOME_QUEUED';
        waiting = queued ? target : undefined;
        if (queued) notes = noteAbsent(target);
      }
    },
    away: (sinceMs) => output.note(awayText(sinceMs, io.clock.now())),
    back: () => output.note(BACK),
    close: async () => {
      closed.abort(new Error('closed'));
      await notes;
    },
  };
}

/** For programs that watch: an object for each thing that happens. */
export function objectsProgress(output: Output, view: OperationView): Progress {
  return {
    changed: (targets) =>
      output.document({
        operation: Operation.toJSON(view.operation),
        targets: targets.map((target) => WireCommand.toJSON(target)),
      }),
    away: (sinceMs) => output.document({ awaySince: new Date(sinceMs).toISOString() }),
    back: () => output.document({ awaySince: null }),
    close: () => Promise.resolve(),
  };
}
