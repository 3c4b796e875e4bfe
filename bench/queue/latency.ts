import { quantile } from '../measure.js';
import { median, pause, type Bench, type Scenario } from './bench.js';
import type { ClientHandle } from './client-handle.js';

/** From handing a message to the client until the consumer's process has it, at a rate that strains nobody. */

const PER_SECOND = 1000;
/**
 * Servers and clients in Node.js are compiled while they run. At this rate V8 does so for half a minute, on threads that keep a core for a slice of the
 * scheduler, about 3 ms, while who was to run there waits: before, it is those slices that p99 shows.
 */
const WARM_SECONDS = 40;

export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Medians of some windows: a moment in which the machine did something else does not count. */
export async function latencyOf(
  consumers: readonly ClientHandle[],
  settings: { readonly seconds: number; readonly rounds: number },
): Promise<Latency> {
  const read = async (): Promise<number[]> =>
    (await Promise.all(consumers.map((consumer) => consumer.read()))).flatMap(({ samples }) => samples);
  await read();
  const windows: number[][] = [];
  while (windows.length < settings.rounds) {
    await pause(settings.seconds);
    windows.push(await read());
  }
  if (windows.some(({ length }) => length < (PER_SECOND * settings.seconds) / 2))
    throw new Error('fewer than half of the messages arrived in time');
  return {
    p50Ms: median(windows.map((samples) => quantile(samples, 0.5))),
    p99Ms: median(windows.map((samples) => quantile(samples, 0.99))),
  };
}

async function measure(bench: Bench): Promise<Record<string, number>[]> {
  const { settings, subject, endpoint } = bench;
  const topic = 'latency';
  await bench.prepare(topic, ['one']);
  const consumer = await bench.client({
    kind: 'consume',
    endpoint,
    topic,
    subscriptions: ['one'],
    stalled: false,
    stamped: true,
    patient: false,
  });
  const publisher = await bench.client({
    kind: 'publish',
    endpoint,
    topic,
    payloadBytes: 100,
    inFlight: subject.inFlight,
    perSecond: PER_SECOND,
    total: 0,
  });
  await consumer.begin();
  await publisher.begin();
  await pause(WARM_SECONDS);
  await publisher.read();
  const latency = await latencyOf([consumer], settings);
  const acks = (await publisher.read()).samples;
  return [{ ...latency, ackP50Ms: quantile(acks, 0.5), ackP99Ms: quantile(acks, 0.99) }];
}

export const latency: Scenario = {
  name: 'latency',
  tables: [
    {
      title: 'Latency at 1,000 durable messages/s, 100 B',
      columns: [
        { key: 'p50Ms', title: 'to receive p50 ms', unit: 'ms', better: 'less', aim: 'no worse' },
        { key: 'p99Ms', title: 'to receive p99 ms', unit: 'ms', better: 'less', aim: 'no worse' },
        { key: 'ackP50Ms', title: 'to ack p50 ms', unit: 'ms' },
        { key: 'ackP99Ms', title: 'to ack p99 ms', unit: 'ms' },
      ],
    },
  ],
  measure,
};
