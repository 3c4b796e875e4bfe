import type { CenterService, Command, Operation } from '../../../generated/muster/v1/center.js';
import { sleep, type Timer } from '../../kit/clock.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import type { Client } from '../../rpc/types.js';
import type { Io } from '../io.js';
import { hasEnded, type OperationView } from './view.js';

/** How long a center that went away is waited for, while ordering and while following. */
const ORDER_PATIENCE_MS = 15_000;
const FOLLOW_PATIENCE_MS = 60_000;
/** How long outcomes that are unknown are given to become known once the operation has ended, where the center does not end the watch sooner. */
const UNKNOWN_PATIENCE_MS = 5_000;
const AGAIN_MS = 500;

/** What became of an order. A refusal is thrown. */
export type Ordered =
  | { readonly kind: 'ordered'; readonly operation: Operation }
  /** The center did not answer: it may have the order or not. */
  | { readonly kind: 'unclear'; readonly why: string };

/**
 * Orders an operation. The request id in the order makes it safe to ask again when the answer was lost.
 * @throws the center's refusal
 */
export async function orderOperation(io: Io, order: () => Promise<Operation>): Promise<Ordered> {
  const untilMs = io.clock.monotonic() + ORDER_PATIENCE_MS;
  for (;;) {
    try {
      return { kind: 'ordered', operation: await order() };
    } catch (error) {
      if (io.signal.aborted) return { kind: 'unclear', why: 'stopped before the center had answered' };
      if (!isCode(error, 'unavailable', 'deadline')) throw error;
      if (io.clock.monotonic() > untilMs) return { kind: 'unclear', why: messageOf(error) };
    }
    if (!(await rest(io))) return { kind: 'unclear', why: 'stopped before the center had answered' };
  }
}

/** False: the user gave up meanwhile. */
async function rest(io: Io): Promise<boolean> {
  await sleep(io.clock, AGAIN_MS, io.signal).catch(() => undefined);
  return !io.signal.aborted;
}

/** Told of what happens, one after the other. A listener that takes its time holds the center's messages back. */
export interface Listener {
  /** The view has changed; `targets` have another outcome than before. */
  readonly changed: (targets: readonly Command[]) => Promise<void> | void;
  /** The center cannot be reached, since then (wall clock). */
  readonly away: (sinceMs: number) => Promise<void> | void;
  /** It is back. */
  readonly back: () => Promise<void> | void;
}

/**
 * How following ended: the operation has ended (what is unknown may stay so); the user gave up; the center could not be reached any
 * more, and how the operation goes on is not known.
 */
export type FollowEnd = 'ended' | 'detached' | 'lost';

type Watcher = Pick<Client<typeof CenterService>, 'watchOperation'>;

/** Follows the operation of the view to its end, over ends of the center. @throws what the center refuses, for example not_found */
export async function followOperation(
  io: Io,
  center: Watcher,
  view: OperationView,
  listener: Listener,
): Promise<FollowEnd> {
  let away: { readonly sinceMs: number; readonly untilMs: number } | undefined;
  const heard = async (): Promise<void> => {
    if (away !== undefined) await listener.back();
    away = undefined;
  };
  for (;;) {
    try {
      await watchToEnd(io, center, view, { ...listener, heard });
      return 'ended';
    } catch (error) {
      if (io.signal.aborted) return 'detached';
      if (!isCode(error, 'unavailable', 'cancelled', 'deadline')) throw error;
    }
    if (away === undefined) {
      away = { sinceMs: io.clock.now(), untilMs: io.clock.monotonic() + FOLLOW_PATIENCE_MS };
      await listener.away(away.sinceMs);
    } else if (io.clock.monotonic() > away.untilMs) return 'lost';
    if (!(await rest(io))) return 'detached';
  }
}

/** Resolves when the operation has ended and no more is to be heard of it for now. @throws as the watch */
async function watchToEnd(
  io: Io,
  center: Watcher,
  view: OperationView,
  listener: Pick<Listener, 'changed'> & { readonly heard: () => Promise<void> },
): Promise<void> {
  const enough = new AbortController();
  const signal = AbortSignal.any([io.signal, enough.signal]);
  let patience: Timer | undefined;
  try {
    for await (const update of center.watchOperation({ id: view.operation.id }, { signal })) {
      await listener.heard();
      await listener.changed(view.apply(update));
      if (view.settled) return;
      if (hasEnded(view.operation))
        patience ??= io.clock.after(UNKNOWN_PATIENCE_MS, () => {
          enough.abort();
        });
    }
  } catch (error) {
    if (enough.signal.aborted && !io.signal.aborted) return;
    throw error;
  } finally {
    patience?.cancel();
  }
  // A center that ends in good order ends its watches; the operation goes on.
  if (!hasEnded(view.operation)) throw new MusterError('unavailable', 'the center ended the watch');
}
