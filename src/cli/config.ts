import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import {
  ConfigService,
  Document as WireDocument,
  GetAdoptionResponse,
  ListRevisionsResponse,
  Snapshot,
} from '../../generated/muster/v1/config.js';
import { messageOf, MusterError } from '../kit/errors.js';
import { newId } from '../kit/ids.js';
import { createClient } from '../rpc/client.js';
import type { Client } from '../rpc/types.js';
import { countArgument } from './arguments.js';
import { withCenterChannel } from './connection.js';
import type { GlobalOptions, Io } from './io.js';
import { clockTime, Output } from './output.js';

interface ConfigOptions extends GlobalOptions {
  readonly machine?: string;
  readonly document?: boolean;
  readonly revision?: number;
  readonly etag?: string;
  readonly comment?: string;
  readonly file?: string;
  readonly dryRun?: boolean;
}

function withConfig<T>(
  io: Io,
  options: GlobalOptions,
  work: (config: Client<typeof ConfigService>) => Promise<T>,
): Promise<T> {
  return withCenterChannel(io, options, (channel) => work(createClient(ConfigService, channel)));
}

async function get(io: Io, options: ConfigOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const scope = { service, machine: options.machine ?? '' };
  if (options.document === true || options.revision !== undefined || options.machine === undefined) {
    const stored = await withConfig(io, options, (config) =>
      config.getDocument({ scope, revision: options.revision ?? 0 }),
    );
    await output.document(WireDocument.toJSON(stored));
    await output.line(stored.text.trimEnd() || '(empty)');
    await output.note(`revision ${stored.revision}, etag ${stored.etag}`);
    return;
  }
  const snapshot = await withConfig(io, options, (config) => config.get(scope));
  await output.document(Snapshot.toJSON(snapshot));
  await output.line(JSON.stringify(snapshot.values ?? {}, undefined, 2));
  for (const [key, from] of Object.entries(snapshot.provenance)) await output.note(`${key}: from ${from}`);
  await output.note(`revision ${snapshot.revision}`);
}

async function textOf(options: ConfigOptions, assignments: readonly string[]): Promise<string | undefined> {
  if (options.file === undefined) return undefined;
  if (assignments.length > 0) {
    throw new MusterError('invalid', 'give either KEY=VALUE or --file, not both', { reason: 'USAGE' });
  }
  try {
    return await readFile(options.file === '-' ? '/dev/stdin' : options.file, 'utf8');
  } catch (error) {
    throw new MusterError('invalid', `cannot read ${options.file}: ${messageOf(error)}`, {
      reason: 'USAGE',
      cause: error,
    });
  }
}

function valueOf(text: string, assignment: string, parse: (text: string) => unknown): unknown {
  try {
    return parse(text);
  } catch (error) {
    const why = messageOf(error).split('\n')[0] ?? '';
    throw new MusterError(
      'invalid',
      `the value in "${assignment}" is not YAML (${why}): put a text with special characters in quotes, for example name='"a: b"'`,
      { reason: 'USAGE', cause: error },
    );
  }
}

/** The stored document with KEY=VALUE set in it; comments and order stay. Values are read as YAML, `null` removes a key at its place. */
async function edited(text: string, assignments: readonly string[]): Promise<string> {
  const { Document, parseDocument, parse } = await import('yaml');
  // An empty document starts as a block mapping, not as `{}`, which would stay on one line for ever.
  const document = text.trim() === '' ? new Document({}) : parseDocument(text);
  for (const assignment of assignments) {
    const at = assignment.indexOf('=');
    if (at < 1)
      throw new MusterError(
        'invalid',
        `"${assignment}" is not KEY=VALUE, for example greeting=Hello or limits.rate=100`,
        { reason: 'USAGE' },
      );
    document.setIn(assignment.slice(0, at).split('.'), valueOf(assignment.slice(at + 1), assignment, parse));
  }
  return document.toString();
}

