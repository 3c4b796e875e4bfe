import { implement, type Implementation } from '../rpc/implementation.js';
import { QueueService } from '../../generated/muster/v1/queue.js';
import { adminHandlers, type AdminParts } from './admin-service.js';
import { CONSUME_METHODS, consumeHandlers } from './consume-service.js';
import { PUBLISH_METHODS, publishHandlers } from './publish-service.js';
import type { Pulls } from './pulls.js';

/** The contract's Queue service, whole. */
export function queueImplementation(parts: AdminParts & { readonly pulls: Pulls }): Implementation {
  const definition = { ...QueueService, ...PUBLISH_METHODS, ...CONSUME_METHODS };
  return implement(definition, {
    ...adminHandlers(parts),
    ...publishHandlers(parts.broker),
    ...consumeHandlers(parts.broker, parts.pulls),
  });
}
