import { cpuSecondsOf } from '../measure.js';
import { median, until, pause, type Bench, type Scenario } from './bench.js';
import type { ClientHandle } from './client-handle.js';
import { nowMs } from './port.js';

/**
 * One publisher as fast as it can for a while, four subscriptions with a consumer process each, every message acknowledged: from the first message
 * sent until the last consumer has the last one. Whoever publishes faster than it delivers pays for it in the end.
 */

const SUBSCRIPTIONS = ['a', 'b', 'c', 'd'];
const SIZES = [
  { title: '100 B', bytes: 100 },
  { title: '1 KiB', bytes: 1024 },
];
/** Until what Node.js runs here is compiled. */
const WARM_SECONDS = 3;
const DRAIN_SECONDS = 60;

interface Round {
  readonly delivered: number;
  readonly published: number;
}

async function round(publisher: ClientHandle, consumers: readonly ClientHandle[], seconds: number): Promise<Round> {
  const before = (await publisher.read()).count;
  const beganMs = nowMs();
  await publisher.begin();
  await pause(seconds);
  publisher.order('finish');
  const { count, lastMs } = await publisher.finished();
  let endMs = 0;
  await until('all subscriptions to have all messages', DRAIN_SECONDS, async () => {
    const figures = await Promise.all(consumers.map((consumer) => consumer.read()));
    endMs = Math.max(...figures.map((one) => one.lastMs));
    return figures.every((one) => one.count >= count);
  });
  const published = count - before;
  return {
    delivered: (published * consumers.length * 1000) / (endMs - beganMs),
    published: (published * 1000) / (lastMs - beganMs),
  };
}

async function fan(bench: Bench, bytes: number): Promise<Record<string, number>> {
  const { settings, subject, endpoint } = bench;
  const topic = `fanout-${bytes}`;
  await bench.prepare(topic, SUBSCRIPTIONS);
  const [publisher, ...consumers] = await Promise.all([
    bench.client({
      kind: 'publish',
      endpoint,
      topic,
      payloadBytes: bytes,
      inFlight: subject.inFlight,
      perSecond: 0,
      total: 0,
    }),
    ...SUBSCRIPTIONS.map((subscription) =>
      bench.client({
        kind: 'consume',
        endpoint,
        topic,
        subscriptions: [subscription],
        stalled: false,
        stamped: false,
        patient: false,
      }),
    ),
  ]);
  for (const consumer of consumers) await consumer.begin();
  await round(publisher, consumers, WARM_SECONDS);
  const rounds: Round[] = [];
  const began = { count: (await publisher.read()).count, cpu: cpuSecondsOf(bench.system.pid) };
  while (rounds.length < settings.rounds) rounds.push(await round(publisher, consumers, settings.seconds));
  const cpu = cpuSecondsOf(bench.system.pid) - began.cpu;
  const delivered = ((await publisher.read()).count - began.count) * SUBSCRIPTIONS.length;
  for (const client of [publisher, ...consumers]) await client.end();
  return {
    delivered: median(rounds.map((one) => one.delivered)),
    published: median(rounds.map((one) => one.published)),
    cpuMicroseconds: (cpu * 1e6) / delivered,
  };
}

export const fanout: Scenario = {
  name: 'fanout',
  tables: SIZES.map(({ title }) => ({
    title: `Fan-out 1 to 4 with acknowledgements, durable, ${title}`,
    columns: [
      { key: 'delivered', title: 'delivered/s', unit: 'per second', better: 'more', aim: '3 times' },
      { key: 'published', title: 'published/s', unit: 'per second' },
      { key: 'cpuMicroseconds', title: 'server CPU us', unit: 'ms' },
    ],
  })),
  async measure(bench) {
    const figures: Record<string, number>[] = [];
    for (const { bytes } of SIZES) figures.push(await fan(bench, bytes));
    return figures;
  },
};
