import type { CounterService } from '../../../generated/muster/v1/counter.js';
import { BatchReader, toAcknowledgement } from '../../counter/wire.js';
import { MusterError } from '../../kit/errors.js';
import type { CallContext, Handlers } from '../../rpc/types.js';
import type { CounterSpool } from './spool.js';

/**
 * Counter on an agent: services report on their own sockets. Looking at counters is the center's: an agent knows one machine.
 */
export function counterHandlers(spool: CounterSpool): Handlers<typeof CounterService> {
  return {
    async report(stream, context) {
      const service = serviceOf(context);
      const reader = new BatchReader();
      for await (const frame of stream) {
        const received = reader.read(frame);
        const refusals = await spool.report(service, received.batch);
        await stream.send(toAcknowledgement(received, refusals));
      }
      stream.end();
    },
    listCounters: () => Promise.reject(askTheCenter()),
    query: () => Promise.reject(askTheCenter()),
    async *watch() {
      await Promise.reject(askTheCenter());
    },
  };
}

/** Who counts: only a service's own socket says so. */
function serviceOf({ principal }: CallContext): string {
  if (principal.kind === 'service') return principal.service;
  throw new MusterError('denied', "counters are reported over a service's own socket, which MUSTER_AGENT names", {
    reason: 'NOT_A_SERVICE',
  });
}

function askTheCenter(): MusterError {
  return new MusterError(
    'unimplemented',
    'an agent does not answer questions about counters: ask the center, with "muster counters"',
  );
}
