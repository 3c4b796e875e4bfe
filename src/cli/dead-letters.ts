import { Argument, type Command } from 'commander';
import { ListDeadLettersResponse } from '../../generated/muster/v1/queue.js';
import { MusterError } from '../kit/errors.js';
import { countArgument } from './arguments.js';
import type { Io } from './io.js';
import { clockTime, Output } from './output.js';
import { allPages } from './paging.js';
import { addQueueOption, withQueue, type QueueGlobalOptions } from './queue-connection.js';
import { payloadText } from './queue-text.js';

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
  await output.document(ListDeadLettersResponse.toJSON({ deadLetters, nextPageToken: '' }));
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
  throw new MusterError('invalid', `say which dead letters to ${action}: --sequence N (may be repeated), or --all`, {
    reason: 'USAGE',
  });
}

async function replay(io: Io, options: DeadLettersOptions, names: Names): Promise<void> {
  const output = new Output(io, options);
  const sequences = chosen('replay', options);
  const { replayed } = await withQueue(io, options, (queue) => queue.replayDeadLetters({ ...names, sequences }));
  await output.document({ ...names, replayed });
  await output.line(`${replayed} dead letters are delivered to ${names.subscription} again`);
}

async function purge(io: Io, options: DeadLettersOptions, names: Names): Promise<void> {
  const output = new Output(io, options);
  const sequences = chosen('purge', options);
  const { purged } = await withQueue(io, options, (queue) => queue.purgeDeadLetters({ ...names, sequences }));
  await output.document({ ...names, purged });
  await output.line(`${purged} dead letters of ${names.subscription} are gone`);
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
