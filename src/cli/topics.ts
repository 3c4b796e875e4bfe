import { Option, type Command } from 'commander';
import {
  Topic,
  TopicStats,
  type DeepPartial,
  type OnFull,
  type QueueService,
  type SubscriptionStats,
} from '../../generated/muster/v1/queue.js';
import { isCode, MusterError } from '../kit/errors.js';
import { formatSize } from '../kit/durations.js';
import type { Client } from '../rpc/types.js';
import { durationArgument } from './arguments.js';
import type { Io } from './io.js';
import { ago, clockTime, enumWord, Output } from './output.js';
import { allPages } from './paging.js';
import { addQueueOption, withQueue, type QueueGlobalOptions } from './queue-connection.js';
import { objectJson, wholeJson } from './queue-json.js';
import {
  defined,
  durationText,
  ifThere,
  namesArgument,
  optionalDuration,
  removing,
  sizeArgument,
  usage,
} from './queue-text.js';

interface SettingsOptions extends QueueGlobalOptions {
  readonly minRetention?: number;
  readonly maxAge?: number;
  readonly maxBytes?: number;
  readonly onFull?: 'reject' | 'drop-oldest';
  readonly dedupeWindow?: number;
  readonly publishers?: string[];
  readonly subscribers?: string[];
}

interface RemoveOptions extends QueueGlobalOptions {
  readonly force?: boolean;
}

interface Listed {
  readonly topic: Topic;
  readonly stats: TopicStats;
}

const ON_FULL = {
  reject: 'ON_FULL_REJECT',
  'drop-oldest': 'ON_FULL_DROP_OLDEST',
} as const satisfies Record<string, OnFull>;

/** What the options say of a topic's settings. */
function settingsOf(options: SettingsOptions): DeepPartial<Topic> {
  const { onFull, maxBytes, publishers, subscribers } = options;
  return defined({
    minRetention: optionalDuration(options.minRetention),
    maxAge: optionalDuration(options.maxAge),
    maxBytes,
    onFull: onFull && ON_FULL[onFull],
    dedupeWindow: optionalDuration(options.dedupeWindow),
    publishers,
    subscribers,
  });
}

async function allTopics(queue: Client<typeof QueueService>): Promise<Listed[]> {
  const topics = await allPages(
    (page) => queue.listTopics(page),
    (page) => page.topics,
  );
  const { topics: stats } = await queue.getStats({ topic: '' });
  const byName = new Map(stats.map((one) => [one.topic, one]));
  return topics.map((topic) => ({ topic, stats: byName.get(topic.name) ?? TopicStats.create({ topic: topic.name }) }));
}

function sum(stats: TopicStats, count: (subscription: SubscriptionStats) => number): string {
  return String(stats.subscriptions.reduce((total, subscription) => total + count(subscription), 0));
}

function oldest({ subscriptions }: TopicStats): Date | undefined {
  const times = subscriptions.flatMap(({ oldestUnsettled }) => (oldestUnsettled ? [oldestUnsettled.getTime()] : []));
  return times.length === 0 ? undefined : new Date(Math.min(...times));
}

async function list(io: Io, options: QueueGlobalOptions): Promise<void> {
  const output = new Output(io, options);
  const listed = await withQueue(io, options, allTopics);
  await output.document({
    topics: listed.map(({ topic, stats }) => ({ ...objectJson(topic), stats: wholeJson(stats) })),
  });
  const now = io.clock.now();
  await output.table(listed, [
    { heading: 'TOPIC', text: ({ topic }) => topic.name },
    { heading: 'MESSAGES', text: ({ stats }) => String(stats.messages), right: true },
    { heading: 'SIZE', text: ({ stats }) => formatSize(stats.bytes), right: true },
    { heading: 'DELAYED', text: ({ stats }) => String(stats.delayed), right: true },
    { heading: 'SUBSCRIPTIONS', text: ({ stats }) => String(stats.subscriptions.length), right: true },
    { heading: 'BACKLOG', text: ({ stats }) => sum(stats, ({ backlog }) => backlog), right: true },
    { heading: 'OLDEST', text: ({ stats }) => ago(oldest(stats), now) },
    { heading: 'DEAD', text: ({ stats }) => sum(stats, ({ dead }) => dead), right: true },
  ]);
  if (listed.length === 0) await output.note('No topics yet: "muster topic create NAME" makes one.');
}

