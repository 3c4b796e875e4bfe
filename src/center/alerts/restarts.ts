import type { InstanceReport } from '../../model/instance.js';
import type { InstanceView } from '../fleet/instances.js';

/** Restarts within this time count together, and a service that stays up for this long is well again. */
export const RESTARTS_WINDOW_MS = 5 * 60_000;
/** So many restarts within the window are too many. */
export const RESTARTS_MANY = 3;

/** What the reports said of an instance's restarts. Times are monotonic milliseconds. */
export interface RestartHistory {
  /** Counter of restarts, as last reported. */
  readonly restarts: number;
  /** Whether the counter was followed without a gap: what it rose by in one happened who knows when. */
  readonly followed: boolean;
  /** When it was restarted last, or first looked at. */
  readonly lastMs: number;
  /** When the newest restarts were seen, at most RESTARTS_MANY. */
  readonly seenMs: readonly number[];
  /** Why it ended last; empty where it was not seen to wait for its restart. */
  readonly reason: string;
}

/** The history as the rules look at it. */
export interface Restarted {
  /** Within the window; counted up to RESTARTS_MANY. */
  readonly recent: number;
  /** Time without a restart. */
  readonly quietMs: number;
  readonly reason: string;
}

const NONE: readonly number[] = [];

/** The history after another look at the instance; the same object where nothing changed. `nowMs` is monotonic. */
export function restartsAfter(
  before: RestartHistory | undefined,
  { report, unknownSinceMs }: InstanceView,
  nowMs: number,
): RestartHistory {
  const known = unknownSinceMs === undefined;
  // Starts of a deploy are not what these are about, and what it deployed begins anew.
  if (!before || (known && (!report.wanted || report.deploying !== undefined))) {
    return { restarts: report.restarts, followed: known, lastMs: nowMs, seenMs: NONE, reason: '' };
  }
  if (known) return following(before, report, nowMs);
  return before.followed ? { ...before, followed: false } : before;
}

function following(before: RestartHistory, report: InstanceReport, nowMs: number): RestartHistory {
  const reason = report.state === 'BACKOFF' ? report.reason : before.reason;
  const more = Math.max(0, report.restarts - before.restarts);
  if (before.followed && report.restarts === before.restarts && reason === before.reason) return before;
  const added = before.followed ? Array.from({ length: Math.min(more, RESTARTS_MANY) }, () => nowMs) : [];
  return {
    restarts: report.restarts,
    followed: true,
    lastMs: more > 0 ? nowMs : before.lastMs,
    seenMs: [...before.seenMs, ...added].slice(-RESTARTS_MANY),
    reason,
  };
}

export function restartedBy({ lastMs, seenMs, reason }: RestartHistory, nowMs: number): Restarted {
  const recent = seenMs.filter((atMs) => nowMs - atMs < RESTARTS_WINDOW_MS).length;
  return { recent, quietMs: nowMs - lastMs, reason };
}
