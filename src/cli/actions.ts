import type { Command } from 'commander';
import type { AgentService } from '../../generated/muster/v1/agent.js';
import { ListCommandsRequest, ListCommandsResponse } from '../../generated/muster/v1/center.js';
import { Instance } from '../../generated/muster/v1/types.js';
import type { Action } from '../model/instance.js';
import type { Client } from '../rpc/types.js';
import { toWireAction } from '../wire/instance.js';
import { withAgent, withCenter } from './connection.js';
import { isLocal } from './context.js';
import { stateText } from './instances.js';
import type { GlobalOptions, Io } from './io.js';
import { addOrderOptions, assertNoFleetOption, orderOverFleet, type OrderOptions } from './operations/ordering.js';
import { outcomeText } from './operations/text.js';
import { clockTime, enumWord, Output } from './output.js';

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

async function runLocal(io: Io, options: OrderOptions, action: Action, service: string): Promise<void> {
  const output = new Output(io, options);
  const instance = await withAgent(io, options, (agent) => callLocal(agent, action, service, io));
  await output.document(Instance.toJSON(instance));
  await output.line(
    `${service}: ${stateText(instance, io.clock.now())}${instance.pid > 0 ? ` pid ${instance.pid}` : ''}${instance.reason === '' ? '' : `: ${instance.reason}`}`,
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

async function run(io: Io, action: Action, service: string, command: Command): Promise<void> {
  const options: OrderOptions = command.optsWithGlobals();
  if (!isLocal(options)) {
    await orderOverFleet(io, options, { action: toWireAction(action), service });
    return;
  }
  assertNoFleetOption(command);
  await runLocal(io, options, action, service);
}

export function register(program: Command, io: Io): void {
  for (const action of ['START', 'STOP', 'RESTART'] as const) {
    addOrderOptions(program.command(`${action.toLowerCase()} <service>`).description(DESCRIPTIONS[action])).action(
      (service: string, _options, command: Command) => run(io, action, service, command),
    );
  }
  program
    .command('commands')
    .description('the last commands and how each ended')
    .action((_options, command: Command) => listCommands(io, command.optsWithGlobals()));
}
