import { rssOf } from '../measure.js';
import { until, pause, type Bench, type Scenario } from './bench.js';
import type { ClientHandle } from './client-handle.js';
import { latencyOf, type Latency } from './latency.js';

/**
 * Ten subscriptions of one topic, one of them with a consumer that takes what it is given and never settles: what its backlog of 100,000 messages
 * does to the other nine. Alone: the nine without it.
 */

const HEALTHY = Array.from({ length: 9 }, (_, index) => `healthy-${index + 1}`);
const STALLED = 'stalled';
const BACKLOG = 100_000;
const PER_SECOND = 1000;
const FILL_SECONDS = 60;

interface Phase extends Latency {
  readonly rss: number;
}

function consumerOf(bench: Bench, topic: string, options: { readonly stalled: boolean }): Promise<ClientHandle> {
  return bench.client({
    kind: 'consume',
    endpoint: bench.endpoint,
    topic,
    subscriptions: options.stalled ? [STALLED] : HEALTHY,
    stalled: options.stalled,
    stamped: !options.stalled,
    patient: false,
  });
}

function publisherOf(
  bench: Bench,
  topic: string,
  job: { readonly perSecond: number; readonly total: number },
): Promise<ClientHandle> {
  const { endpoint, subject } = bench;
  return bench.client({ kind: 'publish', endpoint, topic, payloadBytes: 100, inFlight: subject.inFlight, ...job });
}

/** The nine at 1,000 messages a second. */
async function steady(bench: Bench, topic: string, consumer: ClientHandle): Promise<Phase> {
  const publisher = await publisherOf(bench, topic, { perSecond: PER_SECOND, total: 0 });
  await publisher.begin();
  await pause(1);
  const latency = await latencyOf([consumer], bench.settings);
  await publisher.end();
  return { ...latency, rss: rssOf(bench.system.pid) };
}

async function alone(bench: Bench): Promise<Phase> {
  await bench.prepare('alone', HEALTHY);
  const consumer = await consumerOf(bench, 'alone', { stalled: false });
  await consumer.begin();
  const phase = await steady(bench, 'alone', consumer);
  await consumer.end();
  return phase;
}

async function beside(bench: Bench): Promise<Phase> {
  const topic = 'beside';
  await bench.prepare(topic, [...HEALTHY, STALLED]);
  const consumer = await consumerOf(bench, topic, { stalled: false });
  const stalled = await consumerOf(bench, topic, { stalled: true });
  await consumer.begin();
  await stalled.begin();
  const filler = await publisherOf(bench, topic, { perSecond: 0, total: BACKLOG });
  await filler.begin();
  await filler.finished(FILL_SECONDS * 1000);
  await filler.end();
  await until('the nine to have the backlog', FILL_SECONDS, async () => {
    return (await consumer.read()).count >= BACKLOG * HEALTHY.length;
  });
  return steady(bench, topic, consumer);
}

async function measure(bench: Bench): Promise<Record<string, number>[]> {
  const before = await alone(bench);
  const after = await beside(bench);
  return [
    {
      aloneP50Ms: before.p50Ms,
      aloneP99Ms: before.p99Ms,
      besideP50Ms: after.p50Ms,
      besideP99Ms: after.p99Ms,
      times: after.p99Ms / before.p99Ms,
      rss: after.rss,
      rssAlone: before.rss,
    },
  ];
}

export const stalled: Scenario = {
  name: 'stalled',
  tables: [
    {
      title: 'One of ten subscriptions stalled with a backlog of 100,000: the other nine, at 1,000 messages/s',
      columns: [
        { key: 'aloneP50Ms', title: 'alone p50 ms', unit: 'ms' },
        { key: 'aloneP99Ms', title: 'alone p99 ms', unit: 'ms' },
        { key: 'besideP50Ms', title: 'beside p50 ms', unit: 'ms' },
        { key: 'besideP99Ms', title: 'beside p99 ms', unit: 'ms' },
        { key: 'times', title: 'times', unit: 's', aim: 'p99 within 2 times of alone' },
        { key: 'rssAlone', title: 'memory alone', unit: 'bytes' },
        { key: 'rss', title: 'memory beside', unit: 'bytes' },
      ],
    },
  ],
  measure,
};
