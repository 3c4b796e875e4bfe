import type { Command } from 'commander';
import type { GetStatsResponse, QueueService, SubscriptionStats, TopicStats } from '../../generated/muster/v1/queue.js';
import { sleep } from '../kit/clock.js';
import { counted } from '../kit/counted.js';
import { formatSize } from '../kit/durations.js';
import type { Client } from '../rpc/types.js';
import { inertLine } from './inert.js';
import type { Io } from './io.js';
import { ago, clockTime, Output, renderTable, write } from './output.js';
import { addQueueOption, withQueue, type QueueGlobalOptions } from './queue-connection.js';
import { objectJson } from './queue-json.js';
import { rateText } from './queue-text.js';

interface StatsOptions extends QueueGlobalOptions {
  readonly once?: boolean;
}

const REFRESH_MS = 1000;
const CLEAR = '\x1b[H\x1b[2J';

interface Row {
  readonly topic: TopicStats;
  /** Undefined in the row of the topic itself. */
  readonly subscription: SubscriptionStats | undefined;
}

function rowsOf(topics: readonly TopicStats[]): Row[] {
  return topics.flatMap((topic) => [
    { topic, subscription: undefined },
    ...topic.subscriptions.map((subscription) => ({ topic, subscription })),
  ]);
}

/** What is in a row of a subscription; topics show something else there. */
function of(pick: (subscription: SubscriptionStats) => string, topic: (topic: TopicStats) => string = () => '') {
  return (row: Row): string => (row.subscription ? pick(row.subscription) : topic(row.topic));
}

function stateOf({ paused, damage, consumers }: SubscriptionStats): string {
  if (damage !== '') return `DAMAGED: ${damage}`;
  const count = counted(consumers.length, 'consumer');
  return paused ? `paused, ${count}` : count;
}

function tableOf(topics: readonly TopicStats[], nowMs: number): string {
  return renderTable(rowsOf(topics), [
    {
      heading: 'TOPIC',
      text: of(
        ({ subscription }) => `  ${subscription}`,
        ({ topic }) => topic,
      ),
    },
    {
      heading: 'BACKLOG',
      text: of(
        ({ backlog }) => String(backlog),
        ({ messages }) => String(messages),
      ),
      right: true,
    },
    { heading: 'LEASED', text: of(({ leased }) => String(leased)), right: true },
    {
      heading: 'WAITING',
      text: of(
        ({ waiting }) => String(waiting),
        ({ delayed }) => String(delayed),
      ),
      right: true,
    },
    { heading: 'DEAD', text: of(({ dead }) => String(dead)), right: true },
    { heading: 'DROPPED', text: of(({ dropped }) => String(dropped)), right: true },
    { heading: 'OLDEST', text: of(({ oldestUnsettled }) => ago(oldestUnsettled, nowMs)), right: true },
    {
      heading: 'PUBLISHED',
      text: of(
        () => '',
        ({ publishedPerSecond }) => rateText(publishedPerSecond),
      ),
      right: true,
    },
    { heading: 'DELIVERED', text: of(({ deliveredPerSecond }) => rateText(deliveredPerSecond)), right: true },
    { heading: 'SETTLED', text: of(({ settledPerSecond }) => rateText(settledPerSecond)), right: true },
    {
      heading: '',
      text: of(stateOf, ({ bytes, publishers }) => `${formatSize(bytes)}, ${counted(publishers, 'publisher')}`),
    },
  ]);
}

/** Everything, as text for people. */
function render({ topics, diskBytes, started, damage }: GetStatsResponse, nowMs: number): string {
  const lines = [
    `up ${ago(started, nowMs)}, ${formatSize(diskBytes)} on disk, ${counted(topics.length, 'topic')}`,
    ...damage.map((what) => `DAMAGED: ${inertLine(what)}`),
  ];
  const table =
    topics.length === 0 ? 'No topics yet: "muster topic create NAME" makes one.\n' : `\n${tableOf(topics, nowMs)}`;
  return `${lines.join('\n')}\n${table}`;
}

/** Draws the terminal anew each second, until Ctrl-C. */
async function live(io: Io, queue: Client<typeof QueueService>, topic: string): Promise<void> {
  while (!io.signal.aborted) {
    const answer = await queue.getStats({ topic });
    const now = io.clock.now();
    await write(io.stdout, `${CLEAR}${clockTime(new Date(now), now)}  ${render(answer, now)}`);
    await sleep(io.clock, REFRESH_MS, io.signal).catch(() => undefined);
  }
}

async function stats(io: Io, options: StatsOptions, topic: string): Promise<void> {
  const output = new Output(io, options);
  await withQueue(io, options, async (queue) => {
    if (io.terminal && !output.json && options.once !== true) {
      await live(io, queue, topic);
      return;
    }
    const answer = await queue.getStats({ topic });
    await output.document(objectJson(answer));
    if (!output.json) await write(io.stdout, render(answer, io.clock.now()));
  });
}

export function register(program: Command, io: Io): void {
  addQueueOption(program.command('stats [topic]').description('what waits where in the queue, and how fast it moves'))
    .option('--once', 'on a terminal too: show it once')
    .action((topic: string | undefined, _options, command: Command) =>
      stats(io, command.optsWithGlobals(), topic ?? ''),
    );
}
