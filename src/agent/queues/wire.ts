import { CenterService } from '../../../generated/muster/v1/center.js';
import type { QueueServer } from '../../../generated/muster/v1/types.js';
import { createClient, type Channel } from '../../rpc/client.js';
import { fromDate, toDate } from '../../wire/time.js';

/** A queue of the site, as the center told of it. Times are wall-clock milliseconds. */
export interface KnownQueue {
  readonly name: string;
  /** HOST:PORT; empty until the queue has told it. */
  readonly address: string;
  readonly joinedMs: number | undefined;
  readonly lastSeenMs: number | undefined;
}

/** The queues of the site, as the center knows them. */
export async function askForQueues(channel: Channel, timeoutMs: number): Promise<KnownQueue[]> {
  const { queues } = await createClient(CenterService, channel).listQueues({}, { timeoutMs });
  return queues.map(({ name, address, joined, lastSeen }) => ({
    name,
    address,
    joinedMs: fromDate(joined),
    lastSeenMs: fromDate(lastSeen),
  }));
}

export function toWireQueue({ name, address, joinedMs, lastSeenMs }: KnownQueue): QueueServer {
  return { name, address, joined: toDate(joinedMs), lastSeen: toDate(lastSeenMs) };
}
