import type { Health } from '../../model/instance.js';
import type { Verdict } from './answer.js';

/** How many results in a row change a check's health. Both at least 1. */
export interface Thresholds {
  /** Failures in a row before CRITICAL. */
  readonly failures: number;
  /** Passes in a row before PASSING again. */
  readonly successes: number;
}

/** What a check has come to. */
export interface Standing {
  readonly health: Health;
  readonly verdict: Verdict | undefined;
  /** Results in a row with this verdict. */
  readonly streak: number;
  /** Results in a row that did not fail. */
  readonly unfailed: number;
}

/** Before the first result. */
export const NOT_RUN: Standing = { health: 'UNKNOWN', verdict: undefined, streak: 0, unfailed: 0 };

/**
 * The standing after one more result.
 *
 * A failure is WARNING until `failures` of them in a row make it CRITICAL. CRITICAL holds until `successes` results in a row
 * have not failed. PASSING needs `successes` passes in a row when something was wrong before; a first pass needs no more.
 */
export function stand(before: Standing, verdict: Verdict, thresholds: Thresholds): Standing {
  const streak = before.verdict === verdict ? before.streak + 1 : 1;
  const unfailed = verdict === 'fail' ? 0 : before.unfailed + 1;
  const after = { verdict, streak, unfailed };
  return { health: healthAfter(before.health, after, thresholds), ...after };
}

function healthAfter(
  health: Health,
  { verdict, streak, unfailed }: { verdict: Verdict; streak: number; unfailed: number },
  { failures, successes }: Thresholds,
): Health {
  if (verdict === 'fail') return health === 'CRITICAL' || streak >= failures ? 'CRITICAL' : 'WARNING';
  if (health === 'CRITICAL' && unfailed < successes) return 'CRITICAL';
  if (verdict === 'warn') return 'WARNING';
  const wrongBefore = health === 'CRITICAL' || health === 'WARNING';
  return !wrongBefore || streak >= successes ? 'PASSING' : 'WARNING';
}
