import { InvalidArgumentError, type Command } from 'commander';
import {
  Subscription,
  type DeepPartial,
  type Position,
  type QueueService,
  type SeekResponse,
  type SubscriptionStats,
} from '../../generated/muster/v1/queue.js';
import { counted } from '../kit/counted.js';
import { MusterError } from '../kit/errors.js';
import type { Client } from '../rpc/types.js';
import { countArgument, durationArgument } from './arguments.js';
import type { Io } from './io.js';
import { clockTime, Output } from './output.js';
import { allPages } from './paging.js';
import { addQueueOption, withQueue, type QueueGlobalOptions } from './queue-connection.js';
import { objectJson, wholeJson } from './queue-json.js';
import {
  defined,
  durationText,
  ifThere,
  optionalDuration,
  positionArgument,
  removing,
  usage,
  type TypedPosition,
} from './queue-text.js';

interface SettingsOptions extends QueueGlobalOptions {
  readonly lease?: number;
  readonly maxAttempts?: number;
  readonly backoffInitial?: number;
  readonly backoffMax?: number;
  readonly backoffMultiplier?: number;
  readonly expireAfterIdle?: number;
  readonly pause?: boolean;
  readonly resume?: boolean;
}

interface CreateOptions extends SettingsOptions {
  readonly start?: TypedPosition;
  readonly ordered?: boolean;
}

interface Names {
  readonly topic: string;
  readonly subscription: string;
}

interface RemoveOptions extends QueueGlobalOptions {
  readonly force?: boolean;
}

interface SeekOptions extends QueueGlobalOptions {
  readonly to: TypedPosition;
  readonly dryRun?: boolean;
}

/** What the options say of a subscription's settings, the backoff laid on the one it has. */
function settingsOf(options: SettingsOptions, before?: Subscription): DeepPartial<Subscription> {
  const backoff = {
    initial: optionalDuration(options.backoffInitial),
    max: optionalDuration(options.backoffMax),
    multiplier: options.backoffMultiplier,
  };
  const paused = options.pause === true ? true : options.resume === true ? false : undefined;
  return {
    ...defined({
      lease: optionalDuration(options.lease),
      maxAttempts: options.maxAttempts,
      expireAfterIdle: optionalDuration(options.expireAfterIdle),
      paused,
    }),
    ...(Object.keys(defined(backoff)).length > 0 ? { backoff: { ...before?.backoff, ...defined(backoff) } } : {}),
  };
}

async function list(io: Io, options: QueueGlobalOptions, topic: string): Promise<void> {
  const output = new Output(io, options);
  const subscriptions = await withQueue(io, options, (queue) =>
    allPages(
      (page) => queue.listSubscriptions({ topic, ...page }),
      (page) => page.subscriptions,
    ),
  );
  await output.document({ subscriptions: wholeJson(subscriptions) });
  await output.table(subscriptions, [
    { heading: 'TOPIC', text: (one) => one.topic },
    { heading: 'SUBSCRIPTION', text: (one) => one.name },
    { heading: 'LEASE', text: (one) => durationText(one.lease, '-') },
    { heading: 'ATTEMPTS', text: (one) => (one.maxAttempts === 0 ? 'no limit' : String(one.maxAttempts)) },
    { heading: 'BACKOFF', text: backoffText },
    { heading: 'ORDERED', text: (one) => (one.ordered ? 'by key' : 'no') },
    { heading: 'EXPIRES', text: (one) => durationText(one.expireAfterIdle, 'never') },
    { heading: 'PAUSED', text: (one) => (one.paused ? 'yes' : 'no') },
  ]);
  if (subscriptions.length === 0) {
    await output.note('No subscriptions yet: "muster subscription create TOPIC NAME" makes one.');
  }
}

function backoffText({ backoff }: Subscription): string {
  if (!backoff) return '-';
  return `${durationText(backoff.initial, '0s')} to ${durationText(backoff.max, '0s')}, x${backoff.multiplier}`;
}

async function showOne(io: Io, output: Output, one: Subscription): Promise<void> {
  await output.document(objectJson(one));
  await output.line(
    `${one.name} of ${one.topic}, created ${clockTime(one.created, io.clock.now())}, revision ${one.revision}`,
  );
  await output.line(`  lease     ${durationText(one.lease, '-')}`);
  await output.line(
    `  attempts  ${one.maxAttempts === 0 ? 'no limit' : `${one.maxAttempts}, then a dead letter`}; ${backoffText(one)} between them`,
  );
  await output.line(`  ordered   ${one.ordered ? 'by key' : 'no'}`);
  await output.line(`  expires   ${durationText(one.expireAfterIdle, 'never')}${one.paused ? '; it is paused' : ''}`);
}

