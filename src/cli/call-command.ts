import type { Command } from 'commander';
import { MusterError } from '../kit/errors.js';
import type { Channel } from '../rpc/client.js';
import { durationArgument } from './arguments.js';
import { runCall, type CallRequest } from './call.js';
import { withTargetChannel } from './connection.js';
import { agentTarget, centerTarget, isLocal } from './context.js';
import type { Io } from './io.js';
import { addQueueOption, withQueueChannel, type QueueGlobalOptions } from './queue-connection.js';

interface CallOptions extends QueueGlobalOptions {
  readonly list?: boolean | string;
  readonly describe?: string;
  readonly timeout?: number;
}

function requestOf(options: CallOptions, method: string | undefined, json: string | undefined): CallRequest {
  if (options.list !== undefined) {
    return { kind: 'list', service: typeof options.list === 'string' ? options.list : undefined };
  }
  if (options.describe !== undefined) return { kind: 'describe', name: options.describe };
  if (method === undefined) {
    throw new MusterError(
      'invalid',
      'name a method, for example muster.v1.Center/ListMachines; --list shows them all',
      {
        reason: 'USAGE',
      },
    );
  }
  return { kind: 'call', method, json };
}

async function call(
  io: Io,
  options: CallOptions,
  words: { readonly method: string | undefined; readonly json: string | undefined },
): Promise<void> {
  const request = requestOf(options, words.method, words.json);
  const run = (channel: Channel): Promise<void> =>
    runCall(
      {
        channel,
        stdin: io.stdin,
        stdout: io.stdout,
        signal: io.signal,
        compact: options.json === true,
        ...(options.timeout === undefined ? {} : { timeoutMs: options.timeout }),
      },
      request,
    );
  if (isForQueue(options, request)) return withQueueChannel(io, options, run);
  const target = isLocal(options) ? agentTarget(io, options) : await centerTarget(io, options);
  await withTargetChannel(io, target, run);
}

/** The queue's calls go to the queue, unless a server is named. */
function isForQueue(options: CallOptions, request: CallRequest): boolean {
  if (options.queue !== undefined) return true;
  if (isLocal(options) || options.socket !== undefined) return false;
  const name = request.kind === 'call' ? request.method : request.kind === 'describe' ? request.name : request.service;
  return /^(?:muster\.v1\.)?Queue(?:[/.]|$)/.test(name ?? '');
}

export function register(program: Command, io: Io): void {
  addQueueOption(
    program
      .command('call [method] [message]')
      .description(
        'any call by hand: muster call muster.v1.Center/ListMachines \'{}\'; "-" or a stream reads JSON lines',
      ),
  )
    .option('--list [service]', 'every method, or those of one service')
    .option('--describe <name>', 'a service, method or message as the server describes it')
    .option('--timeout <duration>', 'give up after this long', durationArgument)
    .action((method: string | undefined, message: string | undefined, _options, command: Command) =>
      call(io, command.optsWithGlobals(), { method, json: message }),
    );
}
