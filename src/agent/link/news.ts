import { isDeepStrictEqual } from 'node:util';
import type { CheckResult, InstanceReport } from '../../model/instance.js';

/**
 * Whether the center should hear of it at once: something differs beside the course of its checks. That one ran again, how long it took
 * and what it printed while its health stayed as it was is no news.
 */
export function isNews(told: InstanceReport, now: InstanceReport): boolean {
  return !isDeepStrictEqual(essence(told), essence(now));
}

function essence(report: InstanceReport): unknown {
  return { ...report, checks: report.checks.map(essenceOfCheck) };
}

/** `sinceMs` tells a health that changed and changed back. */
function essenceOfCheck({ name, kind, health, sinceMs }: CheckResult): unknown {
  return { name, kind, health, sinceMs };
}
