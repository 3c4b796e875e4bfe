import { errnoOf, isCode, messageOf } from '../../kit/errors.js';
import { withoutAdvice } from '../services/state.js';
import type { Failure, Position } from './deploy.js';

/** Kept of what a program or a service printed, in UTF-8 bytes. */
export const OUTPUT_BYTES_MAX = 4096;
const MESSAGE_CHARACTERS_MAX = 1000;

/** A step that failed, with what its program said. */
export class StepFailed extends Error {
  readonly exitCode: number | undefined;
  readonly output: string | undefined;

  constructor(
    message: string,
    { exitCode, output }: { exitCode?: number | undefined; output?: string | undefined } = {},
  ) {
    super(message);
    this.name = 'StepFailed';
    this.exitCode = exitCode;
    this.output = output === undefined || output === '' ? undefined : endOf(output);
  }
}

/** What is kept of why a step failed. What an undo puts back is what a person starts by hand; a release that failed is not. */
export function failureOf({ phase, step }: Exclude<Position, { phase: 'ended' }>, error: unknown): Failure {
  const text = textOf(error);
  const message = (phase === 'undo' ? text : withoutAdvice(text)).slice(0, MESSAGE_CHARACTERS_MAX);
  if (!(error instanceof StepFailed)) return { step, message };
  return { step, message, exitCode: error.exitCode, output: error.output };
}

function textOf(error: unknown): string {
  const errno = errnoOf(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT') return 'the disk is full: make room, then deploy again';
  return messageOf(error);
}

/** Whether it is on purpose, and not a bug of the agent. */
export function isExpected(error: unknown): boolean {
  return error instanceof StepFailed || isCode(error) || errnoOf(error) !== undefined;
}

/** The last bytes of a text, no character cut in two. */
function endOf(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= OUTPUT_BYTES_MAX) return text;
  let from = bytes.length - OUTPUT_BYTES_MAX;
  while (((bytes[from] ?? 0) & 0xc0) === 0x80) from += 1;
  return bytes.subarray(from).toString('utf8');
}
