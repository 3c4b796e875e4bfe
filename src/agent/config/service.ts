import {
  ConfigService,
  type Snapshot,
  type WatchRequest,
  type WatchResponse,
} from '../../../generated/muster/v1/config.js';
import { watchSnapshots } from '../../config/watching.js';
import { fromWireSnapshot, toWireSnapshot } from '../../config/wire.js';
import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { createClient, type Channel } from '../../rpc/client.js';
import type { CallContext, Handlers } from '../../rpc/types.js';
import type { CenterAccess } from '../ports.js';
import type { ConfigCache } from './cache.js';
import type { ConfigCenter } from './sync.js';

interface Parts {
  readonly cache: ConfigCache;
  readonly center: Pick<CenterAccess, 'connected' | 'onConnection'>;
  readonly clock: Clock;
}

/** Config on an agent: a service reads its own configuration on its own socket; operators read any. Publishing is the center's. */
export function configHandlers({ cache, center, clock }: Parts): Handlers<typeof ConfigService> {
  const read = (service: string): Snapshot => toWireSnapshot(service, cache.snapshot(service), !center.connected);
  return {
    async get(request, context) {
      const service = serviceOf(request.service, context);
      if (center.connected) await cache.settled(service, context.signal);
      return read(service);
    },
    watch: (request, context) => watch({ cache, clock, read, request, context }),
    async reportApplied({ service, revision, error }, context) {
      if (context.principal.kind !== 'service') {
        throw new MusterError('denied', 'only the service itself can say what it applied, on its own socket');
      }
      await cache.report(serviceOf(service, context), revision, error);
      return {};
    },
    getDocument: () => Promise.reject(askTheCenter()),
    validate: () => Promise.reject(askTheCenter()),
    publish: () => Promise.reject(askTheCenter()),
    listRevisions: () => Promise.reject(askTheCenter()),
    getAdoption: () => Promise.reject(askTheCenter()),
  };
}

interface Watch {
  readonly cache: ConfigCache;
  readonly clock: Clock;
  readonly read: (service: string) => Snapshot;
  readonly request: WatchRequest;
  readonly context: CallContext;
}

async function* watch({ cache, clock, read, request, context }: Watch): AsyncGenerator<WatchResponse> {
  const service = serviceOf(request.service, context);
  yield* watchSnapshots({
    clock,
    signal: context.signal,
    hash: request.hash,
    read: () => read(service),
    onChange: (listener) =>
      cache.onChange((one) => {
        if (one === service) listener();
      }),
  });
}

/** The center as the agent reaches it. */
export function remoteConfig(center: Pick<CenterAccess, 'channel'>): ConfigCenter {
  const channel = (): Channel => {
    const open = center.channel();
    if (open) return open;
    throw new MusterError('unavailable', 'this machine has not joined a center yet');
  };
  return {
    get: async (service, signal) =>
      fromWireSnapshot(await createClient(ConfigService, channel()).get({ machine: '', service }, { signal })),
    async reportApplied(service, { revision, error }, signal) {
      const client = createClient(ConfigService, channel());
      await client.reportApplied({ machine: '', service, revision, error }, { signal });
    },
  };
}

/** Whose configuration: a service's socket says so itself; an operator names it. */
function serviceOf(named: string, { principal }: CallContext): string {
  if (principal.kind === 'service') {
    if (named === '' || named === principal.service) return principal.service;
    throw new MusterError('denied', `${principal.service} may read its own configuration only, not that of ${named}`, {
      reason: 'NOT_YOUR_SERVICE',
    });
  }
  if (named !== '') return named;
  throw new MusterError('invalid', 'name the service', { reason: 'SERVICE_NEEDED' });
}

function askTheCenter(): MusterError {
  return new MusterError(
    'unimplemented',
    'an agent only holds what the center merged: ask the center, with "muster config"',
  );
}
