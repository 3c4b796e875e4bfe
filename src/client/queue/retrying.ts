import { isCode, type MusterError } from '../../kit/errors.js';

/** Pauses between attempts to reach the queue: full jitter, so that clients that lost it together do not come back together. */
export const RECONNECT = { initialMs: 200, maxMs: 5_000, multiplier: 2 } as const;

/** Failures that stay whatever is tried again: the caller has to hear of them. */
export function isFinal(error: unknown): error is MusterError {
  return isCode(
    error,
    'invalid',
    'unauthenticated',
    'denied',
    'not_found',
    'exists',
    'precondition',
    'unimplemented',
    'data_loss',
  );
}
