import type { Command } from 'commander';
import type { AgentService } from '../../generated/muster/v1/agent.js';
import {
  Command as WireCommand,
  ListCommandsRequest,
  ListCommandsResponse,
  type CenterService,
} from '../../generated/muster/v1/center.js';
import { Instance } from '../../generated/muster/v1/types.js';
import { newId } from '../kit/ids.js';
import { mapBounded } from '../kit/tasks.js';
import type { Action } from '../model/instance.js';
import type { Client } from '../rpc/types.js';
import { toWireAction } from '../wire/instance.js';
import { toDuration } from '../wire/time.js';
import { durationArgument } from './arguments.js';
import { orderAndFollow, type Followed } from './command-following.js';
import { withAgent, withCenter } from './connection.js';
import { isLocal } from './context.js';
import { findInstances, stateText } from './instances.js';
import { Failed, type GlobalOptions, type Io } from './io.js';
import { clockTime, enumWord, Output } from './output.js';

interface ActionOptions extends GlobalOptions {
  readonly on?: string;
  readonly reason?: string;
  readonly expiresIn?: number;
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

/** Commands one call of this program has under way at once. */
const AT_ONCE_MAX = 16;

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

function outcomeText(command: WireCommand, nowMs: number): string {
  const word = enumWord('OUTCOME', command.outcome);
  return command.unknownSince === undefined ? word : `${word} since ${clockTime(command.unknownSince, nowMs)}`;
}

/** Says at once what would otherwise show only when the order expires. */
async function noteAbsent(io: Io, output: Output, instances: readonly Instance[]): Promise<void> {
  for (const { machineName, unknownSince } of instances) {
    if (unknownSince === undefined) continue;
    await output.note(
      `${machineName} is not connected since ${clockTime(unknownSince, io.clock.now())}: the order waits for it until it expires (Ctrl-C leaves it waiting)`,
    );
  }
}

/** Orders one instance's command and says how it ended. True: it succeeded. */
async function actOn(
  io: Io,
  output: Output,
  center: Client<typeof CenterService>,
  order: { readonly instance: Instance; readonly action: Action; readonly options: ActionOptions },
): Promise<boolean> {
  const { instance, action, options } = order;
  const { machine, machineName, service } = instance;
  const followed = await orderAndFollow(io, center, {
    machine,
    service,
    action: toWireAction(action),
    expiresIn: options.expiresIn === undefined ? undefined : toDuration(options.expiresIn),
    requestId: newId('r'),
    reason: options.reason ?? '',
  });
  await output.line(`${machineName}  ${service}  ${followedText(followed, io.clock.now())}`);
  await output.document(
    'command' in followed
      ? { ...(WireCommand.toJSON(followed.command) as object), contactLost: followed.kind === 'lost' }
      : { machineName, service, ordered: followed.kind === 'refused' ? false : null, error: followed.why },
  );
  return followed.kind === 'known' && followed.command.outcome === 'OUTCOME_SUCCEEDED';
}

function followedText(followed: Followed, nowMs: number): string {
  switch (followed.kind) {
    case 'known': {
      const { message } = followed.command;
      return `${outcomeText(followed.command, nowMs)}${message === '' ? '' : `  ${message}`}`;
    }
    case 'lost':
      return `ordered as ${followed.command.id}, and then the center could not be reached any more: "muster commands" shows how it ends`;
    case 'unclear':
      return `not known whether it was ordered (${followed.why}): "muster commands" shows it`;
    case 'refused':
      return `not ordered: ${followed.why}`;
  }
}

async function runAtCenter(io: Io, options: ActionOptions, action: Action, service: string): Promise<void> {
  const output = new Output(io, options);
  const ended = await withCenter(io, options, async (center) => {
    const instances = await findInstances(center, service, options.on);
    await noteAbsent(io, output, instances);
    return mapBounded(instances, AT_ONCE_MAX, (instance) => actOn(io, output, center, { instance, action, options }));
  });
  if (ended.includes(false)) throw new Failed();
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

export function register(program: Command, io: Io): void {
  for (const action of ['START', 'STOP', 'RESTART'] as const) {
    program
      .command(`${action.toLowerCase()} <service>`)
      .description(DESCRIPTIONS[action])
      .option('--on <selector>', 'only on machines that match; default: every machine that has the service')
      .option('--reason <text>', 'why, for the record')
      .option('--expires-in <duration>', 'not started by then, it never will be (default 1m)', durationArgument)
      .action((service: string, _options, command: Command) => {
        const options: ActionOptions = command.optsWithGlobals();
        return isLocal(options) ? runLocal(io, options, action, service) : runAtCenter(io, options, action, service);
      });
  }
  program
    .command('commands')
    .description('the last commands and how each ended')
    .action((_options, command: Command) => listCommands(io, command.optsWithGlobals()));
}
