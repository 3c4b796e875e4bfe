import type { Position, Subscription } from '../../../generated/muster/v1/queue.js';
import { MusterError } from '../../kit/errors.js';
import { toDuration } from '../../wire/time.js';
import { assertKnown } from './options.js';

/** Where a new subscription starts. */
export type Start = 'earliest' | 'latest' | { readonly sequence: number } | { readonly time: Date };

/** How a subscription is made. What is left out is as the queue has it by default. */
export interface SubscriptionSettings {
  /** Default `latest`: only what is published from now on. */
  readonly start?: Start;
  /** How long a consumer has a message before it is delivered again, milliseconds. Default 30 s, 1 s to 12 h. */
  readonly leaseMs?: number;
  /** After so many failed attempts a message becomes a dead letter. Default 0: never. */
  readonly maxAttempts?: number;
  /** Before each further attempt. Defaults 1 s, 5 minutes, 2. */
  readonly backoff?: { readonly initialMs?: number; readonly maxMs?: number; readonly multiplier?: number };
  /** Messages of one key one at a time and in order, whoever consumes them. */
  readonly ordered?: boolean;
  /** Deleted when no consumer was there for this time, milliseconds. Default: never. */
  readonly expireAfterIdleMs?: number;
}

const SETTINGS: ReadonlySet<string> = new Set<keyof SubscriptionSettings>([
  'start',
  'leaseMs',
  'maxAttempts',
  'backoff',
  'ordered',
  'expireAfterIdleMs',
]);
const LEASE_MIN_MS = 1_000;
const LEASE_MAX_MS = 12 * 3_600_000;
/** Longest time the contract's other durations are given here: about 100 years. */
const LONG_MS = 100 * 365 * 86_400_000;
const ATTEMPTS_MAX = 2 ** 31 - 1;

function notValid(field: string, need: string): MusterError {
  return new MusterError('invalid', `${field} of a subscriber ${need}`, { fields: [{ field, description: need }] });
}

/** A number, where one is given. @throws invalid */
export function assertWithin(field: string, value: unknown, low: number, high: number): void {
  if (value === undefined || (typeof value === 'number' && value >= low && value <= high)) return;
  throw notValid(field, `must be a number from ${low} to ${high}`);
}

/** The settings as they are. What cannot be sent is told here: later it would look like a subscription that is not there. @throws invalid */
export function checkedSettings(settings: SubscriptionSettings): SubscriptionSettings {
  assertKnown('create of a subscriber', settings, SETTINGS);
  const { start, leaseMs, maxAttempts, backoff, expireAfterIdleMs } = settings;
  if (start !== undefined && !isStart(start)) {
    throw notValid('create.start', 'must be "earliest", "latest", { sequence: NUMBER } or { time: DATE }');
  }
  assertWithin('create.leaseMs', leaseMs, LEASE_MIN_MS, LEASE_MAX_MS);
  assertWithin('create.maxAttempts', maxAttempts, 0, ATTEMPTS_MAX);
  if (maxAttempts !== undefined && !Number.isInteger(maxAttempts))
    throw notValid('create.maxAttempts', 'must be a whole number');
  assertWithin('create.backoff.initialMs', backoff?.initialMs, 0, LONG_MS);
  assertWithin('create.backoff.maxMs', backoff?.maxMs, 0, LONG_MS);
  assertWithin('create.backoff.multiplier', backoff?.multiplier, 0, Number.MAX_VALUE);
  assertWithin('create.expireAfterIdleMs', expireAfterIdleMs, 0, LONG_MS);
  return settings;
}

function isStart(start: unknown): boolean {
  if (start === 'earliest' || start === 'latest') return true;
  if (typeof start !== 'object' || start === null) return false;
  if ('sequence' in start) return Number.isSafeInteger(start.sequence) && Number(start.sequence) >= 0;
  return 'time' in start && start.time instanceof Date && !Number.isNaN(start.time.getTime());
}

function toPosition(start: Start): Position {
  if (start === 'earliest') return { at: { $case: 'earliest', value: {} } };
  if (start === 'latest') return { at: { $case: 'latest', value: {} } };
  if ('sequence' in start) return { at: { $case: 'sequence', value: start.sequence } };
  return { at: { $case: 'time', value: start.time } };
}

function optionalDuration(ms: number | undefined): ReturnType<typeof toDuration> | undefined {
  return ms === undefined ? undefined : toDuration(ms);
}

/** The subscription as the contract has it. */
export function toSubscription(topic: string, name: string, settings: SubscriptionSettings): Subscription {
  const { start, backoff } = settings;
  return {
    topic,
    name,
    start: start === undefined ? undefined : toPosition(start),
    lease: optionalDuration(settings.leaseMs),
    maxAttempts: settings.maxAttempts ?? 0,
    backoff: backoff && {
      initial: optionalDuration(backoff.initialMs),
      max: optionalDuration(backoff.maxMs),
      multiplier: backoff.multiplier ?? 0,
    },
    ordered: settings.ordered ?? false,
    expireAfterIdle: optionalDuration(settings.expireAfterIdleMs),
    paused: false,
    revision: 0,
    created: undefined,
  };
}
