import type { Command } from 'commander';
import { ListQueuesResponse } from '../../generated/muster/v1/center.js';
import { withCenter } from './connection.js';
import type { GlobalOptions, Io } from './io.js';
import { ago, clockTime, Output } from './output.js';

async function list(io: Io, options: GlobalOptions): Promise<void> {
  const output = new Output(io, options);
  const answer = await withCenter(io, options, (center) => center.listQueues({}));
  await output.document(ListQueuesResponse.toJSON(answer));
  const now = io.clock.now();
  await output.table(answer.queues, [
    { heading: 'QUEUE', text: (queue) => queue.name },
    { heading: 'ADDRESS', text: (queue) => queue.address || 'not told yet' },
    { heading: 'LAST SEEN', text: (queue) => (queue.lastSeen ? `${ago(queue.lastSeen, now)} ago` : 'never') },
    { heading: 'JOINED', text: (queue) => clockTime(queue.joined, now) },
  ]);
  if (answer.queues.length === 0) {
    await output.note('No queues yet: "muster token create --queue" prints the line to paste where one shall run.');
  }
}

async function remove(io: Io, options: GlobalOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  await withCenter(io, options, (center) => center.removeQueue({ queue: name }));
  await output.document({ queue: name, removed: true });
  await output.line(
    `${name} is forgotten and its certificate refused here. Services that are connected to it go on until that ends, within a day: stop the queue where it should end at once.`,
  );
}

export function register(program: Command, io: Io): void {
  const queues = program
    .command('queues')
    .description('the queues of the site')
    .action((_options, command: Command) => list(io, command.optsWithGlobals()));
  queues
    .command('rm <name>')
    .description('forget a queue and refuse its certificate')
    .action((name: string, _options, command: Command) => remove(io, command.optsWithGlobals(), name));
}
