import { resolve } from 'node:path';
import { systemClock } from '../kit/clock.js';
import { explainFullDisk, makeDirectory } from '../kit/files.js';
import type { Logger } from '../kit/logger.js';
import { systemRandom } from '../kit/random.js';
import { runTasks } from '../kit/tasks.js';
import { queueSocket } from '../model/places.js';
import { readDescriptors } from '../rpc/descriptors.js';
import { RpcServer } from '../rpc/server.js';
import { authorize } from './access.js';
import { QueueMembership } from './membership/membership.js';

export { joinQueue } from './membership/party.js';

export interface QueueMainOptions {
  /** Data directory. */
  readonly data: string;
  /** HOST:PORT for services and people; port 0 takes a free one. */
  readonly listen: string;
  /** The operators' socket; default DATA/queue.sock. */
  readonly socket?: string;
  /** HOST:PORT under which others reach this queue; default: this host's name and the port. */
  readonly advertise?: string;
  /** Address of the center, if it moved since the queue joined; remembered. */
  readonly center?: string;
  /** Whether publishing to a topic that is not there makes it. */
  readonly autoCreateTopics: boolean;
  readonly logger: Logger;
  /** Ends the queue in good order. */
  readonly signal: AbortSignal;
  /** Called once, when the queue answers. */
  readonly onReady?: (ready: QueueReady) => Promise<void> | void;
}

/** A queue that serves. */
export interface QueueReady {
  /** Empty before the queue has joined, as are its site, its center and its address. */
  readonly name: string;
  readonly site: string;
  readonly center: string;
  /** HOST:PORT it listens on. */
  readonly address: string;
  readonly socket: string;
  readonly pid: number;
}

const DRAIN_MS = 5000;

/**
 * Runs a queue until the signal aborts. Without having joined a site it serves its socket alone.
 * @throws precondition when an address or the data directory is taken
 */
export async function runQueue(options: QueueMainOptions): Promise<void> {
  const data = resolve(options.data);
  try {
    await runOn({ ...options, data });
  } catch (error) {
    throw explainFullDisk(error, data);
  }
}

async function runOn(options: QueueMainOptions): Promise<void> {
  const { data, logger } = options;
  await makeDirectory(data, 0o700);
  const membership = await QueueMembership.open({ ...options, clock: systemClock, random: systemRandom });
  const server = new RpcServer({ services: [], authorize, logger, descriptors: await readDescriptors() });
  try {
    const socket = options.socket ?? queueSocket(data);
    await server.listen({ kind: 'unix', path: socket, mode: 0o600, principal: { kind: 'operator', name: 'local' } });
    await membership.listen(server);
    const { name = '', site = '', center = '' } = membership.member ?? {};
    await options.onReady?.({ name, site, center, address: membership.address ?? '', socket, pid: process.pid });
    await runTasks(options.signal, [(signal) => membership.run(server, signal)]);
  } finally {
    await server.drain(DRAIN_MS);
  }
}
