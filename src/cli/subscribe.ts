import type { Command } from 'commander';
import type { Delivery } from '../client/queue/delivery.js';
import { toDuration } from '../wire/time.js';
import { durationArgument, someArgument } from './arguments.js';
import { inertLine } from './inert.js';
import type { Io } from './io.js';
import { clockTime, Output } from './output.js';
import { addQueueOption, withQueue, withQueueLibrary, type QueueGlobalOptions } from './queue-connection.js';
import { messageJson, storedJson } from './queue-json.js';
import { extrasText, payloadText, positionArgument, startOf, usage, type TypedPosition } from './queue-text.js';

interface SubscribeOptions extends QueueGlobalOptions {
  readonly count?: number;
  /** False with --no-ack. */
  readonly ack: boolean;
  readonly create?: boolean;
  readonly from?: TypedPosition;
  readonly verbose?: boolean;
}

interface PullOptions extends QueueGlobalOptions {
  readonly count: number;
  readonly wait?: number;
  readonly ack?: boolean;
}

interface Names {
  readonly topic: string;
  readonly subscription: string;
}

interface PeekOptions extends QueueGlobalOptions {
  readonly from?: TypedPosition;
  readonly limit: number;
}

/** Messages that may be out at once: few enough that others get theirs, many enough for speed. */
const CREDIT = 1_000;

/** Of one pull; the queue's own bound. */
const WAIT_MAX_MS = 60_000;

async function print(output: Output, message: Delivery, options: SubscribeOptions): Promise<void> {
  const { sequence, attempt, published, attributes, key, dedupeId, payload } = message;
  await output.document({ sequence, attempt, published, ...messageJson({ payload, attributes, key, dedupeId }) });
  const extras = extrasText({ attributes, key });
  if (options.verbose === true) {
    await output.note(`${sequence}, attempt ${attempt}${extras === '' ? '' : `, ${inertLine(extras)}`}`);
  }
  await output.line(payloadText(payload));
}

/** Nothing comes of a paused subscription: whoever waits for it is told why. */
async function notePaused(io: Io, output: Output, options: QueueGlobalOptions, names: Names): Promise<void> {
  if (output.json) return;
  const { topic, subscription } = names;
  const one = await withQueue(io, options, (queue) => queue.getSubscription(names)).catch(() => undefined);
  if (one?.paused !== true) return;
  await output.note(
    `${subscription} of ${topic} is paused: nothing comes until "muster subscription update ${topic} ${subscription} --resume".`,
  );
}

/** Prints messages; each is acknowledged when it is written. */
async function subscribe(io: Io, options: SubscribeOptions, topic: string, subscription: string): Promise<void> {
  const output = new Output(io, options);
  const { count = Infinity, create } = options;
  if (options.from && create !== true)
    throw usage('--from goes with --create: "muster subscription seek" moves one that is there');
  const from = options.from?.(io.clock.now());
  await withQueueLibrary(io, options, async (queue) => {
    await notePaused(io, output, options, { topic, subscription });
    const messages = queue.subscribe(topic, subscription, {
      maxMessages: Math.min(count, CREDIT),
      ...(create === true ? { create: { start: from ? startOf(from) : 'latest' } } : {}),
    });
    const stop = (): void => void messages.close();
    io.signal.addEventListener('abort', stop, { once: true });
    let left = count;
    for await (const message of messages) {
      await print(output, message, options);
      if (options.ack) message.ack();
      left -= 1;
      if (left <= 0) break;
    }
    io.signal.removeEventListener('abort', stop);
  });
}

async function pull(io: Io, options: PullOptions, topic: string, subscription: string): Promise<void> {
  const output = new Output(io, options);
  if (options.wait !== undefined && options.wait > WAIT_MAX_MS) throw usage('--wait takes 60s at most');
  const wait = options.wait === undefined ? undefined : toDuration(options.wait);
  if (wait !== undefined) await notePaused(io, output, options, { topic, subscription });
  await withQueue(io, options, async (queue) => {
    const request = { topic, subscription, maxMessages: options.count, wait };
    // The queue answers when its own wait is over: the call must not give up before.
    const { messages } = await queue.pull(request, { timeoutMs: (options.wait ?? 0) + 10_000, signal: io.signal });
    await output.document({ messages: messages.map(storedJson) });
    for (const { sequence, message, attempt, lease } of messages) {
      await output.note(`${sequence}, attempt ${attempt}, lease ${lease}`);
      await output.line(payloadText(message?.payload ?? Buffer.alloc(0)));
    }
    if (messages.length === 0) await output.note('Nothing is deliverable now.');
    else if (options.ack === true) {
      const acks = messages.map(({ lease }) => lease);
      await queue.settle({ topic, subscription, acks, nacks: [], extends: [] });
    } else await output.note(settleHint(topic, subscription, messages[0]?.lease ?? ''));
  });
}

function settleHint(topic: string, subscription: string, lease: string): string {
  const request = JSON.stringify({ topic, subscription, acks: [lease] });
  return `They are delivered again when their lease is over. To settle them, pull with --ack, or Queue/Settle with '${request}'.`;
}

async function peek(io: Io, options: PeekOptions, topic: string): Promise<void> {
  const output = new Output(io, options);
  const from = options.from?.(io.clock.now());
  const { messages } = await withQueue(io, options, (queue) => queue.peek({ topic, from, limit: options.limit }));
  await output.document({ messages: messages.map(storedJson) });
  const now = io.clock.now();
  await output.table(messages, [
    { heading: 'SEQUENCE', text: ({ sequence }) => String(sequence), right: true },
    { heading: 'PUBLISHED', text: ({ published }) => clockTime(published, now) },
    { heading: 'WITH', text: ({ message }) => (message ? extrasText(message) : '') },
    { heading: 'PAYLOAD', text: ({ message }) => (message ? payloadText(message.payload) : '') },
  ]);
  if (messages.length === 0) await output.note('Nothing is stored there.');
}

export function register(program: Command, io: Io): void {
  addQueueOption(
    program
      .command('subscribe <topic> <subscription>')
      .description('print the messages of a subscription as they come, and acknowledge each once it is printed'),
  )
    .option('-n, --count <count>', 'end after so many', someArgument)
    .option('--no-ack', 'only look: they are delivered again afterwards, to others too')
    .option('--create', 'make the subscription when there is none')
    .option('--from <place>', 'with --create: earliest, latest (the default), a sequence, a time', positionArgument)
    .option('--verbose', 'sequence, attempt, key and attributes too, on standard error')
    .action((topic: string, subscription: string, _options, command: Command) =>
      subscribe(io, command.optsWithGlobals(), topic, subscription),
    );
  addQueueOption(
    program
      .command('pull <topic> <subscription>')
      .description('take a few messages of a subscription, without a stream'),
  )
    .option('-n, --count <count>', 'at most so many', someArgument, 1)
    .option('--wait <duration>', 'for the first one, at most 60s', durationArgument)
    .option('--ack', 'acknowledge them once they are printed')
    .action((topic: string, subscription: string, _options, command: Command) =>
      pull(io, command.optsWithGlobals(), topic, subscription),
    );
  addQueueOption(program.command('peek <topic>').description('show stored messages, and change nothing'))
    .option('--from <place>', 'earliest (the default), a sequence, a time, or how long ago', positionArgument)
    .option('-n, --limit <count>', 'so many', someArgument, 10)
    .action((topic: string, _options, command: Command) => peek(io, command.optsWithGlobals(), topic));
}
