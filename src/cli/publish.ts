import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import type { OutgoingMessage } from '../client/queue/message.js';
import type { Publisher } from '../client/queue/publisher.js';
import type { Receipt } from '../client/queue/receipts.js';
import { errnoOf, messageOf, MusterError } from '../kit/errors.js';
import { durationArgument, labelArgument } from './arguments.js';
import type { Io } from './io.js';
import { Output } from './output.js';
import { addQueueOption, withQueueLibrary, type QueueGlobalOptions } from './queue-connection.js';
import { defined } from './queue-text.js';

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
  return new MusterError(error.code, `${before} messages were published, then: ${error.message}`, {
    ...(error.reason === undefined ? {} : { reason: error.reason }),
    fields: error.fields,
    cause: error,
  });
}

function summary(topic: string, { stored, duplicates, delayed, first, last }: Tally): string {
  const where =
    first === undefined || last === undefined
      ? ''
      : first === last
        ? `, sequence ${first}`
        : `, sequences ${first} to ${last}`;
  const parts = [
    `${stored} ${stored === 1 ? 'message' : 'messages'} in ${topic}${where}`,
    ...(delayed > 0 ? [`${delayed} to enter it later`] : []),
    ...(duplicates > 0 ? [`${duplicates} known already by their dedupe id`] : []),
  ];
  return parts.join('; ');
}

async function publish(io: Io, options: PublishOptions, topic: string, words: readonly string[]): Promise<void> {
  const output = new Output(io, options);
  const extras = defined({
    attributes: options.attribute,
    key: options.key,
    dedupeId: options.dedupeId,
    deliverAfterMs: options.delay,
  });
  const tally = await withQueueLibrary(io, options, async (queue) =>
    publishAll(queue.publisher(topic, { giveUpAfterMs: GIVE_UP_MS }), payloads(io, options, words), extras),
  );
  await output.document({ topic, ...tally });
  await output.line(summary(topic, tally));
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
    .option('--dedupe-id <id>', 'stored once, however often it is published')
    .option('--delay <duration>', 'the message enters the topic only after this time', durationArgument)
    .action((topic: string, words: string[], _options, command: Command) =>
      publish(io, command.optsWithGlobals(), topic, words),
    );
}