async function showTopic(io: Io, output: Output, topic: Topic): Promise<void> {
  await output.document(objectJson(topic));
  const now = io.clock.now();
  const onFull =
    enumWord('ON_FULL', topic.onFull) === 'DROP_OLDEST' ? 'the oldest are dropped' : 'publishing is refused';
  await output.line(`${topic.name}, created ${clockTime(topic.created, now)}, revision ${topic.revision}`);
  const kept = durationText(topic.minRetention, '');
  await output.line(`  settled messages are ${kept === '' ? 'not kept' : `kept ${kept}`}`);
  await output.line(
    `  limits       ${topic.maxBytes === 0 ? 'no size' : formatSize(topic.maxBytes)}, ${durationText(topic.maxAge, 'no age')}; over them ${onFull}`,
  );
  await output.line(`  dedupe ids   remembered ${durationText(topic.dedupeWindow, 'not at all')}`);
  await output.line(`  publishers   ${topic.publishers.join(', ') || 'every service of the site'}`);
  await output.line(`  subscribers  ${topic.subscribers.join(', ') || 'every service of the site'}`);
}

async function create(io: Io, options: SettingsOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  const wanted = Topic.create({ ...settingsOf(options), name });
  const { before, topic } = await withQueue(io, options, async (queue) => ({
    before: await ifThere(queue.getTopic({ topic: name })),
    topic: await queue.createTopic({ topic: wanted }),
  }));
  await showTopic(io, output, topic);
  if (before) await output.note(`${name} was there already, with these settings: nothing is changed.`);
  else
    await output.note(
      `Nothing is delivered before there is a subscription: "muster subscription create ${name} NAME" makes one.`,
    );
}

async function show(io: Io, options: QueueGlobalOptions, name: string): Promise<void> {
  await showTopic(
    io,
    new Output(io, options),
    await withQueue(io, options, (queue) => queue.getTopic({ topic: name })),
  );
}

async function update(io: Io, options: SettingsOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  const changes = settingsOf(options);
  if (Object.keys(changes).length === 0) {
    throw usage('nothing to change: give a setting, for example --max-age 7d; "muster topic update --help" lists them');
  }
  const topic = await withQueue(io, options, async (queue) => {
    const before = await queue.getTopic({ topic: name });
    return queue.updateTopic({ topic: Topic.create({ ...before, ...changes }) });
  });
  await showTopic(io, output, topic);
}

async function remove(io: Io, options: RemoveOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  const force = options.force === true;
  try {
    await removing(
      withQueue(io, options, (queue) => queue.deleteTopic({ topic: name, force })),
      'muster topics',
    );
  } catch (error) {
    if (!isCode(error, 'precondition') || error.reason !== 'NOT_EMPTY') throw error;
    throw new MusterError('precondition', `${error.message}: "muster topic rm ${name} --force"`, {
      reason: 'NOT_EMPTY',
      cause: error,
    });
  }
  await output.document({ topic: name, removed: true });
  await output.line(`${name} is gone, with its subscriptions, messages and dead letters`);
}

function addSettings(command: Command): Command {
  return addQueueOption(command)
    .option('--min-retention <duration>', 'keep settled messages this long, for seek; 0s: not at all', durationArgument)
    .option(
      '--max-age <duration>',
      'unsettled messages older than this are over the limit; 0s: no limit',
      durationArgument,
    )
    .option('--max-bytes <size>', 'stored bytes, for example 1GB; 0: no limit but the disk', sizeArgument)
    .addOption(new Option('--on-full <what>', 'over a limit').choices(Object.keys(ON_FULL)))
    .option('--dedupe-window <duration>', 'remember dedupe ids this long; default 2m', durationArgument)
    .option('--publishers <names>', 'services that may publish, with commas; * for any text; "": all', namesArgument)
    .option('--subscribers <names>', 'services that may subscribe, likewise', namesArgument);
}

export function register(program: Command, io: Io): void {
  addQueueOption(program.command('topics').description("the queue's topics, and what waits in them")).action(
    (_options, command: Command) => list(io, command.optsWithGlobals()),
  );
  const topic = program.command('topic').description('make, show, change and remove topics of the queue');
  addSettings(topic.command('create <topic>').description('make a topic')).action(
    (name: string, _options, command: Command) => create(io, command.optsWithGlobals(), name),
  );
  addQueueOption(topic.command('show <topic>').description('the settings of a topic')).action(
    (name: string, _options, command: Command) => show(io, command.optsWithGlobals(), name),
  );
  addSettings(topic.command('update <topic>').description('change the settings that are given')).action(
    (name: string, _options, command: Command) => update(io, command.optsWithGlobals(), name),
  );
  addQueueOption(topic.command('rm <topic>').description('remove a topic with everything in it'))
    .option('--force', 'even when messages wait or are dead')
    .action((name: string, _options, command: Command) => remove(io, command.optsWithGlobals(), name));
}
