import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import { reasonOf, type State } from './state.js';

/** What is said to the one who asked for a stop or a start that did not come about. */

/** @param state where it is instead of STOPPED */
export function notStopped(service: string, state: State): MusterError {
  if (state.at !== 'STOPPING' || state.next === 'start') {
    return new MusterError('conflict', `${service} was started again while it was stopping`, {
      reason: 'STARTED_MEANWHILE',
    });
  }
  const text = state.running
    ? `${service} does not end, not even by SIGKILL: look at pid ${state.running.pid}`
    : `${service} does not end yet: ${reasonOf(state)}; it is stopped as soon as that is over`;
  return new MusterError('deadline', text);
}

export class NotStarted extends MusterError {
  /** The message without what the service printed, for those who keep that apart. */
  readonly summary: string;

  /** @param lines what it last printed */
  constructor(service: string, state: State, lines: readonly string[]) {
    const summary = `${service} did not start: ${reasonOf(state)}`;
    const output = lines.length === 0 ? '' : `\nIt last printed:\n${lines.map((line) => `  ${line}`).join('\n')}`;
    super('precondition', `${summary}${output}`, { reason: 'NOT_STARTED' });
    this.summary = summary;
  }
}

/** It has ended, and the next agent will not know that it was to. */
export function stopNotStored(service: string, why: unknown): MusterError {
  const message = `${service} is stopped, but that cannot be stored, so it will run again after a restart of the agent: ${messageOf(why)}`;
  const code = isCode(why) ? why.code : 'unavailable';
  return new MusterError(code, message, { reason: 'STOP_NOT_STORED', cause: why });
}

export function detachedMeanwhile(): MusterError {
  return new MusterError('cancelled', 'the agent is stopping; the service goes on as it is');
}
