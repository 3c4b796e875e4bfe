import type {
  CounterInfo,
  CounterSeries,
  CounterService,
  CounterWatchRequest,
  QueryResponse,
} from '../../../generated/muster/v1/counter.js';
import { BatchReader, toAcknowledgement, toWireKind } from '../../counter/wire.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { aborted } from '../../kit/tasks.js';
import type { CallContext, Handlers } from '../../rpc/types.js';
import { toDate } from '../../wire/time.js';
import type { Counters, CounterSummary, MachineSeries } from './counters.js';

/** A watch answers at most this often. */
const WATCH_INTERVAL_MS = 1_000;

/** Counter on the center: agents report, operators look. */
export function counterHandlers(counters: Counters, clock: Clock): Handlers<typeof CounterService> {
  return {
    async report(stream, context) {
      const machine = machineOf(context);
      const reader = new BatchReader();
      for await (const frame of stream) {
        const received = reader.read(frame);
        const refusals = await counters.report(machine, received.batch);
        await stream.send(toAcknowledgement(received, refusals));
      }
      stream.end();
    },
    listCounters: ({ service }) => Promise.resolve().then(() => ({ counters: counters.list(service).map(toInfo) })),
    query: ({ service, name }) => Promise.resolve().then(() => answer(counters, service, name)),
    watch: (request, context) => watch(counters, clock, { request, context }),
  };
}

async function* watch(
  counters: Counters,
  clock: Clock,
  { request, context: { signal } }: { request: CounterWatchRequest; context: CallContext },
): AsyncGenerator<QueryResponse> {
  let now = answer(counters, request.service, request.name);
  const service = now.counter?.service ?? request.service;
  let changed = new AbortController();
  const unsubscribe = counters.onChange((one) => {
    if (one === service) changed.abort();
  });
  try {
    for (let last = ''; ;) {
      // The service's other counters may have changed, not this one.
      if (valuesOf(now) !== last) {
        last = valuesOf(now);
        yield now;
        await sleep(clock, WATCH_INTERVAL_MS, signal);
      }
      await aborted(AbortSignal.any([changed.signal, signal]));
      signal.throwIfAborted();
      changed = new AbortController();
      now = answer(counters, service, request.name);
    }
  } finally {
    unsubscribe();
  }
}

function valuesOf({ series }: QueryResponse): string {
  return JSON.stringify(series.map(({ machine, labels, value }) => [machine, labels, value]));
}

function answer(counters: Counters, service: string, name: string): QueryResponse {
  const { counter, series } = counters.query(service, name);
  return { counter: toInfo(counter), series: series.map(toSeries) };
}

/** Who reports: only a machine's certificate says so. */
function machineOf({ principal }: CallContext): string {
  if (principal.kind === 'agent') return principal.machine;
  throw new MusterError('denied', 'only agents report counters to the center; services report to their agent', {
    reason: 'NOT_AN_AGENT',
  });
}

function toInfo({ kind, perSecond, updatedMs, ...rest }: CounterSummary): CounterInfo {
  return { ...rest, kind: toWireKind(kind), ratePerSecond: perSecond, updated: toDate(updatedMs) };
}

function toSeries({ machine, machineName, definition, value, perSecond, updatedMs }: MachineSeries): CounterSeries {
  const rate = perSecond === undefined ? {} : { ratePerSecond: perSecond };
  return { machine, machineName, labels: { ...definition.labels }, value, ...rate, updated: toDate(updatedMs) };
}
