import type { Command } from 'commander';
import { StartOperationRequest } from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import { withCenter } from '../connection.js';
import type { Io } from '../io.js';
import { Output } from '../output.js';
import { addStrategyOptions, fleetOption, strategyOf, type StrategyOptions } from './options.js';
import { showPlan } from './plan.js';
import { runOperation } from './running.js';

/** What every command that acts on many machines takes, and how it orders that. */

export interface OrderOptions extends StrategyOptions {
  readonly wait?: boolean;
  readonly dryRun?: boolean;
  readonly detach?: boolean;
}

/** Adds the options of OrderOptions to a command. */
export function addOrderOptions(command: Command): Command {
  return addStrategyOptions(command)
    .option('--wait', 'go behind operations on the service that are under way, instead of being refused')
    .option('--dry-run', 'show the targets and why each is one, and do nothing')
    .option('--detach', 'do not wait for the end: print the id and leave');
}

/** What is ordered, beside how and where. */
export type Ordered = Pick<StartOperationRequest, 'action' | 'service'> &
  Partial<Pick<StartOperationRequest, 'deploy' | 'backup' | 'selector'>>;

/**
 * Orders an operation as the options say and follows it; with --dry-run shows what it would do.
 * @throws the center's refusal; Failed when it did not succeed, or it is not known whether it was ordered
 */
export async function orderOverFleet(io: Io, options: OrderOptions, ordered: Ordered): Promise<void> {
  const request = StartOperationRequest.fromPartial({
    selector: options.on ?? '',
    strategy: strategyOf(options),
    reason: options.reason ?? '',
    requestId: newId('r'),
    wait: options.wait === true,
    ...ordered,
  });
  if (options.dryRun === true) {
    await showPlan(io, options, request);
    return;
  }
  await withCenter(io, options, (center) =>
    runOperation(io, new Output(io, options), center, {
      order: () => center.startOperation(request, { signal: io.signal }),
      detach: options.detach === true,
    }),
  );
}

/** @throws invalid (wrong usage) when an option was typed that is for the center alone */
export function assertNoFleetOption(command: Command): void {
  const wrong = fleetOption(command);
  if (wrong === undefined) return;
  throw new MusterError('invalid', `${wrong} is for the center: with --local there is this machine alone`, {
    reason: 'USAGE',
  });
}
