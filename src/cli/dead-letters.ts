import { Argument, type Command } from 'commander';
import { counted } from '../kit/counted.js';
import { MusterError } from '../kit/errors.js';
import { countArgument } from './arguments.js';
import type { Io } from './io.js';
import { clockTime, Output } from './output.js';
import { allPages } from './paging.js';
import { addQueueOption, withQueue, type QueueGlobalOptions } from './queue-connection.js';
import { storedJson } from './queue-json.js';
import { payloadText, usage } from './queue-text.js';

interface DeadLettersOptions extends QueueGlobalOptions {
  readonly sequence?: number[];
  readonly all?: boolean;
}

interface Names {
  readonly topic: string;
  readonly subscription: string;
}

async function list(io: Io, options: DeadLettersOptions, names: Names): Promise<void> {
  const output = new Output(io, options);
  const all = await withQueue(io, options, (queue) =>
    allPages(
      (page) => queue.listDeadLetters({ ...names, ...page }),
      (page) => page.deadLetters,
    ),
  );
  const deadLetters = all.filter(({ sequence }) => options.sequence?.includes(sequence) ?? true);
  await output.document({ deadLetters: deadLetters.map(storedJson) });
  const now = io.clock.now();
  await output.table(deadLetters, [
    { heading: 'SEQUENCE', text: ({ sequence }) => String(sequence), right: true },
    { heading: 'PUBLISHED', text: ({ published }) => clockTime(published, now) },
    { heading: 'DIED', text: ({ died }) => clockTime(died, now) },
    { heading: 'ATTEMPTS', text: ({ attempts }) => String(attempts), right: true },
    { heading: 'REASON', text: ({ reason }) => reason },
    { heading: 'PAYLOAD', text: ({ message }) => (message ? payloadText(message.payload) : '') },
  ]);
  if (deadLetters.length === 0) await output.note('No dead letters.');
}

/** Which dead letters a command that changes them is for. @throws invalid when neither some nor all are named */
function chosen(action: string, { sequence = [], all }: DeadLettersOptions): number[] {
  if (sequence.length > 0 !== (all === true)) return sequence;
  throw usage(`say which dead letters to ${action}: --sequence N (may be repeated), or --all`);
}

/** @throws not_found when some that were named are no dead letters; the others are done */
function assertAll(what: string, done: number, sequences: readonly number[], { topic, subscription }: Names): void {
  const named = [...new Set(sequences)];
  if (done >= named.length) return;
  const missing =
    named.length === 1
      ? `${subscription} of ${topic} has no dead letter ${String(named[0])}`
      : `${done} of ${named.length} were ${what}: ${subscription} of ${topic} has no dead letters of the other sequences`;
  throw new MusterError('not_found', `${missing}: "muster dead-letters ${topic} ${subscription}" lists them`, {
    reason: 'UNKNOWN_DEAD_LETTER',
  });
}

async function replay(io: Io, options: DeadLettersOptions, names: Names): Promise<void> {
  const output = new Output(io, options);
  const sequences = chosen('replay', options);
  const { replayed } = await withQueue(io, options, (queue) => queue.replayDeadLetters({ ...names, sequences }));
  assertAll('replayed', replayed, sequences, names);
  await output.document({ ...names, replayed });
  await output.line(
    `${counted(replayed, 'dead letter')} ${replayed === 1 ? 'is' : 'are'} delivered to ${names.subscription} again`,
  );
}

async function purge(io: Io, options: DeadLettersOptions, names: Names): Promise<void> {
  const output = new Output(io, options);
  const sequences = chosen('purge', options);
  const { purged } = await withQueue(io, options, (queue) => queue.purgeDeadLetters({ ...names, sequences }));
  assertAll('purged', purged, sequences, names);
  await output.document({ ...names, purged });
  await output.line(`${counted(purged, 'dead letter')} of ${names.subscription} ${purged === 1 ? 'is' : 'are'} gone`);
}

const ACTIONS = { list, replay, purge } as const;

/** Collects repeated `--sequence N`. */
function sequenceArgument(text: string, before: readonly number[] = []): number[] {
  return [...before, countArgument(text)];
}

export function register(program: Command, io: Io): void {
  addQueueOption(
    program
      .command('dead-letters <topic> <subscription>')
      .description('messages a subscription has given up; replay them, or purge them'),
  )
    .addArgument(new Argument('[action]', 'what to do with them').choices(Object.keys(ACTIONS)).default('list'))
    .option('--sequence <number>', 'only this one; may be repeated', sequenceArgument)
    .option('--all', 'for replay and purge: every one')
    .action((...typed: [string, string, keyof typeof ACTIONS, unknown, Command]) => {
      const [topic, subscription, action, , command] = typed;
      return ACTIONS[action](io, command.optsWithGlobals(), { topic, subscription });
    });
}
