import { InvalidArgumentError } from 'commander';
import { parseDuration } from '../kit/durations.js';

/** A time as it was typed; what it means is known only when the command runs. Times without a zone are of this machine's. */
export type TypedTime =
  /** So long ago, in milliseconds. */
  | { readonly kind: 'ago'; readonly ms: number }
  /** A time of day, as the hours, minutes and seconds of a local clock. */
  | { readonly kind: 'clock'; readonly hours: number; readonly minutes: number; readonly seconds: number }
  /** Wall-clock milliseconds. */
  | { readonly kind: 'at'; readonly ms: number };

const CLOCK = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/;
const DATE = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:\d\d)?)?$/;
const DAY_MS = 86_400_000;

/** `2h` (ago), `14:02`, `2026-11-23`, `2026-11-23T14:02:00Z`. */
export function timeArgument(text: string): TypedTime {
  const clock = CLOCK.exec(text);
  if (clock)
    return { kind: 'clock', hours: Number(clock[1]), minutes: Number(clock[2]), seconds: Number(clock[3] ?? 0) };
  const ms = dateOf(text) ?? NaN;
  if (!Number.isNaN(ms)) return { kind: 'at', ms };
  try {
    return { kind: 'ago', ms: parseDuration(text) };
  } catch {
    throw new InvalidArgumentError(
      'expected how long ago, such as 2h or 30m, a time of day, such as 14:02, or a time, such as 2026-11-23T14:02:00Z or "2026-11-23 14:02"',
    );
  }
}

/** NaN for a day or time that there is not; undefined for what is no date at all. */
function dateOf(text: string): number | undefined {
  const found = DATE.exec(text);
  if (!found) return undefined;
  const [, year, month, day, time = '00:00', zone = ''] = found;
  const days = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)));
  if (days.getUTCDate() !== Number(day) || days.getUTCMonth() !== Number(month) - 1) return NaN;
  return Date.parse(`${year}-${month}-${day}T${time}${zone}`);
}

type ClockTime = Extract<TypedTime, { kind: 'clock' }>;

/** When a clock shows that time on the day of `dayMs`. */
function onDay({ hours, minutes, seconds }: ClockTime, dayMs: number): number {
  const day = new Date(dayMs);
  return new Date(day.getFullYear(), day.getMonth(), day.getDate(), hours, minutes, seconds).getTime();
}

/** The last time that clocks showed it. */
function lastBefore(time: ClockTime, ms: number): number {
  const today = onDay(time, ms);
  return today <= ms ? today : onDay(time, ms - DAY_MS);
}

/** Wall-clock milliseconds. A time of day is the last one there was. */
export function sinceOf(typed: TypedTime, nowMs: number): number {
  if (typed.kind === 'at') return typed.ms;
  return typed.kind === 'ago' ? nowMs - typed.ms : lastBefore(typed, nowMs);
}

/** As sinceOf; but a time of day is the first one after `sinceMs`, where there is such. */
export function untilOf(typed: TypedTime, nowMs: number, sinceMs: number | undefined): number {
  if (typed.kind !== 'clock' || sinceMs === undefined) return sinceOf(typed, nowMs);
  const sameDay = onDay(typed, sinceMs);
  return sameDay > sinceMs ? sameDay : onDay(typed, sinceMs + DAY_MS);
}
