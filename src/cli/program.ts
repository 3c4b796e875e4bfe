import { Command, CommanderError } from 'commander';
import { isCode, messageOf, MusterError } from '../kit/errors.js';
import { didYouMean } from '../kit/suggest.js';
import { GROUPS } from './group.js';
import { inert } from './inert.js';
import { Failed, type Io } from './io.js';
import { VERSION } from '../model/version.js';

const EXIT_OK = 0;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** The options that stand before or after any command's name and take a value. */
const VALUE_OPTIONS: ReadonlySet<string> = new Set(['--context', '--socket', '--agent-socket']);

function newProgram(io: Io, json: boolean): Command {
  return new Command('muster')
    .description('Runs a fleet of services on plain machines.')
    .version(VERSION, '--version')
    .option('--json', 'answer in JSON: one document, or one object a line for what goes on')
    .option('--context <name>', 'the center of this context (see "muster login")')
    .option('--socket <path>', 'the center behind this admin socket')
    .option('--local', "this machine's own agent, without the center")
    .option('--agent-socket <path>', 'the agent behind this socket; implies --local')
    .helpCommand(true)
    .showHelpAfterError('(try the same with --help)')
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      // In JSON the message comes as an object, from reportUsage.
      writeErr: (text) => (json ? undefined : io.stderr.write(text)),
    })
    .exitOverride();
}

/** Needs every group, since it prints their words. */
const COMPLETION = 'completion';

/** The first word that is not an option or an option's value. */
function commandWord(argv: readonly string[]): string | undefined {
  for (let index = 0; index < argv.length; index += 1) {
    const word = argv[index] ?? '';
    if (VALUE_OPTIONS.has(word)) index += 1;
    else if (!word.startsWith('-')) return word;
  }
  return undefined;
}

async function load(program: Command, io: Io, word: string | undefined): Promise<void> {
  const one = word === undefined || !Object.hasOwn(GROUPS, word) ? undefined : GROUPS[word];
  if (one && word !== COMPLETION) {
    (await one()).register(program, io);
    return;
  }
  if (word !== undefined && word !== 'help' && word !== COMPLETION) {
    throw new CommanderError(
      EXIT_USAGE,
      'muster.unknownCommand',
      `there is no command "${word}".${didYouMean(word, Object.keys(GROUPS))} "muster --help" lists them.`,
    );
  }
  const loaded = new Set(await Promise.all(Object.values(GROUPS).map((group) => group())));
  for (const group of loaded) group.register(program, io);
}

function print(io: Io, json: boolean, error: MusterError): void {
  const { code, reason, message, fields } = error;
  if (json) {
    io.stderr.write(`${JSON.stringify({ error: { code, reason, message, fields } })}\n`);
    return;
  }
  io.stderr.write(`muster: ${inert(message)}\n`);
  for (const { field, description } of fields) {
    // A description may have been cut on its way here.
    if (message.includes(description.replace(/…$/, ''))) continue;
    io.stderr.write(`  ${description.includes(`${field}: `) ? '' : `${inert(field)}: `}${inert(description)}\n`);
  }
}

function reportUsage(io: Io, json: boolean, error: CommanderError): number {
  if (error.exitCode === 0) return EXIT_OK;
  // For people Commander has printed its own messages already; ours, and those in JSON, come without having been shown.
  if (json || error.code === 'muster.unknownCommand') {
    print(io, json, new MusterError('invalid', error.message.replace(/^error: /, ''), { reason: 'USAGE' }));
  }
  return EXIT_USAGE;
}

/** A bug's stack, for whoever set MUSTER_DEBUG. */
function showStack(io: Io, error: unknown): void {
  if (error instanceof Error && io.env['MUSTER_DEBUG'] !== undefined) io.stderr.write(`${error.stack ?? ''}\n`);
}

function report(io: Io, argv: readonly string[], error: unknown): number {
  if (error instanceof Failed) return EXIT_FAILED;
  if (error instanceof CommanderError) return reportUsage(io, argv.includes('--json'), error);
  if (io.signal.aborted && isCode(error, 'cancelled')) return EXIT_OK;
  const known = error instanceof MusterError ? error : new MusterError('internal', messageOf(error), { cause: error });
  print(io, argv.includes('--json'), known);
  if (known !== error) showStack(io, error);
  return known.code === 'invalid' && known.reason === 'USAGE' ? EXIT_USAGE : EXIT_FAILED;
}

/**
 * Runs one command line. Resolves with the exit status: 0 ok, 1 the thing failed, 2 wrong usage. Never rejects.
 */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  const json = argv.includes('--json');
  const program = newProgram(io, json);
  try {
    // The version needs no command, and is asked for by scripts.
    if (!argv.includes('--version')) await load(program, io, commandWord(argv));
    if (argv.length === 0) {
      program.outputHelp();
      return EXIT_USAGE;
    }
    await program.parseAsync([...argv], { from: 'user' });
    return EXIT_OK;
  } catch (error) {
    return report(io, argv, error);
  }
}
