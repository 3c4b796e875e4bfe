import { unreachable } from '../../kit/errors.js';
import type { Manifest } from '../../model/manifest.js';
import type { Exit, Running } from './driver.js';

/**
 * The life of an instance, decided without effects. Times ending in AtMs are of the monotonic clock.
 *
 *   STOPPED, EXITED, FATAL   nothing runs and nothing will, until it is asked for
 *   STARTING                 launching (no `running` yet), then staying up for the settle time
 *   RUNNING                  stayed up
 *   BACKOFF                  nothing runs; the next launch is at `retryAtMs`
 *   STOPPING                 asked to end (or still launching, and to be ended then); `next` says what follows
 */
export type State =
  | { readonly at: 'STOPPED'; readonly reason: string }
  | {
      readonly at: 'STARTING';
      readonly running: Running | undefined;
      readonly settleAtMs: number;
      readonly tries: Tries;
    }
  | { readonly at: 'RUNNING'; readonly running: Running; readonly wellAtMs: number; readonly tries: Tries }
  | { readonly at: 'BACKOFF'; readonly retryAtMs: number; readonly reason: string; readonly tries: Tries }
  | {
      readonly at: 'STOPPING';
      readonly running: Running | undefined;
      readonly forceAtMs: number;
      readonly forced: boolean;
      readonly next: 'rest' | 'start';
    }
  | { readonly at: 'EXITED'; readonly reason: string }
  | { readonly at: 'FATAL'; readonly reason: string };

/** What went wrong so far. */
export interface Tries {
  /** Starts in a row that did not last for the settle time. */
  readonly quick: number;
  /** Ends in a row without a good run between; the delay before the next start grows with it. */
  readonly failures: number;
  /** Starts since somebody asked for one, the first not counted. */
  readonly restarts: number;
}

export type Event =
  /** start and stop, by a person or the center. */
  | { readonly kind: 'want'; readonly run: boolean }
  | { readonly kind: 'restart' }
  | { readonly kind: 'launched'; readonly running: Running }
  | { readonly kind: 'refused'; readonly reason: string; readonly again: boolean }
  /** It runs, and this agent did not start it. */
  | { readonly kind: 'found'; readonly running: Running; readonly upForMs: number; readonly tries: Tries }
  | { readonly kind: 'ended'; readonly exit: Exit; readonly reason: string; readonly rest: boolean }
  /** Time has passed. */
  | { readonly kind: 'tick' };

export type Effect = 'launch' | 'terminate' | 'kill';

export interface Context {
  readonly nowMs: number;
  readonly policy: Pick<Manifest, 'name' | 'start' | 'restart' | 'stop'>;
  /** In [0, 1). */
  readonly jitter: number;
}

export interface Step {
  readonly state: State;
  readonly effects: readonly Effect[];
}

/** The waits between starts are about 1, 2, 4, 8, 16 and then 30 s, a quarter more or less, so that services do not fail in step. */
export const BACKOFF_INITIAL_MS = 1000;
export const BACKOFF_MAX_MS = 30_000;
/** After a run this long, what went wrong before is forgotten. */
export const WELL_MS = 60_000;
/** A kill may have failed, or have missed a process that was just being made. */
export const KILL_AGAIN_MS = 5000;

export const FRESH: Tries = { quick: 0, failures: 0, restarts: 0 };

/** The next state and what to do for it. Events that mean nothing in a state leave it as it is: the same object, no effects. */
export function decide(state: State, event: Event, context: Context): Step {
  switch (event.kind) {
    case 'want':
      return event.run ? wantStart(state) : wantStop(state, context);
    case 'restart':
      return restart(state, context);
    case 'launched':
      return launched(state, event.running, context);
    case 'refused':
      return refused(state, event, context);
    case 'found':
      return found(state, event, context);
    case 'ended':
      return ended(state, event, context);
    case 'tick':
      return tick(state, context);
    default:
      return unreachable(event);
  }
}

/** When the next tick is due. */
export function nextTickMs(state: State): number | undefined {
  if (state.at === 'STARTING') return state.running && state.settleAtMs;
  if (state.at === 'RUNNING') return state.tries.failures > 0 ? state.wellAtMs : undefined;
  if (state.at === 'BACKOFF') return state.retryAtMs;
  if (state.at === 'STOPPING') return state.running && state.forceAtMs;
  return undefined;
}

/** What runs, where something does. */
export function runningOf(state: State): Running | undefined {
  return 'running' in state ? state.running : undefined;
}

/** Why it is so; empty when all is as wanted. */
export function reasonOf(state: State): string {
  if (state.at === 'STOPPING' && !state.running) return 'its start is still under way';
  return 'reason' in state ? state.reason : '';
}

/** Nothing runs and nothing will, until it is asked for. */
export function isResting(state: State): boolean {
  return state.at === 'STOPPED' || state.at === 'EXITED' || state.at === 'FATAL';
}

const same = (state: State): Step => ({ state, effects: [] });

function launch(tries: Tries): Step {
  return { state: { at: 'STARTING', running: undefined, settleAtMs: 0, tries }, effects: ['launch'] };
}

function wantStart(state: State): Step {
  switch (state.at) {
    case 'STARTING':
    case 'RUNNING':
      return same(state);
    case 'STOPPING':
      return same({ ...state, next: 'start' });
    case 'STOPPED':
    case 'BACKOFF':
    case 'EXITED':
    case 'FATAL':
      return launch(FRESH);
  }
}

