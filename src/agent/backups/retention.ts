import type { BackupKeep } from '../../model/manifest-types.js';

/** Which backups of a service go. Pure. */

export interface Keepable {
  readonly id: string;
  readonly startedMs: number;
  /** whole: an archive that can be restored. running: not ended. bad: anything else. */
  readonly is: 'whole' | 'running' | 'bad';
  /** The release it was made of can still be gone back to. */
  readonly pinned: boolean;
}

/** Bad ones kept, the newest, so that people can see what went wrong. */
export const BAD_KEPT = 10;

/**
 * Ids of those that go. Of the whole ones there stay: the last `keep.last`; the last one of each of the last `keep.daily` days that have one,
 * by the calendar of the time zone, and in the same way of weeks (from Monday) and months; the newest, whatever `keep` says; and the pinned.
 */
export function expired(backups: readonly Keepable[], keep: BackupKeep, timeZone: string): string[] {
  const newestFirst = [...backups].sort((a, b) => b.startedMs - a.startedMs || (a.id < b.id ? 1 : -1));
  const whole = newestFirst.filter(({ is }) => is === 'whole');
  const calendar = new Calendar(timeZone);
  const kept = new Set<string>(whole.slice(0, Math.max(keep.last, 1)).map(({ id }) => id));
  keepEach(whole, keep.daily, (at) => calendar.day(at), kept);
  keepEach(whole, keep.weekly, (at) => calendar.week(at), kept);
  keepEach(whole, keep.monthly, (at) => calendar.month(at), kept);
  const bad = newestFirst.filter(({ is }) => is === 'bad').slice(BAD_KEPT);
  const gone = [...whole.filter(({ id, pinned }) => !pinned && !kept.has(id)), ...bad];
  return gone.map(({ id }) => id);
}

/** Adds the newest of each of the first `count` periods. */
function keepEach(
  newestFirst: readonly Keepable[],
  count: number,
  periodOf: (ms: number) => string,
  kept: Set<string>,
): void {
  const periods = new Set<string>();
  for (const { id, startedMs } of newestFirst) {
    if (periods.size >= count) return;
    const period = periodOf(startedMs);
    if (!periods.has(period)) kept.add(id);
    periods.add(period);
  }
}

const DAY_MS = 86_400_000;

/** Days, weeks and months of a time zone. */
class Calendar {
  readonly #format: Intl.DateTimeFormat;

  constructor(timeZone: string) {
    this.#format = new Intl.DateTimeFormat('en-CA', { timeZone, year: 'numeric', month: '2-digit', day: '2-digit' });
  }

  day(ms: number): string {
    return this.#format.format(ms);
  }

  month(ms: number): string {
    return this.day(ms).slice(0, 7);
  }

  /** The Monday it begins with. */
  week(ms: number): string {
    const noon = Date.parse(`${this.day(ms)}T12:00:00Z`);
    const sinceMonday = (new Date(noon).getUTCDay() + 6) % 7;
    return new Date(noon - sinceMonday * DAY_MS).toISOString().slice(0, 10);
  }
}
