import { isCode, messageOf, unreachable } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { COMMAND_OUTPUT_BYTES_MAX, NO_RESULT, type CommandResult } from '../../model/command-result.js';
import type { Action, InstanceReport, Outcome } from '../../model/instance.js';
import type { ServiceControl } from '../ports.js';

/** How a command ended. */
export interface CommandEnd {
  readonly outcome: Outcome;
  readonly message: string;
  readonly result: CommandResult;
}

export type LifecycleControl = Pick<ServiceControl, 'start' | 'stop' | 'restart' | 'get' | 'lastOutput'>;

/** Starts, stops and restarts services as commands, and says what became of them. */
export class Lifecycle {
  readonly #control: LifecycleControl;
  readonly #logger: Logger;

  constructor(control: LifecycleControl, logger: Logger) {
    this.#control = control;
    this.#logger = logger;
  }

  /** Never throws. */
  async run(action: Action, service: string): Promise<CommandEnd> {
    try {
      const report = await this.#call(action, service);
      return { outcome: 'SUCCEEDED', message: describe(report), result: { instance: summaryOf(report) } };
    } catch (error) {
      if (!isCode(error)) this.#logger.error('a command failed in an unexpected way', { action, service, error });
      return { outcome: 'FAILED', message: messageOf(error), result: await this.#failure(action, service) };
    }
  }

  #call(action: Action, service: string): Promise<InstanceReport> {
    switch (action) {
      case 'START':
        return this.#control.start(service);
      case 'STOP':
        return this.#control.stop(service);
      case 'RESTART':
        return this.#control.restart(service);
      default:
        return unreachable(action);
    }
  }

  /** What it printed matters where it was to run: one that will not end says nothing about that. */
  async #failure(action: Action, service: string): Promise<CommandResult> {
    try {
      const report = this.#control.get(service);
      const instance = summaryOf(report);
      if (action === 'STOP') return { instance };
      const output = endOf((await this.#control.lastOutput(service)).join('\n'));
      return {
        instance,
        ...(report.exitCode === undefined ? {} : { exitCode: report.exitCode }),
        ...(output === '' ? {} : { output }),
      };
    } catch {
      // There is no such service, or none any more.
      return NO_RESULT;
    }
  }
}

function summaryOf({ state, pid, version, health }: InstanceReport): NonNullable<CommandResult['instance']> {
  return { state, pid, version, health };
}

function describe({ state, pid, reason }: InstanceReport): string {
  return `${state}${pid > 0 ? `, pid ${pid}` : ''}${reason === '' ? '' : `: ${reason}`}`;
}

/** The last bytes of a text, no character cut in two. */
function endOf(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= COMMAND_OUTPUT_BYTES_MAX) return text;
  let from = bytes.length - COMMAND_OUTPUT_BYTES_MAX;
  while (((bytes[from] ?? 0) & 0xc0) === 0x80) from += 1;
  return bytes.subarray(from).toString('utf8');
}
