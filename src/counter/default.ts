import { agentAddress } from '../client/agent-address.js';
import { noticeNoAgent, noticeOnce } from '../client/notice.js';
import { backgroundClock, sleep, systemClock } from '../kit/clock.js';
import { isCode } from '../kit/errors.js';
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

/** Between the tries of one flush. */
const FLUSH_RETRY_MS = 100;

/**
 * Resolves once everything counted so far is on the agent's disk; at once where there is no agent. An agent that is away is tried again until the
 * time is over. Call it before process.exit().
 * @throws deadline, unavailable and others when the agent does not take it within `timeoutMs` (default 5 s)
 */
export async function flush(options: Pick<FlushOptions, 'timeoutMs'> = {}): Promise<void> {
  if (!reporter) return;
  const { timeoutMs = FLUSH_TIMEOUT_MS } = options;
  // Nothing that the reporter waits for keeps a process alive; a caller who waits does.
  const hold = systemClock.after(timeoutMs, () => undefined);
  try {
    await flushBy(reporter, systemClock.monotonic() + timeoutMs);
  } finally {
    hold.cancel();
  }
}

async function flushBy(to: Reporter, untilMs: number): Promise<void> {
  for (;;) {
    const leftMs = untilMs - systemClock.monotonic();
    try {
      await to.flush({ timeoutMs: Math.max(1, leftMs) });
      return;
    } catch (error) {
      if (!isCode(error, 'unavailable') || leftMs <= FLUSH_RETRY_MS) throw error;
      await sleep(systemClock, FLUSH_RETRY_MS);
    }
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
