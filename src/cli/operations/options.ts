import { InvalidArgumentError, Option, type Command } from 'commander';
import { Strategy } from '../../../generated/muster/v1/center.js';
import { toDuration } from '../../wire/time.js';
import { countArgument, durationArgument, selectorArgument } from '../arguments.js';
import type { GlobalOptions } from '../io.js';

/** How an operation goes over its targets, as it is typed. Durations are in milliseconds; what is left out is the center's to decide. */
export interface StrategyOptions extends GlobalOptions {
  readonly on?: string;
  readonly batch?: string;
  readonly canary?: number;
  readonly bake?: number;
  readonly budget?: string;
  readonly unreachableBudget?: string;
  readonly order?: string;
  readonly targetTimeout?: number;
  readonly timeout?: number;
  readonly queueFor?: number;
  /** The older name of queueFor. */
  readonly expiresIn?: number;
  readonly reason?: string;
}

/** `3` or `25%`. */
export function amountArgument(text: string): string {
  const found = /^(\d+)(%?)$/.exec(text);
  const inRange = found !== null && (found[2] === '' || Number(found[1]) <= 100);
  if (!inRange) throw new InvalidArgumentError('expected a count or a share, for example 3 or 25%');
  return text;
}

/** As amountArgument, and not nothing. */
export function batchArgument(text: string): string {
  if (/^0+%?$/.test(text)) throw new InvalidArgumentError('expected 1 or more, or a share such as 25%');
  return amountArgument(text);
}

export function orderArgument(text: string): string {
  if (!/^(?:name|random|label:.+)$/.test(text)) {
    throw new InvalidArgumentError('expected name, random, or label:KEY, for example label:zone');
  }
  return text;
}

export function strategyOf(options: StrategyOptions): Strategy {
  const duration = (ms: number | undefined) => (ms === undefined ? undefined : toDuration(ms));
  return Strategy.fromPartial({
    batch: options.batch ?? '',
    canary: options.canary ?? 0,
    bake: duration(options.bake),
    budget: options.budget ?? '',
    unreachableBudget: options.unreachableBudget ?? '',
    order: options.order ?? '',
    targetTimeout: duration(options.targetTimeout),
    timeout: duration(options.timeout),
    queueFor: duration(options.queueFor ?? options.expiresIn),
  });
}

/** The options that make no sense where there is one machine and no center between. */
const FLEET_OPTIONS = [
  'on',
  'batch',
  'canary',
  'bake',
  'budget',
  'unreachableBudget',
  'order',
  'targetTimeout',
  'timeout',
  'queueFor',
  'expiresIn',
  'wait',
  'dryRun',
  'detach',
] as const;

/** The first option that was typed and is for the center alone, as it is written; undefined: none was. */
export function fleetOption(command: Command): string | undefined {
  const typed = FLEET_OPTIONS.find((name) => command.getOptionValueSource(name) === 'cli');
  return command.options.find((option) => option.attributeName() === typed)?.long ?? undefined;
}

/** Adds the options of StrategyOptions to a command. */
export function addStrategyOptions(command: Command): Command {
  return command
    .option(
      '--on <selector>',
      'only on machines that match; default: every machine that has the service',
      selectorArgument,
    )
    .option('--batch <amount>', 'so many at once, or a share: 3, 25% (default 10)', batchArgument)
    .option('--canary <count>', 'so many go first, and the others wait until all of them succeeded', countArgument)
    .option('--bake <duration>', 'the canaries are looked at for so long before the others', durationArgument)
    .option('--budget <amount>', 'failed targets it bears; one more ends it (default 0)', amountArgument)
    .option('--unreachable-budget <amount>', 'targets out of reach it bears (default 100%)', amountArgument)
    .option('--order <order>', 'name (default), random, or label:KEY, for example zone after zone', orderArgument)
    .option(
      '--target-timeout <duration>',
      'a target that takes longer is given up (default 10m; deploys and rollbacks 30m, backups and restores 6h)',
      durationArgument,
    )
    .option('--timeout <duration>', 'then no more targets are ordered (default 1d)', durationArgument)
    .option(
      '--queue-for <duration>',
      'how long a target waits for a machine that is not connected (default 1m)',
      durationArgument,
    )
    .addOption(
      new Option('--expires-in <duration>', 'the older name of --queue-for').argParser(durationArgument).hideHelp(),
    )
    .option('--reason <text>', 'why, for the record');
}
