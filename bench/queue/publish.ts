import { cpuSecondsOf, quantile } from '../measure.js';
import { median, pause, type Bench, type Scenario } from './bench.js';

/** How much a publisher gets stored and acknowledged, as fast as it can. One subscription waits for the messages; nobody consumes them. */

const SIZES = [
  { title: '100 B', bytes: 100 },
  { title: '1 KiB', bytes: 1024 },
];
/** Until what Node.js runs here is compiled. */
const WARM_SECONDS = 3;

async function publishing(bench: Bench, bytes: number): Promise<Record<string, number>> {
  const { settings, subject, endpoint } = bench;
  const topic = `publish-${bytes}`;
  await bench.prepare(topic, ['all']);
  const publisher = await bench.client({
    kind: 'publish',
    endpoint,
    topic,
    payloadBytes: bytes,
    inFlight: subject.inFlight,
    perSecond: 0,
    total: 0,
  });
  await publisher.begin();
  await pause(WARM_SECONDS);
  let before = await publisher.read();
  const began = { count: before.count, cpu: cpuSecondsOf(bench.system.pid) };
  const rates: number[] = [];
  const samples: number[] = [];
  for (let round = 0; round < settings.rounds; round += 1) {
    await pause(settings.seconds);
    const after = await publisher.read();
    rates.push(((after.count - before.count) * 1000) / (after.atMs - before.atMs));
    for (const sample of after.samples) samples.push(sample);
    before = after;
  }
  const cpu = cpuSecondsOf(bench.system.pid) - began.cpu;
  await publisher.end();
  return {
    cpuMicroseconds: (cpu * 1e6) / (before.count - began.count),
    perSecond: median(rates),
    ackP50Ms: quantile(samples, 0.5),
    ackP99Ms: quantile(samples, 0.99),
  };
}

export const publish: Scenario = {
  name: 'publish',
  tables: SIZES.map(({ title }) => ({
    title: `Durable publish, ${title}: acknowledged messages`,
    columns: [
      { key: 'perSecond', title: 'messages/s', unit: 'per second', better: 'more', aim: '3 times' },
      { key: 'ackP50Ms', title: 'ack p50 ms', unit: 'ms' },
      { key: 'ackP99Ms', title: 'ack p99 ms', unit: 'ms' },
      { key: 'cpuMicroseconds', title: 'server CPU us', unit: 'ms' },
    ],
  })),
  async measure(bench) {
    const figures: Record<string, number>[] = [];
    for (const { bytes } of SIZES) figures.push(await publishing(bench, bytes));
    return figures;
  },
};
