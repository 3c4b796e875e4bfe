import type { CenterService } from '../../../generated/muster/v1/center.js';
import type { QueueServer } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../kit/errors.js';
import { describePrincipal, type Principal } from '../../rpc/principal.js';
import type { Handlers } from '../../rpc/types.js';
import { toDate } from '../../wire/time.js';
import type { QueueRecord, Queues } from './queues.js';

export interface QueueParts {
  readonly queues: Queues;
  /** Forgets a queue and cuts it off. */
  readonly removeQueue: (name: string, by: string) => Promise<void>;
}

export function queueHandlers({
  queues,
  removeQueue,
}: QueueParts): Pick<Handlers<typeof CenterService>, 'registerQueue' | 'listQueues' | 'removeQueue'> {
  return {
    registerQueue: async ({ address }, { principal }) => {
      await queues.register(callingQueue(principal), address);
      return {};
    },
    listQueues: () => Promise.resolve({ queues: queues.list().map(toWire) }),
    removeQueue: async ({ queue }, { principal }) => {
      await removeQueue(queue, describePrincipal(principal));
      return {};
    },
  };
}

function toWire({ name, address, joinedMs, lastSeenMs }: QueueRecord): QueueServer {
  return { name, address, joined: toDate(joinedMs), lastSeen: toDate(lastSeenMs) };
}

/** @throws denied when the caller is not a queue */
function callingQueue(principal: Principal): string {
  if (principal.kind === 'queue') return principal.name;
  throw new MusterError('denied', `${describePrincipal(principal)} is not a queue`, { reason: 'NOT_A_QUEUE' });
}
