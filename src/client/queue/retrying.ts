import { isCode, messageOf, type MusterError } from '../../kit/errors.js';
import { noticeOnce } from '../notice.js';

/** Pauses between attempts to reach the queue: full jitter, so that clients that lost it together do not come back together. */
export const RECONNECT = { initialMs: 200, maxMs: 5_000, multiplier: 2 } as const;

/** A certificate is renewed meanwhile, and clocks are set right. */
const PASSING: ReadonlySet<string | undefined> = new Set(['CERTIFICATE_EXPIRED', 'CERTIFICATE_NOT_YET_VALID']);

/** Failures that stay whatever is tried again: the caller has to hear of them. */
export function isFinal(error: unknown): error is MusterError {
  return (
    isCode(
      error,
      'invalid',
      'unauthenticated',
      'denied',
      'not_found',
      'exists',
      'precondition',
      'unimplemented',
      'data_loss',
    ) && !PASSING.has(error.reason)
  );
}

/** The queue was reached, and has no room now: its disk is almost full. */
export function isFull(error: unknown): error is MusterError {
  return isCode(error, 'exhausted') && error.reason === 'DISK_ALMOST_FULL';
}

/** Says once, as a Node.js warning, why the queue cannot be reached: whoever waits for it would otherwise wait in silence. */
export function noticeAway(error: unknown): void {
  noticeOnce('QUEUE_AWAY', `the queue cannot be reached, trying again: ${messageOf(error)}`);
}
