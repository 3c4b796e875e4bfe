import type { Command } from 'commander';
import { colours } from '../colours.js';
import { LogLine } from '../../../generated/muster/v1/types.js';
import { countArgument, selectorArgument } from '../arguments.js';
import { withAgent, withCenter } from '../connection.js';
import { isLocal } from '../context.js';
import { inertLine } from '../inert.js';
import { findInstances } from '../instances.js';
import type { GlobalOptions, Io } from '../io.js';
import { Output, write } from '../output.js';
import { usage } from '../queue-text.js';
import { TailFollower, type TailCall, type TailListener } from './tail-following.js';

interface TailOptions extends GlobalOptions {
  readonly on?: string;
  readonly lines: number;
  readonly follow?: boolean;
  readonly file?: string;
}

const LINES_MAX = 10_000;
const NAME_CHARACTERS_MAX = 40;
const PAINTS = [colours.cyan, colours.yellow, colours.green, colours.magenta, colours.blue];

/** Lines for people, each after its machine's name where there are several; notices beside them. */
class LinePrinter {
  readonly #io: Io;
  readonly #output: Output;
  /** In order; one or none: lines come without a name. */
  readonly #names: readonly string[];
  readonly #width: number;

  constructor(io: Io, output: Output, names: readonly string[]) {
    this.#io = io;
    this.#output = output;
    this.#names = names;
    this.#width = Math.min(NAME_CHARACTERS_MAX, Math.max(0, ...names.map((name) => name.length)));
  }

  async print(line: LogLine): Promise<void> {
    if (this.#output.json) await this.#output.document(LogLine.toJSON(line));
    else if (line.notice) await this.#output.note(`muster: ${this.#about(line)}${inertLine(line.text)}`);
    else await write(this.#io.stdout, `${this.#prefix(line.machineName)}${inertLine(line.text)}\n`);
  }

  /** Something that no machine said. */
  async say(service: string, text: string): Promise<void> {
    if (!this.#output.json) await this.#output.note(`muster: ${text}`);
    else await this.#output.document(LogLine.toJSON(LogLine.fromPartial({ service, text, notice: true })));
  }

  #prefix(name: string): string {
    if (this.#names.length < 2) return '';
    const paint = PAINTS[Math.max(0, this.#names.indexOf(name)) % PAINTS.length];
    const padded = inertLine(name).padEnd(this.#width);
    return `${this.#io.terminal && paint ? paint(padded) : padded}  `;
  }

  /** Notices of a center name the machine where that is not in their text. */
  #about({ machineName, text }: LogLine): string {
    const named = this.#names.length < 2 || machineName === '' || text.includes(machineName);
    return named ? '' : `${inertLine(machineName)}: `;
  }
}

function listenerOf(printer: LinePrinter, service: string, whom: string): TailListener {
  return {
    line: (line) => printer.print(line),
    away: () => printer.say(service, `${whom} cannot be reached: reading on when it is back`),
    back: () => printer.say(service, `${whom} is back: reading on`),
  };
}

async function tailLocal(io: Io, options: TailOptions, service: string): Promise<void> {
  const { lines, follow = false, file = '' } = options;
  await withAgent(io, options, async (agent) => {
    const open: TailCall['open'] = (asked, signal) => {
      const [position = ''] = Object.values(asked.positions);
      return agent.tailLocalLog({ service, lines: asked.lines, follow, file, position }, { signal });
    };
    const printer = new LinePrinter(io, new Output(io, options), []);
    await new TailFollower(io, { lines, follow, open }, listenerOf(printer, service, 'the agent')).run();
  });
}

async function tailFleet(io: Io, options: TailOptions, service: string): Promise<void> {
  const { lines, follow = false, file = '', on = '' } = options;
  await withCenter(io, options, async (center) => {
    const instances = await findInstances(center, service, options.on);
    const [only] = instances;
    const whose =
      instances.length === 1 && only ? { machine: only.machine, selector: '' } : { machine: '', selector: on };
    const open: TailCall['open'] = (asked, signal) =>
      center.tailLog({ service, follow, file, ...whose, ...asked }, { signal });
    const names = instances.map(({ machineName }) => machineName).sort();
    const printer = new LinePrinter(io, new Output(io, options), names);
    await new TailFollower(io, { lines, follow, open }, listenerOf(printer, service, 'the center')).run();
  });
}

async function tail(io: Io, options: TailOptions, service: string): Promise<void> {
  if (options.lines < 1 || options.lines > LINES_MAX) throw usage(`-n takes 1 to ${LINES_MAX} lines`);
  if (!isLocal(options)) {
    await tailFleet(io, options, service);
    return;
  }
  if (options.on !== undefined) throw usage('--on is for the center: with --local there is this machine alone');
  await tailLocal(io, options, service);
}

export function registerTail(logs: Command, io: Io): void {
  logs
    .command('tail <service>')
    .description('the last lines of a log, of every machine that has the service')
    .option('-n, --lines <count>', 'how many lines of each machine', countArgument, 10)
    .option('-f, --follow', 'go on with each new line')
    .option('--on <selector>', 'only machines that match, for example machine=web-1', selectorArgument)
    .option('--file <name>', 'another log of the service, by its name; default: what the service prints')
    .action((service: string, _options, command: Command) => tail(io, command.optsWithGlobals(), service));
}
