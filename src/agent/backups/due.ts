import { nextDue } from '../../model/schedule.js';

/** When a service's backups, and the drills of them, are due. Pure. Times are wall-clock milliseconds. */

export interface Timetable {
  /** Five cron fields. */
  readonly schedule: string;
  readonly timeZone: string;
}

/** What is remembered of a timetable on disk. */
export interface Progress extends Timetable {
  /** Everything due until then is done, or was not this timetable's. */
  readonly handledMs: number;
  /** Times that what is due now was begun and cut off by the end of the agent. */
  readonly tries: number;
}

/** A run cut off so often is left; the next one comes when it is due. */
export const TRIES_MAX = 2;
/** A clock that was set back by more begins anew; by less, nothing is done twice. */
const SET_BACK_MS = 3_600_000;

/** What holds now of what was remembered: a new or changed timetable is due from now on, not for the past. */
export function reviewed(known: Progress | undefined, timetable: Timetable, nowMs: number): Progress {
  const { schedule, timeZone } = timetable;
  const fresh = { schedule, timeZone, handledMs: nowMs, tries: 0 };
  if (known?.schedule !== schedule || known.timeZone !== timeZone) return fresh;
  if (known.handledMs > nowMs + SET_BACK_MS || known.tries >= TRIES_MAX) return fresh;
  return known;
}

/** When it is due next; in the past for one that was missed, however many were. Undefined: never again. */
export function dueOf({ schedule, timeZone, handledMs }: Progress): number | undefined {
  return nextDue(schedule, timeZone, handledMs);
}

/** It is begun; until it has ended it stays due. */
export function begun(progress: Progress): Progress {
  return { ...progress, tries: progress.tries + 1 };
}

/** What began at `beganMs` has ended, well or not: everything due until then is done. */
export function ended(progress: Progress, beganMs: number): Progress {
  return { ...progress, handledMs: Math.max(beganMs, progress.handledMs), tries: 0 };
}
