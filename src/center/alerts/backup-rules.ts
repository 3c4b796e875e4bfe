import type { AlertKey, Verdict } from './verdicts.js';

/** Of a problem that a backup's alert quotes. */
const PROBLEM_QUOTED_CHARACTERS = 300;
/** Of backups that an alert names beside the first. */
const IDS_NAMED_MAX = 5;

/** How the backups of a service on a machine are. */
export interface BackupFacts {
  readonly service: string;
  /** One was due at this wall-clock time, and has not been made; undefined: none is missing. */
  readonly late: { readonly dueMs: number } | undefined;
  /** Nobody can say yet whether one is missing. */
  readonly unsure: boolean;
  /** The last whole one. */
  readonly lastGood: { readonly id: string; readonly startedMs: number } | undefined;
  /** The last one, when it failed as it was made. */
  readonly failed: { readonly id: string; readonly problems: readonly string[] } | undefined;
  /** Those known to be damaged since they were made, the newest first. */
  readonly damaged: readonly { readonly id: string; readonly verifyProblem: string }[];
}

export interface BackupSubject {
  readonly machine: string;
  readonly name: string;
  readonly online: boolean;
  readonly backups: readonly BackupFacts[];
}

/** A missing backup is missing also while its machine is away: silence is not good news. */
export function judgeBackups(subject: BackupSubject): Verdict[] {
  return subject.backups.flatMap((backups) => [
    ...judgeLate(subject, backups),
    ...judgeFailed(subject, backups),
    ...judgeDamaged(subject, backups),
  ]);
}

function keyOf(kind: string, machine: string, service: string): AlertKey {
  return { kind, machine, service, check: '' };
}

function judgeLate(
  { machine, name, online }: BackupSubject,
  { service, late, unsure, lastGood }: BackupFacts,
): Verdict[] {
  const key = keyOf('backup_late', machine, service);
  if (unsure) return [{ is: 'unsure', key }];
  if (!late) return [];
  const last = lastGood ? `the last one is of ${timeText(lastGood.startedMs)}` : 'there is none';
  const away = online ? '' : '. The machine is not connected: if it was made, nobody here knows';
  const message = `the backup of service ${service} on ${name} that was due at ${timeText(late.dueMs)} is missing; ${last}${away}`;
  return [{ is: 'wrong', finding: { ...key, severity: 'CRITICAL', message } }];
}

function judgeFailed({ machine, name }: BackupSubject, { service, failed }: BackupFacts): Verdict[] {
  if (!failed) return [];
  const why = failed.problems[0] ?? 'its agent does not say why';
  const message = `backup ${failed.id} of service ${service} on ${name} failed: ${quoted(why)}`;
  return [{ is: 'wrong', finding: { ...keyOf('backup_failed', machine, service), severity: 'WARNING', message } }];
}

function judgeDamaged({ machine, name }: BackupSubject, { service, damaged }: BackupFacts): Verdict[] {
  const [newest, ...older] = damaged;
  if (!newest) return [];
  const more = older.length === 0 ? '' : `; so ${older.length === 1 ? 'is' : 'are'} ${idsText(older)}`;
  const message =
    `backup ${newest.id} of service ${service} on ${name} is damaged: ${quoted(newest.verifyProblem)}${more}. ` +
    `Make another with "muster backup now ${service} --on machine=${name}", and look at the disk of that machine`;
  return [{ is: 'wrong', finding: { ...keyOf('backup_unverified', machine, service), severity: 'CRITICAL', message } }];
}

function idsText(backups: readonly { readonly id: string }[]): string {
  const named = backups.slice(0, IDS_NAMED_MAX).map(({ id }) => id);
  const rest = backups.length - named.length;
  return rest === 0 ? named.join(', ') : `${named.join(', ')} and ${rest} more`;
}

function quoted(text: string): string {
  return text.slice(0, PROBLEM_QUOTED_CHARACTERS);
}

/** `2026-11-23 03:00 UTC`. The same for every look, so that an alert does not change by itself. */
function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}
