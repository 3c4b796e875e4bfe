import { systemClock } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import { systemRandom } from '../kit/random.js';
import { aborted, runTasks } from '../kit/tasks.js';
import { queueSocket } from '../model/places.js';
import { readDescriptors } from '../rpc/descriptor-set.js';
import { RpcServer } from '../rpc/server.js';
import { authorize } from './access.js';
import { Broker } from './broker.js';
import type { QueueLogOptions } from './log/leveldb-log.js';
import type { QueueLog } from './log/port.js';
import { Maintenance } from './maintenance.js';
import { QueueMembership } from './membership/membership.js';
import { Pulls } from './pulls.js';
import { Scrub } from './scrub.js';
import { queueImplementation } from './service.js';

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
  /** How the log uses its disk, where the defaults do not fit. */
  readonly disk?: Pick<QueueLogOptions, 'freeSpaceFloorBytes' | 'writeBufferBytes'>;
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
/** A subscriber may have so many bytes on their way before it has read any, and so may a publisher: what 10 ms of distance need. */
const FLOW_WINDOW = { streamBytes: 2 * 1024 * 1024, connectionBytes: 4 * 1024 * 1024 };

/** Serves the queue whose log this is until the signal aborts. */
export async function serve(options: QueueMainOptions, log: QueueLog): Promise<void> {
  const { data, logger, autoCreateTopics } = options;
  const clock = systemClock;
  const broker = await Broker.open({ log, clock, logger, autoCreateTopics, companyClock: clock });
  const maintenance = new Maintenance(broker, { clock, logger });
  const scrub = new Scrub(log, logger);
  const membership = await QueueMembership.open({ ...options, clock, random: systemRandom });
  const parts = { broker, pulls: new Pulls(clock), startedMs: clock.now(), damage: () => scrub.damage };
  const server = new RpcServer({
    services: [queueImplementation(parts)],
    authorize,
    logger,
    clock,
    descriptors: await readDescriptors(),
    flowWindow: FLOW_WINDOW,
  });
  try {
    const socket = options.socket ?? queueSocket(data);
    await server.listen({ kind: 'unix', path: socket, mode: 0o600, principal: { kind: 'operator', name: 'local' } });
    await membership.listen(server);
    const { name = '', site = '', center = '' } = membership.member ?? {};
    await options.onReady?.({ name, site, center, address: membership.address ?? '', socket, pid: process.pid });
    await runTasks(options.signal, [
      (signal) => membership.run(server, signal),
      (signal) => maintenance.run(signal),
      (signal) => scrub.run(signal),
      (signal) => failWith(log, signal),
    ]);
  } finally {
    await server.drain(DRAIN_MS);
    await broker.commit.idle();
    broker.close(
      new MusterError('unavailable', 'the queue is stopping: connect again in a moment', { reason: 'STOPPING' }),
    );
  }
}

/** A log that failed cannot be trusted any more: the process must end, so that it is opened anew. */
async function failWith(log: QueueLog, signal: AbortSignal): Promise<void> {
  const failure = await Promise.race([log.failed, aborted(signal)]);
  if (failure) throw failure;
}
