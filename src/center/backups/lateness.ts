import type { Backup, BackupPlan } from '../../model/backup.js';
import { nextDue, scheduleProblem } from '../../model/schedule.js';

/** A backup that was due may take so long until it counts as late. */
export const LATE_GRACE_MS = 30 * 60_000;
/** One that is being made is waited for so long. */
export const RUNNING_MAX_MS = 6 * 3_600_000;
/** A machine's clock may be ahead by so much: a backup that began later than that has a wrong time, and says nothing of what is late. */
export const AHEAD_MAX_MS = 10 * 60_000;
/** After its start the center waits so long for what agents have to tell. */
export const RETURN_MS = 5 * 60_000;

/** How the backups of a service on a machine are, as far as anybody can say. */
export interface ServiceBackups {
  readonly service: string;
  /** Since when one is missing; undefined: none is. */
  readonly late: { readonly dueMs: number } | undefined;
  /** Nobody can say yet whether one is missing. */
  readonly unsure: boolean;
  /** When time alone may make one late, wall-clock milliseconds; undefined: never. */
  readonly changesMs: number | undefined;
  /** The last whole one; undefined: there is none. */
  readonly lastGood: Backup | undefined;
  /** The last one, when it failed as it was made. */
  readonly failed: Backup | undefined;
  /** Those that were made and are known to be damaged since, the newest first. */
  readonly damaged: readonly Backup[];
}

export interface Now {
  /** Wall-clock. */
  readonly nowMs: number;
  /** How long the center has been running. */
  readonly runMs: number;
  /** The machine has told of its backups in this run. */
  readonly heard: boolean;
  readonly due: DueTimes;
}

interface Planned {
  readonly machine: string;
  readonly plan: BackupPlan;
  readonly sinceMs: number;
}

/** Looks at a service by the center's clock: whether a machine is heard of or not changes nothing of what was due. */
export function judgeable({ machine, plan, sinceMs }: Planned, backups: readonly Backup[], now: Now): ServiceBackups {
  const byStart = [...backups].sort((a, b) => a.startedMs - b.startedMs);
  const lastGood = byStart.findLast(isWhole);
  const timely = byStart.findLast((backup) => isWhole(backup) && !isAhead(backup, now));
  const dueMs = now.due.after(machine, plan, Math.max(sinceMs, timely?.startedMs ?? 0));
  const overdue = dueMs !== undefined && now.nowMs >= dueMs + LATE_GRACE_MS ? { dueMs } : undefined;
  const unsure = overdue !== undefined && mayStillCome(byStart, now);
  return {
    service: plan.service,
    late: unsure ? undefined : overdue,
    unsure,
    changesMs: overdue ? undefined : lateFrom(dueMs),
    lastGood,
    failed: lastFailed(byStart),
    damaged: byStart.filter(isDamaged).reverse(),
  };
}

/** Of a service without a plan: nothing is due, but the backups that it keeps are still to be whole. */
export function judgeUnplanned(service: string, backups: readonly Backup[]): ServiceBackups {
  const byStart = [...backups].sort((a, b) => a.startedMs - b.startedMs);
  return {
    service,
    late: undefined,
    unsure: false,
    changesMs: undefined,
    lastGood: byStart.findLast(isWhole),
    failed: undefined,
    damaged: byStart.filter(isDamaged).reverse(),
  };
}

/** An agent tells one that was damaged later as ERROR, too: it had not failed. */
function lastFailed(byStart: readonly Backup[]): Backup | undefined {
  const ended = byStart.findLast(({ status }) => status !== 'RUNNING');
  return ended?.status === 'ERROR' && !isDamaged(ended) ? ended : undefined;
}

function isDamaged({ verifyProblem }: Backup): boolean {
  return verifyProblem !== '';
}

function lateFrom(dueMs: number | undefined): number | undefined {
  return dueMs === undefined ? undefined : dueMs + LATE_GRACE_MS;
}

/** It is being made, or was made while the center was away. */
function mayStillCome(backups: readonly Backup[], { nowMs, runMs, heard }: Now): boolean {
  if (!heard && runMs < RETURN_MS) return true;
  return backups.some(
    (backup) => backup.status === 'RUNNING' && !isAhead(backup, { nowMs }) && nowMs - backup.startedMs < RUNNING_MAX_MS,
  );
}

function isAhead({ startedMs }: Backup, { nowMs }: Pick<Now, 'nowMs'>): boolean {
  return startedMs > nowMs + AHEAD_MAX_MS;
}

function isWhole(backup: Backup): boolean {
  return (backup.status === 'OK' || backup.status === 'WARNING') && !isDamaged(backup);
}

/** When backups are due; a schedule is looked at only once for each backup that was made. */
export class DueTimes {
  readonly #known = new Map<string, { readonly asked: string; readonly dueMs: number | undefined }>();

  /** The first time after `afterMs`, wall-clock milliseconds; undefined without a schedule, and for one that this center cannot read. */
  after(machine: string, { service, schedule, timeZone }: BackupPlan, afterMs: number): number | undefined {
    if (schedule === '') return undefined;
    const key = `${machine}/${service}`;
    const asked = `${afterMs} ${timeZone} ${schedule}`;
    const known = this.#known.get(key);
    if (known?.asked === asked) return known.dueMs;
    const readable = scheduleProblem(schedule, timeZone) === undefined;
    const dueMs = readable ? nextDue(schedule, timeZone, afterMs) : undefined;
    this.#known.set(key, { asked, dueMs });
    return dueMs;
  }

  forget(machine: string, service: string): void {
    this.#known.delete(`${machine}/${service}`);
  }
}
