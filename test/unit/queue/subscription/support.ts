import { subscriptionSettings, type WantedSettings } from '../../../../src/queue/subscription/settings.js';
import { MessageSizes } from '../../../../src/queue/subscription/sizes.js';
import { Subscription } from '../../../../src/queue/subscription/subscription.js';
import type {
  Batch,
  Credit,
  Grant,
  Instant,
  RestoredSubscription,
  SettleOrder,
} from '../../../../src/queue/subscription/types.js';

export const ROOM: Credit = { maxMessages: 100_000, maxBytes: 1_000_000_000 };

const NEW: RestoredSubscription = {
  cursor: { floor: 1, settled: [], dropped: 0 },
  retries: new Map(),
  replayed: [],
  dead: 0,
};

/** A moment: `ms` by the monotonic clock. */
export function at(ms: number): Instant {
  return { monotonicMs: ms, wallMs: 1_700_000_000_000 + ms };
}

/** A batch of messages of these sizes and keys. */
export function batchOf(
  firstSequence: number,
  messages: readonly { readonly size: number; readonly key: string }[],
): Batch {
  let end = 0;
  const starts = messages.map(({ size }) => (end += size) - size);
  return {
    firstSequence,
    count: messages.length,
    sizes: new MessageSizes(firstSequence, Uint32Array.from(starts), end),
    keyOf: (sequence) => messages[sequence - firstSequence]?.key ?? '',
  };
}

export function newSubscription(
  wanted: WantedSettings = {},
  restored: Partial<RestoredSubscription> = {},
): Subscription {
  return new Subscription(subscriptionSettings(wanted), { ...NEW, ...restored }, at(0));
}

/** One batch of all messages of a topic, in which a subscription is pumped until nothing more goes out. */
export class Pump {
  readonly subscription: Subscription;
  readonly #batch: Batch;
  #head = 1;

  constructor(subscription: Subscription, messages: readonly { readonly size: number; readonly key: string }[]) {
    this.subscription = subscription;
    this.#batch = batchOf(1, messages);
  }

  get bounds(): { head: number; tail: number } {
    return { head: this.#head, tail: this.#batch.count + 1 };
  }

  drop(head: number): void {
    this.#head = head;
    this.subscription.dropBelow(head);
  }

  /** What goes out at `ms`, in frames. */
  run(ms: number): Grant[] {
    const grants: Grant[] = [];
    for (;;) {
      const wanted = this.subscription.next(this.bounds, at(ms));
      if (!wanted) return grants;
      const { sequence } = wanted;
      const alone = { ...this.#batch, firstSequence: sequence, count: 1 };
      const grant =
        wanted.source === 'log'
          ? this.subscription.grant(this.#batch, this.bounds, at(ms))
          : this.subscription.grantDeadLetter(alone, at(ms));
      if (grant) grants.push(grant);
    }
  }

  /** The sequences that go out at `ms`, to anyone. */
  sequences(ms: number): number[] {
    return this.run(ms).flatMap(sequencesOf);
  }
}

export function sequencesOf({ runs }: Grant): number[] {
  return runs.flatMap(({ firstSequence, count }) => Array.from({ length: count }, (_, index) => firstSequence + index));
}

/** So many messages of one size; `keys`, in turn. */
export function messages(count: number, size = 10, keys: readonly string[] = ['']): { size: number; key: string }[] {
  return Array.from({ length: count }, (_, index) => ({ size, key: keys[index % keys.length] ?? '' }));
}

export function acks(...ranges: readonly (readonly [first: number, last: number])[]): SettleOrder {
  return { acks: ranges.map(([first, last]) => ({ first, last })), nacks: [], extends: [] };
}

/** Gives deliveries back, at once unless told otherwise. */
export function nacks(first: number, last: number, how: { delayMs?: number; deadLetter?: boolean } = {}): SettleOrder {
  const { delayMs = 0, deadLetter = false } = how;
  return { acks: [], nacks: [{ range: { first, last }, delayMs, deadLetter, reason: 'no' }], extends: [] };
}
