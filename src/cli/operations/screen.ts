import type { Command } from '../../../generated/muster/v1/center.js';
import { sleep } from '../../kit/clock.js';
import { counted } from '../../kit/counted.js';
import { inertLine } from '../inert.js';
import type { Io } from '../io.js';
import { holdText, type Progress } from './lines.js';
import { countsText, elapsedText, messageText, placeText, stateOf, titleOf, tookText } from './text.js';
import type { OperationView } from './view.js';
import { clockTime, coloured, write } from '../output.js';

/** The live table of an operation on a terminal: drawn anew in place, never higher than the terminal. */

/** Between looks at whether something has changed; a slower terminal gets fewer frames, each with the newest state. */
const FRAME_MS = 100;
/** Durations are counted on even when nothing changes. */
const REFRESH_MS = 1000;

const COLUMNS_DEFAULT = 80;
const ROWS_DEFAULT = 24;
/** Widest name of a machine that is shown whole. */
const NAME_SHOWN_MAX = 40;

const UNDER_WAY = ['OUTCOME_STARTED', 'OUTCOME_DELIVERED', 'OUTCOME_QUEUED'];
const TROUBLE = ['OUTCOME_FAILED', 'OUTCOME_UNKNOWN', 'OUTCOME_EXPIRED'];

/** What a frame shows besides the operation. */
export interface FrameOptions {
  readonly nowMs: number;
  readonly columns: number;
  readonly rows: number;
  /** Since when the center cannot be reached. */
  readonly awayMs: number | undefined;
}

function cut(text: string, characters: number): string {
  if (text.length <= characters) return text;
  // Never half of a character.
  return `${text.slice(0, Math.max(0, characters - 1)).replace(/[\ud800-\udbff]$/, '')}…`;
}

/** The targets there is room for: all of them, or those under way and those that went wrong, the latest. */
export function shownTargets(targets: readonly Command[], room: number): Command[] {
  if (targets.length <= room) return [...targets];
  const underWay = targets.filter(({ outcome }) => UNDER_WAY.includes(outcome));
  const troubles = targets.filter(({ outcome }) => TROUBLE.includes(outcome));
  const forTroubles = Math.min(troubles.length, Math.max(Math.floor(room / 2), room - underWay.length));
  return [...underWay.slice(0, room - forTroubles), ...(forTroubles > 0 ? troubles.slice(-forTroubles) : [])];
}

function runningText(target: Command, nowMs: number): string {
  const { outcome, started } = target;
  if (outcome !== 'OUTCOME_STARTED' || started === undefined) return tookText(target);
  return elapsedText(nowMs - started.getTime());
}

function targetRows(shown: readonly Command[], { nowMs, columns }: FrameOptions): string[] {
  const names = shown.map(({ machineName, canary }) =>
    cut(inertLine(`${machineName}${canary ? ' *' : ''}`), NAME_SHOWN_MAX),
  );
  const outcomes = shown.map((target) => placeText(target, nowMs));
  const times = shown.map((target) => runningText(target, nowMs));
  const width = (texts: readonly string[]): number => Math.max(0, ...texts.map((text) => text.length));
  const widths = { name: width(names), outcome: width(outcomes), time: width(times) };
  const left = columns - widths.name - widths.outcome - widths.time - 9;
  return shown.map((target, index) => {
    const name = (names[index] ?? '').padEnd(widths.name);
    const outcome = coloured((outcomes[index] ?? '').padEnd(widths.outcome));
    const time = (times[index] ?? '').padStart(widths.time);
    return `  ${name}  ${outcome}  ${time}  ${left > 0 ? cut(inertLine(messageText(target, nowMs)), left) : ''}`.trimEnd();
  });
}

function headLines(view: OperationView, { nowMs, columns, awayMs }: FrameOptions): string[] {
  const { operation } = view;
  const since = operation.started ?? operation.created;
  const ran = since === undefined ? 0 : (operation.ended?.getTime() ?? nowMs) - since.getTime();
  const hold = holdText(operation, nowMs);
  const lines = [
    `${titleOf(operation)}  ${operation.id}  ${stateOf(operation)}  ${elapsedText(ran)}`,
    ...(view.total === 0 ? [] : [`${counted(view.total, 'target')}: ${countsText(view.counts)}`]),
    ...(hold === undefined ? [] : [hold]),
    ...(awayMs === undefined
      ? []
      : [
          `the center cannot be reached since ${clockTime(new Date(awayMs), nowMs)}: trying again; what follows is as of then`,
        ]),
  ];
  return lines.map((line) => cut(inertLine(line), columns - 1));
}

/** One frame: at most `rows` - 1 lines, since the cursor stands below them. */
export function renderFrame(view: OperationView, options: FrameOptions): string[] {
  const head = headLines(view, options).slice(0, Math.max(1, options.rows - 1));
  const room = options.rows - 1 - head.length;
  const { targets } = view;
  if (targets.length <= room) return [...head, ...targetRows(targets, options)];
  const shown = shownTargets(targets, Math.max(0, room - 1));
  return [...head, ...targetRows(shown, options), `  and ${targets.length - shown.length} more`].slice(
    0,
    options.rows - 1,
  );
}

const NO_WRAP = '\u001b[?7l';
const WRAP = '\u001b[?7h';
const ERASE_LINE_END = '\u001b[K';
const ERASE_BELOW = '\u001b[J';

/** To the first line of the last frame. */
function home(lines: number): string {
  return lines === 0 ? '' : `\u001b[${lines}A\r`;
}

/** Shows the operation until it is closed, and then leaves nothing behind. */
export function screenProgress(io: Io, view: OperationView): Progress {
  const closed = new AbortController();
  let dirty = true;
  let awayMs: number | undefined;
  let drawn = 0;
  const draw = async (): Promise<void> => {
    dirty = false;
    const { columns = COLUMNS_DEFAULT, rows = ROWS_DEFAULT } = io;
    const lines = renderFrame(view, { nowMs: io.clock.now(), columns, rows, awayMs });
    const body = lines.map((line) => `${line}${ERASE_LINE_END}\n`).join('');
    const text = `${NO_WRAP}${home(drawn)}${body}${ERASE_BELOW}${WRAP}`;
    drawn = lines.length;
    await write(io.stdout, text);
  };
  const run = async (): Promise<void> => {
    let drawnMs = -Infinity;
    while (!closed.signal.aborted) {
      if (dirty || io.clock.monotonic() - drawnMs >= REFRESH_MS) {
        await draw();
        drawnMs = io.clock.monotonic();
      }
      await sleep(io.clock, FRAME_MS, closed.signal).catch(() => undefined);
    }
  };
  const running = run();
  // A terminal that has gone away is told of by close().
  running.catch(() => undefined);
  return {
    changed: () => {
      dirty = true;
    },
    away: (sinceMs) => {
      awayMs = sinceMs;
      dirty = true;
    },
    back: () => {
      awayMs = undefined;
      dirty = true;
    },
    close: async () => {
      closed.abort(new Error('closed'));
      await running;
      await write(io.stdout, `${home(drawn)}${ERASE_BELOW}`);
    },
  };
}
