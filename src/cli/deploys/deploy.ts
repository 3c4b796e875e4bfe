import { Option, type Command } from 'commander';
import { RollBackServiceResponse } from '../../../generated/muster/v1/agent.js';
import type { RollbackScope } from '../../../generated/muster/v1/center.js';
import { withAgent } from '../connection.js';
import { isLocal } from '../context.js';
import { stateText } from '../instances.js';
import type { GlobalOptions, Io } from '../io.js';
import { deployLines } from '../operations/deploy-text.js';
import { addOrderOptions, assertNoFleetOption, orderOverFleet, type OrderOptions } from '../operations/ordering.js';
import { Output } from '../output.js';

/** Deploys and rollbacks. */

const SCOPES = ['target', 'batch', 'all'] as const;

interface DeployOptions extends OrderOptions {
  readonly onFailure: (typeof SCOPES)[number];
}

interface RollbackOptions extends OrderOptions {
  readonly to?: string;
}

function scopeOf({ onFailure }: DeployOptions): RollbackScope {
  return `ROLLBACK_SCOPE_${onFailure.toUpperCase() as Uppercase<typeof onFailure>}`;
}

function deploy(io: Io, options: DeployOptions, service: string, version: string): Promise<void> {
  return orderOverFleet(io, options, {
    action: 'ACTION_DEPLOY',
    service,
    deploy: { version, onFailure: scopeOf(options) },
  });
}

/** A rollback stops, starts and waits for the service's ports; its manifest bounds each, and there is no end to what may be bounded how. */
const LOCAL_DEADLINE_MS = 900_000;

async function rollbackLocally(io: Io, options: GlobalOptions, service: string, version: string): Promise<void> {
  const output = new Output(io, options);
  const answer = await withAgent(io, options, (agent) =>
    agent.rollBackService({ service, version }, { signal: io.signal, timeoutMs: LOCAL_DEADLINE_MS }),
  );
  await output.document(RollBackServiceResponse.toJSON(answer));
  const { instance, report } = answer;
  if (instance !== undefined) {
    const reason = instance.reason === '' ? '' : `: ${instance.reason}`;
    await output.line(`${service} ${instance.version}: ${stateText(instance, io.clock.now())}${reason}`);
  }
  if (report !== undefined) for (const line of deployLines(report)) await output.line(`  ${line}`);
}

async function rollback(io: Io, service: string, command: Command): Promise<void> {
  const options: RollbackOptions = command.optsWithGlobals();
  const version = options.to ?? '';
  if (isLocal(options)) {
    assertNoFleetOption(command);
    await rollbackLocally(io, options, service, version);
    return;
  }
  await orderOverFleet(io, options, {
    action: 'ACTION_ROLLBACK',
    service,
    deploy: { version, onFailure: 'ROLLBACK_SCOPE_UNSPECIFIED' },
  });
}

const DEPLOY_EXAMPLES = `
Examples:
  muster deploy orders 1.4.2 --dry-run
  muster deploy orders 1.4.2 --on role=web --canary 1 --bake 5m --batch 25% --budget 5%
  muster deploy orders 1.4.2 --on machine=web-7 --reason 'the first one'

A machine on which it fails puts back by itself what ran there before. Exit status: 0 when every machine runs the release.`;

const ROLLBACK_EXAMPLES = `
Examples:
  muster rollback orders                      # to the release that was verified before the present one
  muster rollback orders --to 1.4.0 --on role=web
  muster --local rollback orders              # on this machine, without the center`;

export function register(program: Command, io: Io): void {
  addOrderOptions(
    program
      .command('deploy <service> <version>')
      .description('make a release what a service runs from, machine after machine; what fails puts itself back'),
  )
    .addOption(
      new Option('--on-failure <scope>', 'what is put back when it is stopped: only what failed, the last batch, all')
        .choices(SCOPES)
        .default('target'),
    )
    .addHelpText('after', DEPLOY_EXAMPLES)
    .action((service: string, version: string, _options, command: Command) =>
      deploy(io, command.optsWithGlobals(), service, version),
    );
  addOrderOptions(
    program
      .command('rollback <service>')
      .description('put back a release that was verified before, with its modules and its configuration'),
  )
    .option('--to <version>', 'which; default: the one that was verified before the present one')
    .addHelpText('after', ROLLBACK_EXAMPLES)
    .action((service: string, _options, command: Command) => rollback(io, service, command));
}
