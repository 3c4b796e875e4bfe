import type { Command } from 'commander';
import { defaultDataDirectory } from '../model/places.js';
import { runDev } from './dev/session.js';
import type { GlobalOptions, Io } from './io.js';

interface DevOptions extends GlobalOptions {
  readonly data?: string;
}

export function register(program: Command, io: Io): void {
  program
    .command('dev')
    .description(
      'a center, a queue, an agent and a sample service on this machine, in one terminal; Ctrl-C ends them all',
    )
    .option('--data <directory>', 'where everything is kept; a second start finds it again')
    .action((_options, command: Command) => {
      const options: DevOptions = command.optsWithGlobals();
      return runDev(io, { data: options.data ?? defaultDataDirectory('dev', io.places), json: options.json === true });
    });
}
