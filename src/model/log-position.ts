import { MusterError } from '../kit/errors.js';

/** A place in a log, opaque to all but the agent that made it: its version, then what that says. */
const POSITION = /^[a-z]\d:[!-~]{1,600}$/;
const SHOWN_CHARACTERS_MAX = 80;

/** @throws invalid for what cannot be a position */
export function assertPosition(text: string): void {
  if (!POSITION.test(text)) throw unreadablePosition(text);
}

export function unreadablePosition(text: string): MusterError {
  const shown = text.length > SHOWN_CHARACTERS_MAX ? `${text.slice(0, SHOWN_CHARACTERS_MAX)}...` : text;
  return new MusterError(
    'invalid',
    `"${shown}" is not the position of a line: give back a position as it came with a line, or none to begin with the last lines`,
    { reason: 'POSITION' },
  );
}
