import { MusterError } from '../kit/errors.js';

/** A place in a log, opaque to all but the agent that made it: its version, then what that says. */
const POSITION = /^[a-z]\d:[!-~]{1,600}$/;

/** @throws invalid for what cannot be a position */
export function assertPosition(text: string): void {
  if (POSITION.test(text)) return;
  const shown = text.length > 80 ? `${text.slice(0, 80)}...` : text;
  throw new MusterError(
    'invalid',
    `"${shown}" is not the position of a line: give back a position as it came with a line, or none to begin with the last lines`,
    { reason: 'POSITION' },
  );
}
