import { Cron } from 'croner';
import { messageOf } from '../kit/errors.js';

/**
 * When things are due by a schedule of five cron fields in a time zone. A local time that a change of clocks leaves out is due right behind
 * the gap; one that comes twice is due once.
 */

const MINUTE_MS = 60_000;
/** The longest repetition of local times that any zone has had, in minutes, with room. */
const REPEATED_MINUTES_MAX = 26 * 60;

/** What is wrong with a schedule or its time zone, for people; undefined where nothing is. */
export function scheduleProblem(
  schedule: string,
  timeZone: string,
): { readonly of: 'schedule' | 'time zone'; readonly text: string } | undefined {
  if (!isTimeZone(timeZone)) {
    return {
      of: 'time zone',
      text: 'is not a time zone this system knows: expected a name such as Europe/Berlin, or UTC',
    };
  }
  if (schedule.trim().split(/\s+/).length !== 5) {
    return { of: 'schedule', text: 'expected five cron fields (minute hour day month weekday) such as "0 3 * * *"' };
  }
  try {
    if (cronOf(schedule, timeZone).nextRun(new Date(0))) return undefined;
    return { of: 'schedule', text: 'this never comes: expected a day that the month has' };
  } catch (error) {
    const why = messageOf(error).replace(/^Cron\w*: /, '');
    return { of: 'schedule', text: `${why}. Expected five cron fields such as "0 3 * * *"` };
  }
}

/**
 * The first time after `afterMs` that the schedule is due, wall-clock milliseconds; undefined where it never is again. Always later than
 * `afterMs`, also where local times repeat.
 */
export function nextDue(schedule: string, timeZone: string, afterMs: number): number | undefined {
  const cron = cronOf(schedule, timeZone);
  let due = cron.nextRun(new Date(afterMs))?.getTime();
  // From within the hour that comes twice, croner answers with its first passage, which is over: ask from minute to minute until it is not.
  let from = Math.floor(afterMs / MINUTE_MS) * MINUTE_MS - 1;
  for (let minutes = 0; due !== undefined && due <= afterMs && minutes < REPEATED_MINUTES_MAX; minutes += 1) {
    from += MINUTE_MS;
    due = cron.nextRun(new Date(from))?.getTime();
  }
  return due;
}

export function isTimeZone(timeZone: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone });
    return timeZone !== '';
  } catch {
    return false;
  }
}

function cronOf(schedule: string, timeZone: string): Cron {
  return new Cron(schedule, { timezone: timeZone, paused: true });
}
