import type { Command } from 'commander';
import { hostname } from 'node:os';
import { defaultDataDirectory, PORTS } from '../model/places.js';
import { sizeArgument } from './arguments.js';
import type { Io } from './io.js';
import { Output } from './output.js';
import { addServingOptions, serving, servingLogger, type ServingOptions } from './serving.js';

interface QueueOptions extends ServingOptions {
  readonly data?: string;
  readonly listen: string;
  readonly socket?: string;
  readonly advertise?: string;
  readonly center?: string;
  readonly autoCreateTopics?: boolean;
  readonly freeSpaceFloor?: number;
  readonly writeBuffer?: number;
  readonly json?: boolean;
}

interface JoinOptions extends QueueOptions {
  readonly token: string;
  readonly name?: string;
  readonly run?: boolean;
}

function dataOf(io: Io, options: QueueOptions): string {
  return options.data ?? defaultDataDirectory('queue', io.places);
}

function diskOf({ freeSpaceFloor, writeBuffer }: QueueOptions): {
  freeSpaceFloorBytes?: number;
  writeBufferBytes?: number;
} {
  return {
    ...(freeSpaceFloor === undefined ? {} : { freeSpaceFloorBytes: freeSpaceFloor }),
    ...(writeBuffer === undefined ? {} : { writeBufferBytes: writeBuffer }),
  };
}

async function serve(io: Io, options: QueueOptions): Promise<void> {
  const { runQueue } = await import('../queue/main.js');
  const output = new Output(io, options);
  const data = dataOf(io, options);
  await serving(io, options, (signal) =>
    runQueue({
      data,
      listen: options.listen,
      ...(options.socket === undefined ? {} : { socket: options.socket }),
      ...(options.advertise === undefined ? {} : { advertise: options.advertise }),
      ...(options.center === undefined ? {} : { center: options.center }),
      autoCreateTopics: options.autoCreateTopics === true,
      disk: diskOf(options),
      logger: servingLogger(options),
      signal,
      onReady: async (ready) => {
        await output.document(ready);
        await output.line(
          ready.name === ''
            ? 'queue has not joined a center: only its socket is served, and "muster queue join CENTER --token TOKEN" joins'
            : `queue ${ready.name} of site ${ready.site} listens on ${ready.address}; its data is in ${data}`,
        );
        await output.line(`operators on this machine: muster topics --queue unix:${ready.socket}`);
      },
    }),
  );
}

async function join(io: Io, options: JoinOptions, center: string): Promise<void> {
  const { joinQueue } = await import('../queue/main.js');
  const output = new Output(io, options);
  const data = dataOf(io, options);
  const name = options.name ?? hostname().split('.')[0]?.toLowerCase() ?? '';
  const told = options.advertise === undefined ? {} : { advertise: options.advertise };
  const joined = await joinQueue({ data, center, token: options.token, name, ...told });
  await output.document({ queue: joined.name, site: joined.site, center });
  await output.line(`joined site ${joined.site} as queue ${joined.name}`);
  if (options.run === true) await serve(io, options);
  else await output.line(`run it with: muster queue${options.data === undefined ? '' : ` --data ${data}`}`);
}

function addQueueOptions(command: Command): Command {
  return addServingOptions(command)
    .option('--data <directory>', 'where it keeps its messages')
    .option('--listen <address>', 'for services and operators', `0.0.0.0:${PORTS.queueGrpc}`)
    .option('--advertise <address>', 'the address services are told; default: this host and port')
    .option('--auto-create-topics', 'make a topic when something is first published to it')
    .option('--free-space-floor <size>', 'refuse messages while the disk has less free; default: 128MiB', sizeArgument)
    .option(
      '--write-buffer <size>',
      'what the log gathers in memory before it writes a table; default: 16MiB',
      sizeArgument,
    );
}

export function register(program: Command, io: Io): void {
  const queue = addQueueOptions(program.command('queue').description('run a queue'))
    .option('--center <address>', 'the center, if it moved since the queue joined')
    .action((_options, command: Command) => serve(io, command.optsWithGlobals()));
  addQueueOptions(queue.command('join <center>').description('make this queue part of a site'))
    .requiredOption('--token <token>', 'from "muster token create --queue"')
    .option('--name <name>', "the queue's name; default: its host name")
    .option('--run', 'then run the queue')
    .action((center: string, _options, command: Command) => join(io, command.optsWithGlobals(), center));
}