async function set(io: Io, options: ConfigOptions, service: string, assignments: readonly string[]): Promise<void> {
  const output = new Output(io, options);
  const scope = { service, machine: options.machine ?? '' };
  const whole = await textOf(options, assignments);
  if (whole === undefined && assignments.length === 0) {
    throw new MusterError(
      'invalid',
      'nothing to set: give KEY=VALUE, or a whole document with --file FILE (- for standard input)',
      { reason: 'USAGE' },
    );
  }
  await withConfig(io, options, async (config) => {
    const before = whole === undefined ? await config.getDocument({ scope, revision: 0 }) : undefined;
    const text = whole ?? (await edited(before?.text ?? '', assignments));
    if (options.dryRun === true) {
      await config.validate({ scope, text });
      await output.line(text.trimEnd());
      await output.note('valid; nothing was stored');
      return;
    }
    const etag = options.etag ?? etagAfter(before);
    const stored = await config.publish({ scope, text, etag, comment: options.comment ?? '', requestId: newId('r') });
    await output.document(WireDocument.toJSON(stored));
    await output.line(
      `${service}${options.machine === undefined ? '' : ` on ${options.machine}`}: revision ${stored.revision} published; "muster config adoption ${service}" shows who has it`,
    );
  });
}

/** An edit of what was read must not overwrite what came in between; a whole document was not read and overwrites. */
function etagAfter(read: WireDocument | undefined): string {
  if (read === undefined) return '';
  return read.etag === '' ? 'new' : read.etag;
}

/** Revisions in one listing, the newest. */
const REVISIONS_SHOWN = 100;

async function history(io: Io, options: ConfigOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const answer = await withConfig(io, options, (config) =>
    config.listRevisions({ service, pageSize: REVISIONS_SHOWN, pageToken: '' }),
  );
  await output.document(ListRevisionsResponse.toJSON(answer));
  const now = io.clock.now();
  await output.table(answer.revisions, [
    { heading: 'REVISION', text: (one) => String(one.revision), right: true },
    { heading: 'SCOPE', text: (one) => (one.scope?.machine ? `machine ${one.scope.machine}` : 'service') },
    { heading: 'PUBLISHED', text: (one) => clockTime(one.published, now) },
    { heading: 'BY', text: (one) => one.publishedBy },
    { heading: 'COMMENT', text: (one) => one.comment },
  ]);
}

async function adoption(io: Io, options: GlobalOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const answer = await withConfig(io, options, (config) => config.getAdoption({ service }));
  await output.document(GetAdoptionResponse.toJSON(answer));
  await output.line(`${service}: revision ${answer.revision}`);
  const now = io.clock.now();
  await output.table(answer.machines, [
    { heading: 'MACHINE', text: (one) => one.machineName },
    { heading: 'DESIRED', text: (one) => String(one.desired), right: true },
    { heading: 'HELD', text: (one) => String(one.held), right: true },
    { heading: 'APPLIED', text: (one) => (one.applied === 0 ? '-' : String(one.applied)), right: true },
    { heading: 'REPORTED', text: (one) => clockTime(one.reported, now) },
    { heading: 'STATUS', text: (one) => (one.online ? 'online' : 'offline') },
    { heading: 'ERROR', text: (one) => one.error },
  ]);
}

export function register(program: Command, io: Io): void {
  const config = program.command('config').description("services' configuration, kept at the center");
  config
    .command('get <service>')
    .description('the stored document; with --machine, what that machine gets after merging')
    .option('--machine <name>', 'merged for this machine')
    .option('--document', "with --machine: the machine's own override, not merged")
    .option('--revision <number>', 'the document as it was at a revision', countArgument)
    .action((service: string, _options, command: Command) => get(io, command.optsWithGlobals(), service));
  config
    .command('set <service> [key=value...]')
    .description('change keys (a.b=c reaches inside), or the whole document with --file')
    .option('--machine <name>', "only this machine's override")
    .option('--file <file>', 'a whole YAML or JSON document, - for standard input')
    .option('--etag <etag>', 'only if the stored one has this etag; "new": only if there is none')
    .option('--comment <text>', 'why, for the history')
    .option('--dry-run', 'check only')
    .action((service: string, assignments: string[], _options, command: Command) =>
      set(io, command.optsWithGlobals(), service, assignments),
    );
  config
    .command('history <service>')
    .description('revisions, newest first')
    .action((service: string, _options, command: Command) => history(io, command.optsWithGlobals(), service));
  config
    .command('adoption <service>')
    .description('which machine has and which service runs with which revision')
    .action((service: string, _options, command: Command) => adoption(io, command.optsWithGlobals(), service));
}
