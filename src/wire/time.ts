import type { Duration } from '../../generated/google/protobuf/duration.js';

/** Times and durations between the contracts (Date, Duration) and the domain (milliseconds). */

export function toDate(ms: number | undefined): Date | undefined {
  return ms === undefined ? undefined : new Date(ms);
}

export function fromDate(date: Date | undefined): number | undefined {
  return date?.getTime();
}

export function toDuration(ms: number): Duration {
  const seconds = Math.trunc(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

/** Milliseconds, or undefined where the field was left out. */
export function fromDuration(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : duration.seconds * 1000 + duration.nanos / 1e6;
}
