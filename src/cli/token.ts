import { Option, type Command } from 'commander';
import {
  CreateTokenRequest,
  CreateTokenResponse,
  ListTokensResponse,
  type TokenKind,
} from '../../generated/muster/v1/center.js';
import { MusterError } from '../kit/errors.js';
import { toDuration } from '../wire/time.js';
import { durationArgument, labelArgument } from './arguments.js';
import { withCenter } from './connection.js';
import type { GlobalOptions, Io } from './io.js';
import { clockTime, enumWord, Output } from './output.js';

interface CreateOptions extends GlobalOptions {
  readonly machine?: string;
  readonly operator?: string;
  readonly queue?: boolean;
  readonly name?: string;
  readonly lifetime?: number;
  readonly label?: Record<string, string>;
}

/** @throws invalid for a name without --queue: the others have theirs in their own option */
function kindOf(options: CreateOptions): [TokenKind, string] {
  if (options.queue === true) return ['TOKEN_KIND_QUEUE', options.name ?? ''];
  if (options.name !== undefined) {
    throw new MusterError('invalid', '--name goes with --queue; a machine is named with --machine NAME', {
      reason: 'USAGE',
    });
  }
  if (options.operator !== undefined) return ['TOKEN_KIND_OPERATOR', options.operator];
  return ['TOKEN_KIND_AGENT', options.machine ?? ''];
}

function requestOf(options: CreateOptions): CreateTokenRequest {
  const [kind, name] = kindOf(options);
  return CreateTokenRequest.fromPartial({
    kind,
    name,
    lifetime: options.lifetime === undefined ? undefined : toDuration(options.lifetime),
    labels: options.label ?? {},
  });
}

async function create(io: Io, options: CreateOptions): Promise<void> {
  const output = new Output(io, options);
  const request = requestOf(options);
  const made = await withCenter(io, options, (center) => center.createToken(request));
  await output.line(made.command);
  await output.note(`Single use, until ${clockTime(made.expires, io.clock.now())}. Paste the line where it is needed.`);
  await output.document(CreateTokenResponse.toJSON(made));
}

async function list(io: Io, options: GlobalOptions): Promise<void> {
  const output = new Output(io, options);
  const answer = await withCenter(io, options, (center) => center.listTokens({}));
  await output.document(ListTokensResponse.toJSON(answer));
  await output.table(answer.tokens, [
    { heading: 'ID', text: (token) => token.id },
    { heading: 'FOR', text: (token) => `${enumWord('TOKEN_KIND', token.kind).toLowerCase()} ${token.name}`.trim() },
    { heading: 'EXPIRES', text: (token) => clockTime(token.expires, io.clock.now()) },
    { heading: 'BY', text: (token) => token.createdBy },
  ]);
}

async function revoke(io: Io, options: GlobalOptions, id: string): Promise<void> {
  const output = new Output(io, options);
  await withCenter(io, options, (center) => center.revokeToken({ id }));
  await output.line(`token ${id} is revoked`);
  await output.document({ id, revoked: true });
}

export function register(program: Command, io: Io): void {
  const token = program.command('token').description('single-use tokens by which machines, people and queues join');
  token
    .command('create')
    .description('make a token and print the line to paste')
    .addOption(
      new Option('--machine <name>', 'only for this machine; one that exists already joins anew').conflicts([
        'operator',
        'queue',
      ]),
    )
    .addOption(new Option('--operator <name>', 'for a person: "muster login"').conflicts('machine'))
    .addOption(new Option('--queue', 'for a queue: "muster queue join"').conflicts(['machine', 'operator']))
    .option('--name <name>', 'with --queue: only for this queue; one that exists already joins anew')
    .option('--lifetime <duration>', 'how long it may be used (default 15m, at most 7d)', durationArgument)
    .option('--label <key=value>', 'label of the machine that joins; may be repeated', labelArgument)
    .action((_options, command: Command) => create(io, command.optsWithGlobals()));
  token
    .command('ls')
    .description('tokens that are neither used nor expired')
    .action((_options, command: Command) => list(io, command.optsWithGlobals()));
  token
    .command('revoke <id>')
    .description('make a token useless')
    .action((id: string, _options, command: Command) => revoke(io, command.optsWithGlobals(), id));
}