async function create(io: Io, options: CreateOptions, names: { topic: string; name: string }): Promise<void> {
  const output = new Output(io, options);
  const subscription = Subscription.create({
    ...settingsOf(options),
    ...names,
    start: options.start?.(io.clock.now()),
    ordered: options.ordered === true,
  });
  const { before, one } = await withQueue(io, options, async (queue) => ({
    before: await ifThere(queue.getSubscription({ topic: names.topic, subscription: names.name })),
    one: await queue.createSubscription({ subscription }),
  }));
  await showOne(io, output, one);
  if (before) await output.note(`${names.name} was there already, with these settings: nothing is changed.`);
}

async function show(io: Io, options: QueueGlobalOptions, topic: string, subscription: string): Promise<void> {
  const one = await withQueue(io, options, (queue) => queue.getSubscription({ topic, subscription }));
  await showOne(io, new Output(io, options), one);
}

async function update(io: Io, options: SettingsOptions, topic: string, subscription: string): Promise<void> {
  const output = new Output(io, options);
  if (options.pause === true && options.resume === true) throw usage('give either --pause or --resume, not both');
  if (Object.keys(settingsOf(options)).length === 0) {
    throw usage(
      'nothing to change: give a setting, for example --lease 1m; "muster subscription update --help" lists them',
    );
  }
  const changed = await withQueue(io, options, async (queue) => {
    const before = await queue.getSubscription({ topic, subscription });
    return queue.updateSubscription({
      subscription: Subscription.create({ ...before, ...settingsOf(options, before) }),
    });
  });
  await showOne(io, output, changed);
}

async function statsOf(
  queue: Client<typeof QueueService>,
  { topic, subscription }: Names,
): Promise<SubscriptionStats | undefined> {
  const { topics } = await queue.getStats({ topic });
  return topics[0]?.subscriptions.find((one) => one.subscription === subscription);
}

/** @throws precondition, reason NOT_EMPTY, when messages would be lost with the subscription */
function assertEmpty(stats: SubscriptionStats | undefined, { topic, subscription }: Names): void {
  if (!stats || stats.backlog + stats.dead === 0) return;
  const { backlog, dead } = stats;
  throw new MusterError(
    'precondition',
    `${subscription} of ${topic} has ${counted(backlog, 'unsettled message')} and ${counted(dead, 'dead letter')}: let them be consumed, or give them up with "muster subscription rm ${topic} ${subscription} --force"`,
    { reason: 'NOT_EMPTY' },
  );
}

async function remove(io: Io, options: RemoveOptions, names: Names): Promise<void> {
  const output = new Output(io, options);
  const { topic, subscription } = names;
  const stats = await removing(
    withQueue(io, options, async (queue) => {
      const before = await statsOf(queue, names);
      if (options.force !== true) assertEmpty(before, names);
      await queue.deleteSubscription(names);
      return before;
    }),
    `muster subscriptions ${topic}`,
  );
  const { backlog = 0, dead = 0 } = stats ?? {};
  await output.document({ topic, subscription, removed: true, backlog, dead });
  const lost =
    backlog + dead === 0 ? '' : ` with ${counted(backlog, 'unsettled message')} and ${counted(dead, 'dead letter')}`;
  await output.line(`${subscription} of ${topic} is gone${lost}`);
}

async function seek(io: Io, options: SeekOptions, names: Names): Promise<void> {
  const output = new Output(io, options);
  const dryRun = options.dryRun === true;
  const to = options.to(io.clock.now());
  const { answer, end } = await withQueue(io, options, async (queue) => {
    const { topics } = await queue.getStats({ topic: names.topic });
    return { end: topics[0]?.nextSequence ?? Infinity, answer: await queue.seek({ ...names, to, dryRun }) };
  });
  await output.document(objectJson(answer));
  const { redelivered, skipped } = answer;
  const [go, are, count] = dryRun
    ? ['would go', 'would be', 'would count']
    : ['goes', areOf(redelivered), countOf(skipped)];
  await output.line(
    `${names.subscription} of ${names.topic} ${go} on at ${answer.sequence}: ${counted(redelivered, 'settled message')} ${are} delivered again, ${counted(skipped, 'unsettled message')} ${count} as settled`,
  );
  if (isBack(to, { end, nowMs: io.clock.now() })) await noteGone(output, { answer, end });
  else await noteEnd(output, { to, answer, end });
}

