import { ConfigService } from '../../generated/muster/v1/config.js';
import { fromWireSnapshot, type ConfigSnapshot } from '../config/wire.js';
import { Backoff } from '../kit/backoff.js';
import { sleep, type Clock } from '../kit/clock.js';
import { messageOf } from '../kit/errors.js';
import type { Random } from '../kit/random.js';
import { createClient, type Channel } from '../rpc/client.js';

export interface FollowerOptions {
  readonly channel: Channel;
  /** Empty: the one whose socket it is. */
  readonly service: string;
  readonly clock: Clock;
  readonly random: Random;
  /** The hash that is held. */
  readonly held: () => string;
  readonly onSnapshot: (snapshot: ConfigSnapshot) => void;
  /** Contact was lost, or could not be made. */
  readonly onLost: (why: string) => void;
}

const BACKOFF = { initialMs: 200, maxMs: 5_000, multiplier: 2 };

/** Watches a service's configuration at the agent until the signal aborts, however often the agent goes and comes. */
export async function followConfig(options: FollowerOptions, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff(BACKOFF, options.random);
  while (!signal.aborted) {
    await watchOnce(options, backoff, signal);
    await sleep(options.clock, backoff.next(), signal).catch(() => undefined);
  }
}

async function watchOnce(options: FollowerOptions, backoff: Backoff, signal: AbortSignal): Promise<void> {
  const { channel, service, held, onSnapshot, onLost } = options;
  try {
    const frames = createClient(ConfigService, channel).watch({ machine: '', service, hash: held() }, { signal });
    for await (const { change } of frames) {
      backoff.reset();
      if (change?.$case === 'snapshot') onSnapshot(fromWireSnapshot(change.value));
    }
  } catch (error) {
    if (!signal.aborted) onLost(messageOf(error));
  }
}
