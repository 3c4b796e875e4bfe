import { sleep, systemClock } from '../../src/kit/clock.js';

/** Generous, because the machine that runs the tests may be busy: a wait ends as soon as the condition holds. */
export const WAIT_MS = 60_000;
const POLL_MS = 50;

/**
 * Waits until `probe` gives something other than undefined or false; failures of `probe` count as "not yet".
 * @throws an error that says what was waited for, and what was seen or thrown last
 */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  deadlineMs = WAIT_MS,
): Promise<T> {
  const untilMs = systemClock.monotonic() + deadlineMs;
  let last: unknown;
  for (;;) {
    try {
      const found = await probe();
      if (found !== undefined && found !== false) return found;
      last = found;
    } catch (error) {
      last = error;
    }
    if (systemClock.monotonic() > untilMs) {
      throw new Error(`waited ${deadlineMs} ms in vain for ${what}; last: ${String(last)}`);
    }
    await sleep(systemClock, POLL_MS);
  }
}