function wantStop(state: State, context: Context): Step {
  switch (state.at) {
    case 'STARTING':
    case 'RUNNING':
      return stopping(state.running, 'rest', context);
    case 'STOPPING':
      return same({ ...state, next: 'rest' });
    case 'STOPPED':
      return same(state);
    case 'BACKOFF':
    case 'EXITED':
    case 'FATAL':
      return same({ at: 'STOPPED', reason: '' });
  }
}

function restart(state: State, context: Context): Step {
  switch (state.at) {
    case 'STARTING':
    case 'RUNNING':
      return stopping(state.running, 'start', context);
    case 'STOPPING':
      return same({ ...state, next: 'start' });
    case 'STOPPED':
    case 'BACKOFF':
    case 'EXITED':
    case 'FATAL':
      return launch(FRESH);
  }
}

/** While it is still launching there is nothing to end yet: launched() does it. */
function stopping(running: Running | undefined, next: 'rest' | 'start', context: Context): Step {
  const forceAtMs = context.nowMs + context.policy.stop.graceMs;
  return {
    state: { at: 'STOPPING', running, forceAtMs, forced: false, next },
    effects: running ? ['terminate'] : [],
  };
}

function launched(state: State, running: Running, context: Context): Step {
  if (state.at === 'STARTING') {
    return same({ ...state, running, settleAtMs: context.nowMs + context.policy.start.settleMs });
  }
  return state.at === 'STOPPING' ? stopping(running, state.next, context) : same(state);
}

function refused(state: State, event: Event & { kind: 'refused' }, context: Context): Step {
  if (state.at === 'STOPPING') return afterStop(state);
  if (state.at !== 'STARTING') return same(state);
  if (!event.again) return givenUp(event.reason, context);
  return quickFailure(state.tries, event.reason, context);
}

function found(state: State, event: Event & { kind: 'found' }, context: Context): Step {
  if (state.at === 'STARTING' || state.at === 'RUNNING' || state.at === 'STOPPING') return same(state);
  const { running, upForMs, tries } = event;
  const restMs = context.policy.start.settleMs - upForMs;
  if (restMs > 0) {
    return same({ at: 'STARTING', running, settleAtMs: context.nowMs + restMs, tries });
  }
  return same({ at: 'RUNNING', running, wellAtMs: context.nowMs + WELL_MS, tries });
}

function ended(state: State, event: Event & { kind: 'ended' }, context: Context): Step {
  if (state.at === 'STOPPING') return afterStop(state);
  if (state.at !== 'STARTING' && state.at !== 'RUNNING') return same(state);
  // What ends while its launch is under way is an earlier one.
  if (!state.running) return same(state);
  if (event.rest) return same({ at: 'STOPPED', reason: event.reason });
  const { restart: policy } = context.policy;
  if (event.exit.code === 0 && policy !== 'always') return same({ at: 'EXITED', reason: event.reason });
  if (policy === 'never') return givenUp(`${event.reason}; its manifest says restart: never; see why`, context);
  if (state.at === 'STARTING') return quickFailure(state.tries, event.reason, context);
  return backOff({ ...state.tries, quick: 0, failures: state.tries.failures + 1 }, event.reason, context);
}

function quickFailure(before: Tries, reason: string, context: Context): Step {
  const { retries } = context.policy.start;
  const tries = { ...before, quick: before.quick + 1, failures: before.failures + 1 };
  if (tries.quick > retries) {
    const count = tries.quick === 1 ? 'the first try' : `${tries.quick} tries`;
    return givenUp(`${reason}; given up after ${count}: mend it`, context);
  }
  return backOff(tries, `${reason}; try ${tries.quick} of ${retries + 1}`, context);
}

/** `reason` ends with what a person has to do first. */
function givenUp(reason: string, { policy }: Context): Step {
  return same({ at: 'FATAL', reason: `${reason}, then "muster start ${policy.name}"` });
}

/** A reason without its advice to start the service by hand: for whom something else runs in its place by then. */
export function withoutAdvice(reason: string): string {
  return reason.replace(/(?:: mend it|; see why)?, then "muster start [^"]*"$/, '');
}

function backOff(tries: Tries, reason: string, { nowMs, jitter }: Context): Step {
  const meanMs = BACKOFF_INITIAL_MS * 2 ** (tries.failures - 1);
  const waitMs = Math.min(BACKOFF_MAX_MS, meanMs * (0.75 + jitter / 2));
  return same({ at: 'BACKOFF', retryAtMs: nowMs + waitMs, reason, tries });
}

function afterStop(state: State & { at: 'STOPPING' }): Step {
  if (state.next === 'start') return launch(FRESH);
  return same({ at: 'STOPPED', reason: state.forced ? 'it did not end in its grace time and was killed' : '' });
}

function tick(state: State, context: Context): Step {
  const dueMs = nextTickMs(state);
  if (dueMs === undefined || dueMs > context.nowMs) return same(state);
  if (state.at === 'STARTING' && state.running) return settled(state.running, state.tries, context);
  if (state.at === 'RUNNING') return same({ ...state, tries: { ...state.tries, quick: 0, failures: 0 } });
  if (state.at === 'BACKOFF') return launch({ ...state.tries, restarts: state.tries.restarts + 1 });
  if (state.at === 'STOPPING') {
    return { state: { ...state, forced: true, forceAtMs: context.nowMs + KILL_AGAIN_MS }, effects: ['kill'] };
  }
  return same(state);
}

function settled(running: Running, tries: Tries, { nowMs }: Context): Step {
  return same({ at: 'RUNNING', running, wellAtMs: nowMs + WELL_MS, tries: { ...tries, quick: 0 } });
}
