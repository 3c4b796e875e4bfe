import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { principalOf } from '../enrolment/files.js';
import { findCenter, useToken } from '../enrolment/token.js';
import { errnoOf, MusterError } from '../kit/errors.js';
import { NAME_PATTERN } from '../kit/ids.js';
import { makeDirectory, readFileIfThere, syncDirectory, writeFileDurably } from '../kit/files.js';
import { generateKey } from '../rpc/certificate-request.js';
import { contextDirectory, currentContextFile } from './context.js';
import type { GlobalOptions, Io } from './io.js';
import { describeContext, type ContextFile } from './operator-identity.js';
import { Output } from './output.js';

interface LoginOptions extends GlobalOptions {
  readonly token: string;
}

interface Credentials {
  readonly file: ContextFile;
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** Exchanges the token for a certificate, after the center has proved itself by the CA hash in the token. */
async function enrol(io: Io, center: string, token: string): Promise<Credentials> {
  const found = await findCenter(center, token, {
    instead: 'use it with --socket, without logging in',
    clock: io.clock,
  });
  const key = await generateKey();
  const answer = await useToken(found, {
    ...{ key, kind: 'operator', name: '', labels: {}, nowMs: io.clock.now(), whose: 'a person' },
    isMine: (principal) => principal.kind === 'operator',
  });
  const principal = principalOf(answer.certificate);
  const operator = principal?.kind === 'operator' ? principal.name : '';
  const file = { center: found.address, site: found.site, operator };
  return { file, ca: found.caPem, certificate: answer.certificate, key: key.reveal() };
}

/** Writes the whole context aside and moves it to its place, so that there is never half of one. */
async function store(io: Io, name: string, credentials: Credentials): Promise<string> {
  const directory = contextDirectory(io, name);
  const parent = dirname(directory);
  await makeDirectory(parent, 0o700);
  const aside = await mkdtemp(join(parent, '.new-'));
  await writeFileDurably(join(aside, 'ca.pem'), credentials.ca);
  await writeFileDurably(join(aside, 'cert.pem'), credentials.certificate);
  await writeFileDurably(join(aside, 'key.pem'), credentials.key);
  await writeFileDurably(join(aside, 'context.json'), `${JSON.stringify(credentials.file, undefined, 2)}\n`);
  await rm(directory, { recursive: true, force: true });
  await rename(aside, directory);
  await syncDirectory(parent);
  return directory;
}

async function login(io: Io, options: LoginOptions, center: string): Promise<void> {
  const output = new Output(io, options);
  const name = options.context ?? 'default';
  if (!NAME_PATTERN.test(name)) {
    throw new MusterError('invalid', `"${name}" cannot name a context: use lower-case letters, digits and dashes`, {
      reason: 'USAGE',
    });
  }
  const credentials = await enrol(io, center, options.token);
  const directory = await store(io, name, credentials);
  await writeFileDurably(currentContextFile(io), `${name}\n`);
  const { site, operator } = credentials.file;
  await output.document({ context: name, directory, ...credentials.file });
  await output.line(`logged in to site ${site} as operator ${operator}; commands now go to ${credentials.file.center}`);
  await output.line(`the certificate lasts a day and renews while you use it; it is in ${directory}`);
}

async function contextNames(io: Io): Promise<string[]> {
  try {
    const names = await readdir(dirname(contextDirectory(io, 'x')));
    return names.filter((name) => !name.startsWith('.')).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

async function listContexts(io: Io, options: GlobalOptions): Promise<void> {
  const output = new Output(io, options);
  const current = (await readFileIfThere(currentContextFile(io)))?.trim();
  const contexts = await Promise.all(
    (await contextNames(io)).map(async (name) => ({
      name,
      current: name === current,
      ...(await describeContext(contextDirectory(io, name))),
    })),
  );
  await output.document({ contexts });
  await output.table(contexts, [
    { heading: 'CONTEXT', text: (context) => `${context.current ? '* ' : '  '}${context.name}` },
    { heading: 'CENTER', text: (context) => context.center ?? 'damaged: log in again' },
    { heading: 'SITE', text: (context) => context.site ?? '' },
    { heading: 'OPERATOR', text: (context) => context.operator ?? '' },
  ]);
  if (contexts.length === 0) await output.note('No contexts: "muster login CENTER --token TOKEN" makes one.');
}

async function useContext(io: Io, options: GlobalOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  if (name !== 'none' && !(await contextNames(io)).includes(name)) {
    throw new MusterError('not_found', `there is no context "${name}"; "muster contexts" lists them`);
  }
  if (name === 'none') await rm(currentContextFile(io), { force: true });
  else await writeFileDurably(currentContextFile(io), `${name}\n`);
  await output.document({ current: name });
  await output.line(name === 'none' ? "commands now go to this machine's own center" : `commands now go to ${name}`);
}

export function register(program: Command, io: Io): void {
  program
    .command('login <center>')
    .description('make this user an operator of a center elsewhere; --context names it')
    .requiredOption('--token <token>', 'from "muster token create --operator NAME" at the center')
    .action((center: string, _options, command: Command) => login(io, command.optsWithGlobals(), center));
  const contexts = program
    .command('contexts')
    .description('the centers this user has logged in to')
    .action((_options, command: Command) => listContexts(io, command.optsWithGlobals()));
  contexts
    .command('use <name>')
    .description('which of them commands talk to; "none": this machine\'s own')
    .action((name: string, _options, command: Command) => useContext(io, command.optsWithGlobals(), name));
}
