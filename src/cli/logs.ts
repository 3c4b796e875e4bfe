import type { Command } from 'commander';
import { LogLine } from '../../generated/muster/v1/types.js';
import { MusterError } from '../kit/errors.js';
import { countArgument } from './arguments.js';
import { withAgent, withCenter } from './connection.js';
import { isLocal } from './context.js';
import { findInstances } from './instances.js';
import { inertLine } from './inert.js';
import type { GlobalOptions, Io } from './io.js';
import { registerGrep } from './logs-grep.js';
import { Output } from './output.js';

interface TailOptions extends GlobalOptions {
  readonly on?: string;
  readonly lines: number;
  readonly follow?: boolean;
}

async function print(output: Output, lines: AsyncIterable<LogLine>): Promise<void> {
  for await (const line of lines) {
    await output.document(LogLine.toJSON(line));
    if (line.notice) await output.note(`muster: ${inertLine(line.text)}`);
    else await output.line(inertLine(line.text));
  }
}

async function tail(io: Io, options: TailOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const request = { service, lines: options.lines, follow: options.follow === true, file: '', position: '' };
  if (isLocal(options)) {
    await withAgent(io, options, (agent) => print(output, agent.tailLocalLog(request, { signal: io.signal })));
    return;
  }
  await withCenter(io, options, async (center) => {
    const [instance, ...others] = await findInstances(center, service, options.on);
    if (instance === undefined || others.length > 0) {
      const names = [instance, ...others].map((one) => one?.machineName ?? '').slice(0, 10);
      throw new MusterError(
        'invalid',
        `"${service}" is on ${names.length} machines: name one with --on machine=NAME (${names.join(', ')})`,
        { reason: 'USAGE' },
      );
    }
    await print(
      output,
      center.tailLog({ ...request, machine: instance.machine, selector: '', positions: {} }, { signal: io.signal }),
    );
  });
}

export function register(program: Command, io: Io): void {
  const logs = program.command('logs').description("services' logs");
  logs
    .command('tail <service>')
    .description('the last lines of a log')
    .option('-n, --lines <count>', 'how many lines', countArgument, 10)
    .option('-f, --follow', 'go on with each new line')
    .option('--on <selector>', 'the machine, for example machine=web-1, where the service is on several')
    .action((service: string, _options, command: Command) => tail(io, command.optsWithGlobals(), service));
  registerGrep(logs, io);
}
