import { Option, type Command } from 'commander';
import { createLogger, type Logger, type LogLevel } from '../kit/logger.js';
import type { Io } from './io.js';

/** What the server commands share: their logger, and ending with the process that started them. */

export interface ServingOptions {
  readonly logLevel: LogLevel;
  readonly exitWithParent?: boolean;
}

export function addServingOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--log-level <level>', 'how much to say').choices(['debug', 'info', 'warn', 'error']).default('info'),
    )
    .addOption(new Option('--exit-with-parent', 'stop when standard input ends').hideHelp());
}

export function servingLogger(options: ServingOptions): Logger {
  return createLogger(options.logLevel);
}

/**
 * Runs a server until the command's signal aborts, and with --exit-with-parent also when standard input ends: that pipe closes however the parent
 * dies. Lets go of standard input at the end, which would keep the process alive.
 */
export async function serving(
  io: Io,
  options: ServingOptions,
  serve: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  if (options.exitWithParent !== true) return serve(io.signal);
  const controller = new AbortController();
  const end = (): void => {
    controller.abort(new Error('the parent process is gone'));
  };
  io.stdin.on('end', end).on('close', end).on('error', end).resume();
  try {
    await serve(AbortSignal.any([io.signal, controller.signal]));
  } finally {
    io.stdin.destroy();
  }
}
