import type { Command } from 'commander';
import {
  ListSubscriptionsResponse,
  SeekResponse,
  Subscription,
  type DeepPartial,
} from '../../generated/muster/v1/queue.js';
import { countArgument, durationArgument } from './arguments.js';
import type { Io } from './io.js';
import { clockTime, Output } from './output.js';
import { allPages } from './paging.js';
import { addQueueOption, withQueue, type QueueGlobalOptions } from './queue-connection.js';
import { defined, durationText, optionalDuration, positionArgument, type TypedPosition } from './queue-text.js';

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
  await output.document(ListSubscriptionsResponse.toJSON({ subscriptions, nextPageToken: '' }));
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
  await output.document(Subscription.toJSON(one));
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
  await showOne(io, output, await withQueue(io, options, (queue) => queue.createSubscription({ subscription })));
}

async function show(io: Io, options: QueueGlobalOptions, topic: string, subscription: string): Promise<void> {
  const one = await withQueue(io, options, (queue) => queue.getSubscription({ topic, subscription }));
  await showOne(io, new Output(io, options), one);
}

async function update(io: Io, options: SettingsOptions, topic: string, subscription: string): Promise<void> {
  const output = new Output(io, options);
  const changed = await withQueue(io, options, async (queue) => {
    const before = await queue.getSubscription({ topic, subscription });
    return queue.updateSubscription({
      subscription: Subscription.create({ ...before, ...settingsOf(options, before) }),
    });
  });
  await showOne(io, output, changed);
}

async function remove(io: Io, options: QueueGlobalOptions, topic: string, subscription: string): Promise<void> {
  const output = new Output(io, options);
  await withQueue(io, options, (queue) => queue.deleteSubscription({ topic, subscription }));
  await output.document({ topic, subscription, removed: true });
  await output.line(`${subscription} of ${topic} is gone, with its place and its dead letters`);
}

async function seek(io: Io, options: SeekOptions, topic: string, subscription: string): Promise<void> {
  const output = new Output(io, options);
  const dryRun = options.dryRun === true;
  const to = options.to(io.clock.now());
  const answer = await withQueue(io, options, (queue) => queue.seek({ topic, subscription, to, dryRun }));
  await output.document(SeekResponse.toJSON(answer));
  await output.line(
    `${subscription} of ${topic} ${dryRun ? 'would go' : 'goes'} on at ${answer.sequence}: ${answer.redelivered} settled messages ${dryRun ? 'would be' : 'are'} delivered again, ${answer.skipped} unsettled ones ${dryRun ? 'would count' : 'count'} as settled`,
  );
}

function addSettings(command: Command): Command {
  return addQueueOption(command)
    .option('--lease <duration>', 'how long a consumer has a message; default 30s', durationArgument)
    .option('--max-attempts <count>', 'then it becomes a dead letter; 0, the default: never', countArgument)
    .option('--backoff-initial <duration>', 'before the second attempt; default 1s', durationArgument)
    .option('--backoff-max <duration>', 'default 5m', durationArgument)
    .option('--backoff-multiplier <number>', 'default 2', Number)
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
  addQueueOption(subscription.command('rm <topic> <name>').description('remove a subscription')).action(
    (topic: string, name: string, _options, command: Command) => remove(io, command.optsWithGlobals(), topic, name),
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
      seek(io, command.optsWithGlobals(), topic, name),
    );
}
