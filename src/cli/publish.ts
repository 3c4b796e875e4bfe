import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import type { OutgoingMessage } from '../client/queue/message.js';
import type { Publisher } from '../client/queue/publisher.js';
import type { Receipt } from '../client/queue/receipts.js';
import { counted } from '../kit/counted.js';
import { errnoOf, messageOf, MusterError } from '../kit/errors.js';
import { durationArgument, labelArgument } from './arguments.js';
import type { Io } from './io.js';
import { clockTime, Output } from './output.js';
import { addQueueOption, withQueue, withQueueLibrary, type QueueGlobalOptions } from './queue-connection.js';
import { defined, usage } from './queue-text.js';

interface PublishOptions extends QueueGlobalOptions {
  readonly file?: string;
  readonly lines?: boolean;
  readonly attribute?: Record<string, string>;
  readonly key?: string;
  readonly dedupeId?: string;
  readonly delay?: number;
}

/** Messages handed over before their answers are waited for. */
const TOGETHER = 1_000;

/** A queue that went away meanwhile is not waited for longer: whoever typed the command can do that better. */
const GIVE_UP_MS = 5_000;

/** What became of everything. */
interface Tally {
  stored: number;
  duplicates: number;
  delayed: number;
  first: number | undefined;
  last: number | undefined;
}

async function* linesOf(stream: Readable): AsyncGenerator<string> {
  for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) yield line;
}

async function readContent(io: Io, file: string): Promise<Buffer> {
  if (file === '-') {
    const chunks: Buffer[] = [];
    for await (const chunk of io.stdin) chunks.push(Buffer.from(chunk as Uint8Array));
    return Buffer.concat(chunks);
  }
  try {
    return await readFile(file);
  } catch (error) {
    const why = errnoOf(error) === 'ENOENT' ? 'there is no such file' : messageOf(error);
    throw new MusterError('invalid', `cannot read ${file}: ${why}`, { reason: 'USAGE', cause: error });
  }
}

/** Payloads in order: the words typed; a file whole, or by its lines; the lines of standard input. */
async function* payloads(
  io: Io,
  { file, lines }: PublishOptions,
  words: readonly string[],
): AsyncGenerator<Buffer | string> {
  yield* words;
  if (file !== undefined) {
    const content = await readContent(io, file);
    if (lines === true)
      yield* content
        .toString('utf8')
        .replace(/\r?\n$/, '')
        .split(/\r?\n/);
    else yield content;
  } else if (words.length === 0) yield* linesOf(io.stdin);
}

/** Nothing at all when there are several: a dedupe id would have all but the first taken for repetitions. */
async function* onlyOne<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  const taken: T[] = [];
  for await (const one of source) {
    taken.push(one);
    if (taken.length > 1) throw usage('--dedupe-id is for one message, and there are several: publish them one by one');
  }
  yield* taken;
}

function note(tally: Tally, { sequence, duplicate, delayed }: Receipt): void {
  if (duplicate) tally.duplicates += 1;
  else if (delayed) tally.delayed += 1;
  else tally.stored += 1;
  if (duplicate || sequence === undefined) return;
  tally.first ??= sequence;
  tally.last = sequence;
}

/** Publishes everything; a failure ends it, and says how far it came. */
async function publishAll(
  publisher: Publisher,
  source: AsyncIterable<Buffer | string>,
  extras: Omit<OutgoingMessage, 'payload'>,
): Promise<Tally> {
  const tally: Tally = { stored: 0, duplicates: 0, delayed: 0, first: undefined, last: undefined };
  let together: Promise<void>[] = [];
  try {
    for await (const payload of source) {
      together.push(
        publisher.send({ ...extras, payload }).then((receipt) => {
          note(tally, receipt);
        }),
      );
      if (together.length < TOGETHER) continue;
      await Promise.all(together);
      together = [];
    }
    await Promise.all(together);
  } catch (error) {
    await Promise.allSettled(together);
    throw told(error, tally);
  }
  return tally;
}

function told(error: unknown, { stored, duplicates, delayed }: Tally): unknown {
  const before = stored + duplicates + delayed;
  if (!(error instanceof MusterError) || before === 0) return error;
  return new MusterError(error.code, `${counted(before, 'message')} published, then: ${error.message}`, {
    ...(error.reason === undefined ? {} : { reason: error.reason }),
    fields: error.fields,
    cause: error,
  });
}

/** `enters` says when the delayed ones enter the topic. */
function summary(topic: string, { stored, duplicates, delayed, first, last }: Tally, enters: string): string {
  const where =
    first === undefined || last === undefined
      ? ''
      : first === last
        ? `, sequence ${first}`
        : `, sequences ${first} to ${last}`;
  const parts = [
    ...(stored > 0 || delayed === 0 ? [`${counted(stored, 'message')} in ${topic}${where}`] : []),
    ...(delayed > 0 ? [`${counted(delayed, 'message')} stored, to enter ${topic} at ${enters}`] : []),
    ...(duplicates > 0 ? [`${duplicates} known already by ${duplicates === 1 ? 'its' : 'their'} dedupe id`] : []),
  ];
  return parts.join('; ');
}

/** A misspelt topic that was made by publishing to it would look like success. */
async function noteNobody(io: Io, output: Output, options: PublishOptions, topic: string): Promise<void> {
  if (output.json) return;
  try {
    const { topics } = await withQueue(io, options, (queue) => queue.getStats({ topic }));
    if (topics[0]?.subscriptions.length !== 0) return;
  } catch {
    // What was published is published: a note beside it is not worth a failure.
    return;
  }
  await output.note(`${topic} has no subscription: what is in it is kept for one that starts "earliest".`);
}

function isTerminal({ stdin }: Io): boolean {
  return 'isTTY' in stdin && stdin.isTTY === true;
}

async function publish(io: Io, options: PublishOptions, topic: string, words: readonly string[]): Promise<void> {
  const output = new Output(io, options);
  if (options.lines === true && options.file === undefined) throw usage('--lines goes with --file');
  const extras = defined({
    attributes: options.attribute,
    key: options.key,
    dedupeId: options.dedupeId,
    deliverAfterMs: options.delay,
  });
  if (words.length === 0 && options.file === undefined && isTerminal(io)) {
    await output.note('Each line typed is published as one message; Ctrl-D ends.');
  }
  const all = payloads(io, options, words);
  const source = options.dedupeId === undefined ? all : onlyOne(all);
  const tally = await withQueueLibrary(io, options, async (queue) =>
    publishAll(queue.publisher(topic, { giveUpAfterMs: GIVE_UP_MS }), source, extras),
  );
  await output.document({ topic, ...tally });
  const now = io.clock.now();
  await output.line(summary(topic, tally, clockTime(new Date(now + (options.delay ?? 0)), now)));
  await noteNobody(io, output, options, topic);
}

export function register(program: Command, io: Io): void {
  addQueueOption(
    program
      .command('publish <topic> [text...]')
      .description('publish messages: one a word, or one a line of standard input, or a file'),
  )
    .option('--file <file>', 'the content of this file as one message ("-": standard input)')
    .option('--lines', 'with --file: one message a line')
    .option('--attribute <key=value>', 'goes with every message; may be repeated', labelArgument)
    .option('--key <key>', 'for subscriptions that are ordered')
    .option('--dedupe-id <id>', 'stored once, however often it is published; for one message')
    .option('--delay <duration>', 'the message enters the topic only after this time', durationArgument)
    .action((topic: string, words: string[], _options, command: Command) =>
      publish(io, command.optsWithGlobals(), topic, words),
    );
}
