import { agentAddress } from '../client/agent-address.js';
import { noticeNoAgent, noticeOnce } from '../client/notice.js';
import { backgroundClock, systemClock } from '../kit/clock.js';
import { systemRandom } from '../kit/random.js';
import { Registry } from './registry.js';
import { describeLoss, FLUSH_TIMEOUT_MS, Reporter, type FlushOptions, type Transport } from './reporter.js';

/** What the process counts. Its reporter starts with the first counter. */
export const defaultRegistry = new Registry();

/** Time for the last values when the process ends by itself. */
const EXIT_FLUSH_MS = 2_000;

let reporter: Reporter | undefined;

defaultRegistry.onFirstUse(() => {
  defaultRegistry.onMisuse((message) => {
    noticeOnce('COUNTER_MISUSED', message);
  });
  const address = agentAddress(process.env);
  if (address === undefined) noticeNoAgent();
  else reporter = startReporter(address);
});

/**
 * Resolves once everything counted so far is on the agent's disk; at once where there is no agent. Call it before process.exit().
 * @throws deadline, unavailable and others when the agent does not take it within `timeoutMs` (default 5 s)
 */
export async function flush(options: Pick<FlushOptions, 'timeoutMs'> = {}): Promise<void> {
  if (!reporter) return;
  // Nothing that the reporter waits for keeps a process alive; a caller who waits does.
  const hold = systemClock.after(options.timeoutMs ?? FLUSH_TIMEOUT_MS, () => undefined);
  try {
    await reporter.flush(options);
  } finally {
    hold.cancel();
  }
}

function startReporter(address: string): Reporter {
  const started = new Reporter({
    registry: defaultRegistry,
    transport: lazyTransport(address),
    clock: backgroundClock,
    random: systemRandom,
    service: process.env['MUSTER_SERVICE'] ?? '',
    warn: (message) => {
      noticeOnce('COUNTER_REFUSED', message);
    },
  });
  started.start();
  process.once('beforeExit', () => {
    started.flush({ timeoutMs: EXIT_FLUSH_MS, final: true }).catch((error: unknown) => {
      noticeOnce('COUNTS_LOST', describeLoss(error));
    });
  });
  return started;
}

/** gRPC is loaded with the first batch, so that counting alone costs nothing. */
function lazyTransport(address: string): Transport {
  const open = async (): Promise<Transport> => {
    const [{ openChannel }, { channelTransport }] = await Promise.all([
      import('../rpc/client.js'),
      import('./wire.js'),
    ]);
    return channelTransport(openChannel({ address, peer: 'the agent', clock: backgroundClock, background: true }));
  };
  let opening: Promise<Transport> | undefined;
  return {
    async send(batch, signal) {
      opening ??= open();
      return (await opening).send(batch, signal);
    },
  };
}
