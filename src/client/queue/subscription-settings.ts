import type { Position, Subscription } from '../../../generated/muster/v1/queue.js';
import { toDuration } from '../../wire/time.js';

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
