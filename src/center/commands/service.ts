import type { CenterService, Command } from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../kit/errors.js';
import { describePrincipal } from '../../rpc/principal.js';
import type { Handlers } from '../../rpc/types.js';
import { fromWireAction } from '../../wire/instance.js';
import { fromDuration } from '../../wire/time.js';
import type { Instances } from '../fleet/instances.js';
import type { Machines } from '../fleet/machines.js';
import { pageOf } from '../../model/paging.js';
import { isSettled } from './command.js';
import type { Commands } from './commands.js';
import { toWireCommand } from './wire.js';

export type CommandHandlers = Pick<
  Handlers<typeof CenterService>,
  'runCommand' | 'getCommand' | 'listCommands' | 'watchCommand' | 'cancelCommand'
>;

export interface CommandParts {
  readonly commands: Commands;
  readonly machines: Machines;
  readonly instances: Instances;
  /** Whether the machine shall have the service, though it has not told of it yet. */
  readonly isAssigned: (machine: string, service: string) => boolean;
}

/** Digits of a command's number in a page token, so that text order is number order. */
const NUMBER_DIGITS = 16;
const WORDS_MAX = 1000;

/** Commands: run, look, follow, cancel. */
export function commandHandlers({ commands, machines, instances, isAssigned }: CommandParts): CommandHandlers {
  return {
    runCommand: async (request, { principal }) => {
      const action = fromWireAction(request.action);
      if (!action) {
        throw new MusterError('invalid', 'action must be ACTION_START, ACTION_STOP or ACTION_RESTART', {
          reason: 'ACTION',
        });
      }
      const machine = machines.require(request.machine);
      const { id, name } = machine.record;
      if (!isAssigned(id, request.service)) instances.require(machine, request.service);
      const command = await commands.run({
        machine: { id, name },
        service: request.service,
        action,
        expiresInMs: fromDuration(request.expiresIn),
        requestId: request.requestId,
        by: describePrincipal(principal),
        reason: request.reason.slice(0, WORDS_MAX),
      });
      return toWireCommand(command);
    },
    getCommand: (request) => Promise.resolve(toWireCommand(commands.require(request.id))),
    listCommands: (request) => {
      const machine = request.machine === '' ? undefined : machines.require(request.machine).record.id;
      const wanted = commands
        .list()
        .filter((one) => machine === undefined || one.machine === machine)
        .filter((one) => request.service === '' || one.service === request.service);
      const page = pageOf(
        wanted,
        { size: request.pageSize, token: request.pageToken },
        { keyOf: (one) => String(one.number).padStart(NUMBER_DIGITS, '0'), reverse: true },
      );
      return Promise.resolve({ commands: page.items.map(toWireCommand), nextPageToken: page.nextToken });
    },
    watchCommand: async function* (request, { signal }): AsyncGenerator<Command> {
      const changed = commands.changes.watch(signal);
      try {
        let told = commands.require(request.id);
        yield toWireCommand(told);
        if (isSettled(told)) return;
        for await (const ids of changed) {
          if (ids.length > 0 && !ids.includes(request.id)) continue;
          told = commands.require(request.id);
          yield toWireCommand(told);
          if (isSettled(told)) return;
        }
      } finally {
        await changed.return?.();
      }
    },
    cancelCommand: async (request, { principal }) =>
      toWireCommand(await commands.cancel(request.id, describePrincipal(principal))),
  };
}
