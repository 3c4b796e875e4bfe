import type { Command, CenterService, RunCommandRequest } from '../../generated/muster/v1/center.js';
import { sleep } from '../kit/clock.js';
import { isCode, messageOf, MusterError } from '../kit/errors.js';
import { isFinal } from '../model/instance.js';
import type { Client } from '../rpc/types.js';
import { fromWireOutcome } from '../wire/instance.js';
import type { Io } from './io.js';

/** How long a center that went away is waited for, while ordering and while following. */
const ORDER_PATIENCE_MS = 15_000;
const FOLLOW_PATIENCE_MS = 60_000;
/** How long an unknown outcome is given to become known: the agent may only have lost its link for a moment. */
const UNKNOWN_PATIENCE_MS = 15_000;
const AGAIN_MS = 500;

/** What can be said of an order in the end. */
export type Followed =
  | { readonly kind: 'known'; readonly command: Command }
  /** Ordered, and then the center could not be reached any more. */
  | { readonly kind: 'lost'; readonly command: Command }
  /** The center did not answer: it may have the order or not. */
  | { readonly kind: 'unclear'; readonly why: string }
  | { readonly kind: 'refused'; readonly why: string };

type Center = Pick<Client<typeof CenterService>, 'runCommand' | 'watchCommand'>;

/**
 * Orders a command and follows it until its outcome is final, or nothing more will be known of it for now. The request id makes it safe to
 * ask again when the answer was lost.
 * @throws cancelled when the user gave up
 */
export async function orderAndFollow(io: Io, center: Center, request: RunCommandRequest): Promise<Followed> {
  const ordered = await order(io, center, request);
  return 'kind' in ordered ? ordered : follow(io, center, ordered.command);
}

async function order(io: Io, center: Center, request: RunCommandRequest): Promise<{ command: Command } | Followed> {
  const untilMs = io.clock.monotonic() + ORDER_PATIENCE_MS;
  for (;;) {
    try {
      return { command: await center.runCommand(request, { signal: io.signal }) };
    } catch (error) {
      if (io.signal.aborted) throw error;
      if (!isCode(error, 'unavailable', 'deadline')) return { kind: 'refused', why: messageOf(error) };
      if (io.clock.monotonic() > untilMs) return { kind: 'unclear', why: messageOf(error) };
    }
    await sleep(io.clock, AGAIN_MS, io.signal);
  }
}

async function follow(io: Io, center: Center, ordered: Command): Promise<Followed> {
  let command = ordered;
  let heardMs = io.clock.monotonic();
  for (;;) {
    try {
      command = await watchToEnd(io, center, command, () => {
        heardMs = io.clock.monotonic();
      });
      return { kind: 'known', command };
    } catch (error) {
      if (io.signal.aborted || !isCode(error, 'unavailable', 'cancelled')) throw error;
      if (io.clock.monotonic() - heardMs > FOLLOW_PATIENCE_MS) return { kind: 'lost', command };
    }
    await sleep(io.clock, AGAIN_MS, io.signal);
  }
}

/** The newest state of the command: its final one, or UNKNOWN after some patience. @throws as the watch */
async function watchToEnd(io: Io, center: Center, ordered: Command, heard: () => void): Promise<Command> {
  const enough = new AbortController();
  const signal = AbortSignal.any([io.signal, enough.signal]);
  let patience: { cancel(): void } | undefined;
  let last = ordered;
  try {
    for await (const update of center.watchCommand({ id: ordered.id }, { signal })) {
      heard();
      last = update;
      const outcome = fromWireOutcome(update.outcome);
      if (isFinal(outcome)) return last;
      patience?.cancel();
      patience =
        outcome === 'UNKNOWN'
          ? io.clock.after(UNKNOWN_PATIENCE_MS, () => {
              enough.abort();
            })
          : undefined;
    }
    // A center that ends in good order ends its watches; the command goes on.
    throw new MusterError('unavailable', 'the center ended the watch');
  } catch (error) {
    if (enough.signal.aborted && !io.signal.aborted) return last;
    throw error;
  } finally {
    patience?.cancel();
  }
}
