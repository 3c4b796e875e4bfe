import type { Duration } from '../../generated/google/protobuf/duration.js';

/** Times and durations between the contracts (Date, Duration) and the domain (milliseconds). */

/** Furthest time a Date can hold, milliseconds from the epoch (ECMA-262, Time Values). */
const DATE_MS_MAX = 8.64e15;

export function toDate(ms: number | undefined): Date | undefined {
  return ms === undefined ? undefined : new Date(ms);
}

/**
 * Milliseconds, or undefined where the field was left out or holds a time that no Date can: peers are not believed to send only
 * sensible ones, and one bad time must not break a whole listing later.
 */
export function fromDate(date: Date | undefined): number | undefined {
  const ms = date?.getTime();
  return ms === undefined || Number.isNaN(ms) ? undefined : ms;
}

export function toDuration(ms: number): Duration {
  const seconds = Math.trunc(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

/** Milliseconds, or undefined where the field was left out or is longer than a time can be. */
export function fromDuration(duration: Duration | undefined): number | undefined {
  const ms = duration === undefined ? undefined : duration.seconds * 1000 + duration.nanos / 1e6;
  return ms === undefined || Math.abs(ms) > DATE_MS_MAX ? undefined : ms;
}
