import type { Command } from 'commander';
import type { AgentService } from '../../generated/muster/v1/agent.js';
import {
  ListCommandsRequest,
  ListCommandsResponse,
  PlanOperationResponse,
  type StartOperationRequest,
} from '../../generated/muster/v1/center.js';
import { Instance } from '../../generated/muster/v1/types.js';
import { MusterError } from '../kit/errors.js';
import { newId } from '../kit/ids.js';
import type { Action } from '../model/instance.js';
import type { Client } from '../rpc/types.js';
import { toWireAction } from '../wire/instance.js';
import { withAgent, withCenter } from './connection.js';
import { isLocal } from './context.js';
import { stateText } from './instances.js';
import type { GlobalOptions, Io } from './io.js';
import { addStrategyOptions, fleetOption, strategyOf, type StrategyOptions } from './operations/options.js';
import { runOperation } from './operations/running.js';
import { outcomeText, stateOf, strategyText, titleOf } from './operations/text.js';
import { clockTime, enumWord, Output } from './output.js';
import { counted } from './queue-text.js';

interface ActionOptions extends StrategyOptions {
  readonly wait?: boolean;
  readonly dryRun?: boolean;
  readonly detach?: boolean;
}

function callLocal(agent: Client<typeof AgentService>, action: Action, service: string, io: Io): Promise<Instance> {
  const options = { signal: io.signal, timeoutMs: LOCAL_DEADLINE_MS };
  switch (action) {
    case 'START':
      return agent.startService({ service }, options);
    case 'STOP':
      return agent.stopService({ service }, options);
    case 'RESTART':
      return agent.restartService({ service }, options);
  }
}

/** A stop may take its grace time, a start its settle time with retries; the agent bounds both. */
const LOCAL_DEADLINE_MS = 300_000;

async function runLocal(io: Io, options: ActionOptions, action: Action, service: string): Promise<void> {
  const output = new Output(io, options);
  const instance = await withAgent(io, options, (agent) => callLocal(agent, action, service, io));
  await output.document(Instance.toJSON(instance));
  await output.line(
    `${service}: ${stateText(instance, io.clock.now())}${instance.pid > 0 ? ` pid ${instance.pid}` : ''}${instance.reason === '' ? '' : `: ${instance.reason}`}`,
  );
}

function requestOf(options: ActionOptions, action: Action, service: string): StartOperationRequest {
  return {
    action: toWireAction(action),
    service,
    selector: options.on ?? '',
    strategy: strategyOf(options),
    reason: options.reason ?? '',
    requestId: newId('r'),
    wait: options.wait === true,
    deploy: undefined,
    backup: undefined,
  };
}

async function plan(io: Io, options: ActionOptions, request: StartOperationRequest): Promise<void> {
  const output = new Output(io, options);
  const planned = await withCenter(io, options, (center) => center.planOperation(request));
  await output.document(PlanOperationResponse.toJSON(planned));
  const { targets, strategy, holder } = planned;
  const turns = new Map(targets.map((target, index) => [target, String(index + 1)]));
  await output.table(targets, [
    { heading: 'TURN', text: (target) => turns.get(target) ?? '', right: true },
    { heading: 'MACHINE', text: (target) => target.machineName },
    { heading: 'WHY', text: (target) => target.why },
    { heading: 'STATUS', text: (target) => (target.online ? 'online' : 'offline') },
    {
      heading: 'STATE',
      text: ({ state }) => (state === 'SERVICE_STATE_UNSPECIFIED' ? '' : enumWord('SERVICE_STATE', state)),
    },
    { heading: 'CANARY', text: (target) => (target.canary ? 'canary' : '') },
    { heading: 'PROBLEM', text: (target) => target.problem },
  ]);
  const offline = targets.filter(({ online }) => !online).length;
  const problems = targets.filter(({ problem }) => problem !== '').length;
  await output.line(
    `${titleOf(request)}: ${counted(targets.length, 'target')}${offline > 0 ? `, ${offline} not connected` : ''}${problems > 0 ? `, ${problems} that would not run` : ''}; ${strategyText(strategy)}`,
  );
  if (holder !== undefined) {
    await output.line(
      `now it would be refused: ${holder.id} (${titleOf(holder)}, ${stateOf(holder)}, by ${holder.createdBy}) is under way; with --wait it goes behind that`,
    );
  }
  await output.note('Nothing was ordered.');
}

async function runAtCenter(io: Io, options: ActionOptions, action: Action, service: string): Promise<void> {
  const request = requestOf(options, action, service);
  if (options.dryRun === true) {
    await plan(io, options, request);
    return;
  }
  await withCenter(io, options, (center) =>
    runOperation(io, new Output(io, options), center, {
      order: () => center.startOperation(request, { signal: io.signal }),
      detach: options.detach === true,
    }),
  );
}

/** Longest message shown in a listing, in characters. */
const MESSAGE_SHOWN_MAX = 100;

function firstLine(message: string): string {
  const line = message.split('\n')[0] ?? '';
  return line.length > MESSAGE_SHOWN_MAX ? `${line.slice(0, MESSAGE_SHOWN_MAX - 1)}…` : line;
}

/** Commands in one listing, the newest. */
const COMMANDS_SHOWN = 50;

async function listCommands(io: Io, options: GlobalOptions): Promise<void> {
  const output = new Output(io, options);
  const answer = await withCenter(io, options, (center) =>
    center.listCommands(ListCommandsRequest.fromPartial({ pageSize: COMMANDS_SHOWN })),
  );
  await output.document(ListCommandsResponse.toJSON(answer));
  const now = io.clock.now();
  await output.table(answer.commands, [
    { heading: 'ID', text: (command) => command.id },
    { heading: 'ACTION', text: (command) => enumWord('ACTION', command.action).toLowerCase() },
    { heading: 'SERVICE', text: (command) => command.service },
    { heading: 'MACHINE', text: (command) => command.machineName },
    { heading: 'OUTCOME', text: (command) => outcomeText(command, now) },
    { heading: 'AT', text: (command) => clockTime(command.created, now) },
    { heading: 'BY', text: (command) => command.createdBy },
    { heading: 'MESSAGE', text: (command) => firstLine(command.message) },
  ]);
}

const DESCRIPTIONS: Readonly<Record<Action, string>> = {
  START: 'start a service and want it running from now on',
  STOP: 'stop a service and want it stopped from now on',
  RESTART: 'stop and start a service',
};

function run(io: Io, action: Action, service: string, command: Command): Promise<void> {
  const options: ActionOptions = command.optsWithGlobals();
  if (!isLocal(options)) return runAtCenter(io, options, action, service);
  const wrong = fleetOption(command);
  if (wrong === undefined) return runLocal(io, options, action, service);
  throw new MusterError('invalid', `${wrong} is for the center: with --local there is this machine alone`, {
    reason: 'USAGE',
  });
}

export function register(program: Command, io: Io): void {
  for (const action of ['START', 'STOP', 'RESTART'] as const) {
    addStrategyOptions(program.command(`${action.toLowerCase()} <service>`).description(DESCRIPTIONS[action]))
      .option('--wait', 'go behind operations on the service that are under way, instead of being refused')
      .option('--dry-run', 'show the targets and why each is one, and do nothing')
      .option('--detach', 'do not wait for the end: print the id and leave')
      .action((service: string, _options, command: Command) => run(io, action, service, command));
  }
  program
    .command('commands')
    .description('the last commands and how each ended')
    .action((_options, command: Command) => listCommands(io, command.optsWithGlobals()));
}
