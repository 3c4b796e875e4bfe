import type { BackoffSettings, SubscriptionSettings } from '../log/port.js';
import { assertSettings, within, type Check } from '../settings-check.js';

const SECOND_MS = 1000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Bounds of a lease, also of one that is extended. */
export const LEASE_MIN_MS = SECOND_MS;
export const LEASE_MAX_MS = 12 * HOUR_MS;
/** The longest wait before a next attempt, asked for or by backoff. */
export const DELAY_MAX_MS = DAY_MS;
const ATTEMPTS_MAX = 1_000_000;
const MULTIPLIER_MAX = 1000;
const IDLE_MIN_MS = SECOND_MS;
const IDLE_MAX_MS = 3650 * DAY_MS;

const DEFAULTS: SubscriptionSettings = {
  start: { at: 'latest' },
  leaseMs: 30 * SECOND_MS,
  maxAttempts: 0,
  backoff: { initialMs: SECOND_MS, maxMs: 300 * SECOND_MS, multiplier: 2 },
  ordered: false,
  expireAfterIdleMs: 0,
  paused: false,
};

/** What was asked for; undefined stands for the default. */
export type WantedSettings = {
  readonly [Name in Exclude<keyof SubscriptionSettings, 'backoff'>]?: SubscriptionSettings[Name] | undefined;
} & { readonly backoff?: { readonly [Name in keyof BackoffSettings]?: BackoffSettings[Name] | undefined } | undefined };

/**
 * Fills in the defaults and checks the bounds.
 * @throws invalid, naming every field (as in the contract) that is out of its bounds
 */
export function subscriptionSettings(wanted: WantedSettings): SubscriptionSettings {
  const settings: SubscriptionSettings = {
    start: wanted.start ?? DEFAULTS.start,
    leaseMs: wanted.leaseMs ?? DEFAULTS.leaseMs,
    maxAttempts: wanted.maxAttempts ?? DEFAULTS.maxAttempts,
    backoff: backoffSettings(wanted.backoff ?? {}),
    ordered: wanted.ordered ?? DEFAULTS.ordered,
    expireAfterIdleMs: wanted.expireAfterIdleMs ?? DEFAULTS.expireAfterIdleMs,
    paused: wanted.paused ?? DEFAULTS.paused,
  };
  assertSettings('subscription', 'SUBSCRIPTION_SETTINGS', checks(settings));
  return settings;
}

function backoffSettings(wanted: NonNullable<WantedSettings['backoff']>): BackoffSettings {
  const { initialMs, maxMs, multiplier } = DEFAULTS.backoff;
  const first = wanted.initialMs ?? Math.min(initialMs, wanted.maxMs ?? initialMs);
  return {
    initialMs: first,
    maxMs: wanted.maxMs ?? Math.max(maxMs, first),
    multiplier: wanted.multiplier ?? multiplier,
  };
}

function checks(settings: SubscriptionSettings): readonly Check[] {
  const { leaseMs, maxAttempts, backoff, expireAfterIdleMs: idleMs, start } = settings;
  return [
    [within(leaseMs, LEASE_MIN_MS, LEASE_MAX_MS), 'lease', 'must be from 1 s to 12 h'],
    [
      within(maxAttempts, 0, ATTEMPTS_MAX) && Number.isInteger(maxAttempts),
      'max_attempts',
      'must be a whole number from 0 (never give up) to 1000000',
    ],
    [within(backoff.initialMs, 0, backoff.maxMs), 'backoff.initial', 'must be from 0 to backoff.max'],
    [within(backoff.maxMs, 0, DELAY_MAX_MS), 'backoff.max', 'must be from 0 to 24 h'],
    [within(backoff.multiplier, 1, MULTIPLIER_MAX), 'backoff.multiplier', 'must be from 1 to 1000'],
    [
      idleMs === 0 || within(idleMs, IDLE_MIN_MS, IDLE_MAX_MS),
      'expire_after_idle',
      'must be from 1 s to 3650 days, or 0 (never)',
    ],
    [
      start.at !== 'sequence' || (Number.isSafeInteger(start.sequence) && start.sequence >= 0),
      'start.sequence',
      'must be a whole number below 2^53',
    ],
  ];
}

/** How long a message waits after so many failed attempts, at least 1. */
export function backoffMs(backoff: BackoffSettings, attempts: number): number {
  if (backoff.initialMs === 0) return 0;
  return Math.min(backoff.maxMs, backoff.initialMs * backoff.multiplier ** (attempts - 1));
}
