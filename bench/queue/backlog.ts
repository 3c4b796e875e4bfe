import { connectClient } from './clients.js';
import { rssOf } from '../measure.js';
import { until, pause, type Bench, type Scenario } from './bench.js';
import { nowMs } from './port.js';
import { diskBytes } from './system.js';

/**
 * A million messages that wait: memory and disk, how soon the first is delivered after a restart, and what is left on disk when all are settled.
 */

const FILL_SECONDS = 90;
const DRAIN_SECONDS = 90;
/** Bodies settle, files are closed. */
const REST_SECONDS = 1;
/** Given back within this time, or not at all for this bench. */
const RECLAIM_SECONDS = 15;

async function fill(bench: Bench, topic: string): Promise<number> {
  const { settings, subject, endpoint } = bench;
  const publisher = await bench.client({
    kind: 'publish',
    endpoint,
    topic,
    payloadBytes: 100,
    inFlight: subject.inFlight,
    perSecond: 0,
    total: settings.backlog,
  });
  const beganMs = nowMs();
  await publisher.begin();
  await publisher.finished(FILL_SECONDS * 1000);
  await publisher.end();
  return (nowMs() - beganMs) / 1000;
}

/** The smallest that is seen until it no longer falls. */
async function reclaimed(directory: string): Promise<number> {
  const lateMs = nowMs() + RECLAIM_SECONDS * 1000;
  let smallest = Infinity;
  let fellMs = nowMs();
  while (nowMs() < lateMs && nowMs() - fellMs < 4000) {
    const now = await diskBytes(directory);
    if (now < smallest) fellMs = nowMs();
    smallest = Math.min(smallest, now);
    await pause(0.25);
  }
  return smallest;
}

async function measure(bench: Bench): Promise<Record<string, number>[]> {
  const { settings, system, endpoint } = bench;
  const topic = 'backlog';
  await bench.prepare(topic, ['one']);
  const fillSeconds = await fill(bench, topic);
  await pause(REST_SECONDS);
  const figures: Record<string, number> = {
    fillSeconds,
    rss: rssOf(system.pid),
    disk: await diskBytes(system.data),
  };
  const consumer = await bench.client({
    kind: 'consume',
    endpoint,
    topic,
    subscriptions: ['one'],
    stalled: false,
    stamped: false,
    patient: true,
  });
  await system.stop();
  const startedMs = nowMs();
  system.spawnAgain();
  await consumer.begin(DRAIN_SECONDS * 1000);
  let figuresOf = await consumer.read();
  await until('the backlog to be delivered', DRAIN_SECONDS, async () => {
    figuresOf = await consumer.read();
    return figuresOf.count >= settings.backlog;
  });
  figures['restartSeconds'] = (figuresOf.firstMs - startedMs) / 1000;
  figures['drained'] = (figuresOf.count * 1000) / (figuresOf.lastMs - figuresOf.firstMs);
  figures['rssAfter'] = rssOf(system.pid);
  const client = await connectClient(endpoint);
  await client.reclaim(topic);
  await client.close();
  figures['diskAfter'] = await reclaimed(system.data);
  return [figures];
}

export const backlog: Scenario = {
  name: 'backlog',
  tables: [
    {
      title: 'Backlog of messages of 100 B (1,000,000 unless --backlog says otherwise)',
      columns: [
        { key: 'rss', title: 'memory', unit: 'bytes', better: 'less', aim: 'Muster under 150 MB' },
        { key: 'disk', title: 'disk', unit: 'bytes', better: 'less' },
        { key: 'restartSeconds', title: 'restart to first s', unit: 's', better: 'less', aim: 'Muster under 0.5 s' },
        { key: 'drained', title: 'drained/s', unit: 'per second', better: 'more' },
        { key: 'rssAfter', title: 'memory after', unit: 'bytes' },
        { key: 'diskAfter', title: 'disk after', unit: 'bytes' },
        { key: 'fillSeconds', title: 'filled in s', unit: 's' },
      ],
    },
  ],
  measure,
};