function areOf(count: number): string {
  return count === 1 ? 'is' : 'are';
}

function countOf(count: number): string {
  return count === 1 ? 'counts' : 'count';
}

/** Whether the place lies before what is published next. */
function isBack({ at }: Position, { end, nowMs }: { readonly end: number; readonly nowMs: number }): boolean {
  switch (at?.$case) {
    case 'earliest':
      return true;
    case 'sequence':
      return at.value < end;
    case 'time':
      return at.value.getTime() <= nowMs;
    case 'latest':
    case undefined:
      return false;
  }
}

/** Who goes back expects that something comes again. */
async function noteGone(
  output: Output,
  { answer, end }: { readonly answer: SeekResponse; readonly end: number },
): Promise<void> {
  if (answer.sequence < end) return;
  await output.note(
    'Nothing that old is stored: what all subscriptions have settled is kept only as long as --min-retention of "muster topic update" says.',
  );
}

/** A mistyped place behind the end skips all that waits. */
async function noteEnd(
  output: Output,
  { to, answer, end }: { readonly to: Position; readonly answer: SeekResponse; readonly end: number },
): Promise<void> {
  if (to.at?.$case === 'latest' || answer.sequence < end) return;
  const newest = end === 1 ? 'nothing was published yet' : `the newest message is ${end - 1}`;
  await output.note(
    `That is behind the newest message (${newest}): all that waits is skipped, ${counted(answer.skipped, 'message')}.`,
  );
}

function factorArgument(text: string): number {
  const factor = Number(text);
  if (text.trim() === '' || !Number.isFinite(factor))
    throw new InvalidArgumentError('expected a number, for example 1.5');
  return factor;
}

function addSettings(command: Command): Command {
  return addQueueOption(command)
    .option('--lease <duration>', 'how long a consumer has a message; default 30s', durationArgument)
    .option('--max-attempts <count>', 'then it becomes a dead letter; 0, the default: never', countArgument)
    .option('--backoff-initial <duration>', 'before the second attempt; default 1s', durationArgument)
    .option('--backoff-max <duration>', 'default 5m', durationArgument)
    .option('--backoff-multiplier <number>', 'default 2', factorArgument)
    .option(
      '--expire-after-idle <duration>',
      'remove it when nobody consumed for so long; 0s: never',
      durationArgument,
    );
}

export function register(program: Command, io: Io): void {
  addQueueOption(
    program.command('subscriptions [topic]').description('the subscriptions of a topic, or of all'),
  ).action((topic: string | undefined, _options, command: Command) => list(io, command.optsWithGlobals(), topic ?? ''));
  const subscription = program
    .command('subscription')
    .description('make, change, move and remove subscriptions of a topic');
  addSettings(subscription.command('create <topic> <name>').description('make a subscription'))
    .option('--start <place>', 'earliest, latest (the default), a sequence, a time, or how long ago', positionArgument)
    .option('--ordered', 'messages of one key one at a time and in order')
    .option('--pause', 'nothing is delivered yet')
    .action((topic: string, name: string, _options, command: Command) =>
      create(io, command.optsWithGlobals(), { topic, name }),
    );
  addQueueOption(subscription.command('show <topic> <name>').description('the settings of a subscription')).action(
    (topic: string, name: string, _options, command: Command) => show(io, command.optsWithGlobals(), topic, name),
  );
  addSettings(subscription.command('update <topic> <name>').description('change the settings that are given'))
    .option('--pause', 'nothing is delivered any more')
    .option('--resume', 'deliver again')
    .action((topic: string, name: string, _options, command: Command) =>
      update(io, command.optsWithGlobals(), topic, name),
    );
  addQueueOption(subscription.command('rm <topic> <name>').description('remove a subscription'))
    .option('--force', 'even when messages wait or are dead')
    .action((topic: string, name: string, _options, command: Command) =>
      remove(io, command.optsWithGlobals(), { topic, subscription: name }),
    );
  addQueueOption(
    subscription.command('seek <topic> <name>').description('go on elsewhere: again from before, or past what waits'),
  )
    .requiredOption(
      '--to <place>',
      'earliest, latest, a sequence, a time (2026-11-20T14:00:00Z), or how long ago (10m)',
      positionArgument,
    )
    .option('--dry-run', 'say what would happen')
    .action((topic: string, name: string, _options, command: Command) =>
      seek(io, command.optsWithGlobals(), { topic, subscription: name }),
    );
}
