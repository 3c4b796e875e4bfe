import type { BackupCopy } from './backup.js';
import type { Issue } from './manifest-text.js';
import type { BackupKeep, ManifestBackup } from './manifest-types.js';
import { scheduleProblem } from './schedule.js';

/** The manifest's backup section: what its shape does not say. */

/** As written, its shape checked. */
interface RawBackup {
  readonly paths: readonly string[];
  readonly exclude?: readonly string[] | undefined;
  readonly schedule?: string | undefined;
  readonly time_zone?: string | undefined;
  readonly keep?: { readonly [K in keyof BackupKeep]?: number | undefined } | undefined;
  readonly verify?: string | undefined;
  readonly copy?: readonly BackupCopy[] | undefined;
}

const TIME_ZONE = 'UTC';
const VERIFY_WEEKLY = '0 5 * * 0';
const KEEP: BackupKeep = { last: 7, daily: 14, weekly: 4, monthly: 3 };

export function aboutBackup(raw: RawBackup | undefined): Issue[] {
  if (!raw) return [];
  return [...aboutPaths(raw), ...aboutTimes(raw), ...aboutKeep(raw)];
}

function aboutPaths({ paths }: RawBackup): Issue[] {
  const issues: Issue[] = [];
  const clean = paths.map(withoutSlash);
  for (const [index, path] of clean.entries()) {
    const where = { path: ['backup', 'paths', index] };
    if (path.split('/').some((step) => step === '' || step === '.')) {
      issues.push({ ...where, text: `"${paths[index] ?? ''}" is wrong: expected a path without "." and empty parts` });
    }
    const above = clean.find((other, at) => (at < index && other === path) || path.startsWith(`${other}/`));
    if (above !== undefined)
      issues.push({ ...where, text: `"${path}" is in "${above}", which is backed up: leave it out` });
  }
  return issues;
}

function aboutTimes(raw: RawBackup): Issue[] {
  const timeZone = raw.time_zone ?? TIME_ZONE;
  const issues: Issue[] = [];
  for (const field of ['schedule', 'verify'] as const) {
    const written = raw[field];
    const problem = scheduleProblem(written ?? VERIFY_WEEKLY, timeZone);
    if (problem?.of === 'schedule')
      issues.push({ path: ['backup', field], text: `"${written ?? ''}" is wrong: ${problem.text}` });
  }
  const zone = scheduleProblem(VERIFY_WEEKLY, timeZone);
  if (zone) issues.push({ path: ['backup', 'time_zone'], text: `"${timeZone}" ${zone.text}` });
  return issues;
}

function aboutKeep({ keep }: RawBackup): Issue[] {
  if (!keep || Object.values(keep).some((count) => (count ?? 0) > 0)) return [];
  return [
    { path: ['backup', 'keep'], text: 'nothing would be kept: expected at least one of last, daily, weekly, monthly' },
  ];
}

/** With its defaults. */
export function fillBackup(raw: RawBackup): ManifestBackup {
  const { exclude = [], time_zone: timeZone = TIME_ZONE, copy = [] } = raw;
  return {
    paths: raw.paths.map(withoutSlash),
    exclude,
    schedule: raw.schedule,
    timeZone,
    keep: fillKeep(raw.keep),
    verify: raw.verify ?? (raw.schedule === undefined ? undefined : VERIFY_WEEKLY),
    copy: [...new Set(copy)],
  };
}

/** Where it is written, only what it names is kept. */
function fillKeep(raw: RawBackup['keep'] = KEEP): BackupKeep {
  const { last = 0, daily = 0, weekly = 0, monthly = 0 } = raw;
  return { last, daily, weekly, monthly };
}

function withoutSlash(path: string): string {
  return path.replace(/\/+$/, '');
}
