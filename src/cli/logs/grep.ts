import type { Command } from 'commander';
import type { AgentService } from '../../../generated/muster/v1/agent.js';
import {
  Command as WireCommand,
  SearchCoverage,
  Strategy,
  type SearchLogsRequest,
} from '../../../generated/muster/v1/center.js';
import type { LogSearch, SearchReport } from '../../../generated/muster/v1/types.js';
import { counted } from '../../kit/counted.js';
import { isCode } from '../../kit/errors.js';
import { SEARCH_CPU_MAX_MS, SEARCH_LINES_DEFAULT } from '../../model/log-search.js';
import type { Client } from '../../rpc/types.js';
import { fromWireSearch } from '../../wire/log-search.js';
import { toDate, toDuration } from '../../wire/time.js';
import { countArgument, durationArgument, selectorArgument, sizeArgument, someArgument } from '../arguments.js';
import { withAgent, withCenter } from '../connection.js';
import { isLocal } from '../context.js';
import { Failed, type GlobalOptions, type Io } from '../io.js';
import { batchArgument, fleetOption } from '../operations/options.js';
import { Output, write } from '../output.js';
import { coverageOf, coverageText, isComplete } from './coverage.js';
import { SearchFollower, type Searched } from './search-following.js';
import { HitPrinter } from './hits.js';
import { usage } from '../queue-text.js';
import { StatusLine } from '../status-line.js';
import { sinceOf, timeArgument, untilOf, type TypedTime } from '../times.js';

interface GrepOptions extends GlobalOptions {
  readonly on?: string;
  readonly regex?: boolean;
  readonly ignoreCase?: boolean;
  readonly since?: TypedTime;
  readonly until?: TypedTime;
  readonly around?: number;
  readonly before?: number;
  readonly after?: number;
  readonly maxLines?: number;
  readonly maxBytes?: number;
  readonly maxCpu?: number;
  readonly file?: string;
  readonly batch?: string;
  readonly timeout?: number;
  readonly queueFor?: number;
  readonly reason?: string;
}

function spanOf({ since, until }: GrepOptions, nowMs: number): Pick<LogSearch, 'since' | 'until'> {
  const sinceMs = since && sinceOf(since, nowMs);
  return { since: toDate(sinceMs), until: toDate(until && untilOf(until, nowMs, sinceMs)) };
}

function aroundOf({ around = 0, before = around, after = around }: GrepOptions): Pick<LogSearch, 'before' | 'after'> {
  return { before, after };
}

function limitsOf(options: GrepOptions): Pick<LogSearch, 'maxLines' | 'maxBytes' | 'maxCpu'> {
  const { maxLines = SEARCH_LINES_DEFAULT, maxBytes = 0, maxCpu } = options;
  return { maxLines, maxBytes, maxCpu: maxCpu === undefined ? undefined : toDuration(maxCpu) };
}

/** @throws invalid, as wrong usage, for what cannot be searched for */
function searchOf(options: GrepOptions, pattern: string, nowMs: number): LogSearch {
  if (options.maxBytes === 0 || options.maxCpu === 0) throw usage('a search that may do nothing finds nothing');
  const search: LogSearch = {
    pattern,
    regex: options.regex === true,
    ignoreCase: options.ignoreCase === true,
    file: options.file ?? '',
    ...spanOf(options, nowMs),
    ...aroundOf(options),
    ...limitsOf(options),
  };
  try {
    fromWireSearch(search);
    return search;
  } catch (error) {
    if (!isCode(error, 'invalid')) throw error;
    throw usage(error.message.replace(/\bmax_(\w+)/g, '--max-$1'));
  }
}

function strategyOf({ batch, timeout, queueFor }: GrepOptions): Strategy {
  const limit = timeout === undefined ? undefined : toDuration(timeout);
  return Strategy.fromPartial({
    batch: batch ?? '',
    targetTimeout: limit,
    timeout: limit,
    queueFor: queueFor === undefined ? undefined : toDuration(queueFor),
  });
}

/** What the search saw, and whether anything was found. @throws Failed when nothing was */
async function report(io: Io, output: Output, searched: Searched, maxLines: number): Promise<void> {
  const { seen, ended, hits, end, silentSince } = searched;
  await output.document({
    coverage: SearchCoverage.toJSON(seen.coverage),
    complete: isComplete(seen),
    unanswered: seen.unanswered,
    silentSince: Object.fromEntries(silentSince),
    cancelled: end === 'cancelled',
    contactLost: end === 'lost',
  });
  const telling = { ended, silentSince, enough: hits >= maxLines, nowMs: io.clock.now() };
  if (end === 'cancelled') await output.note('Cancelled. So far:');
  if (end === 'lost') await output.note('The center could not be reached any more. Before that:');
  for (const line of coverageText(seen, telling)) await output.note(line);
  if (hits === 0) throw new Failed();
}

async function grepFleet(io: Io, options: GrepOptions, service: string, search: LogSearch): Promise<void> {
  const output = new Output(io, options);
  const printer = printerOf(io, output, search);
  const request: SearchLogsRequest = {
    service,
    selector: options.on ?? '',
    search,
    strategy: strategyOf(options),
    reason: options.reason ?? '',
  };
  const searched = await withCenter(io, options, async (center) => {
    const note = async (text: string): Promise<void> => {
      if (!output.json) await write(io.stdout, printer.before());
      await output.note(text);
    };
    const follower = new SearchFollower(io, center, request, {
      began: (machines) => {
        printer.several = machines !== 1;
      },
      hit: (hit, skipped) => printer.print(hit, skipped),
      away: () => note('The center cannot be reached: trying again, and then searching what was cut off.'),
      again: (machines) =>
        note(`Searching again on ${counted(machines, 'machine')}: the end of their search was not seen.`),
    });
    if (!io.terminal || output.json) return follower.run();
    const status = new StatusLine(io, () => follower.progress);
    printer.before = () => status.erase();
    return follower.run().finally(() => status.close());
  });
  await report(io, output, searched, search.maxLines);
}

function printerOf(io: Io, output: Output, search: LogSearch): HitPrinter {
  return new HitPrinter(io, output, { ...search, context: search.before + search.after > 0 });
}

async function searchLocal(
  io: Io,
  agent: Client<typeof AgentService>,
  request: { readonly service: string; readonly search: LogSearch },
  printer: HitPrinter,
): Promise<Searched> {
  let found: SearchReport | undefined;
  let hits = 0;
  try {
    for await (const message of agent.searchLocalLogs(request, { signal: io.signal })) {
      for (const hit of message.hits) await printer.print(hit, false);
      hits += message.hits.filter(({ context }) => !context).length;
      found = message.report ?? found;
    }
  } catch (error) {
    if (!io.signal.aborted) throw error;
  }
  const ended = found === undefined ? [] : [WireCommand.fromPartial({ outcome: 'OUTCOME_SUCCEEDED', search: found })];
  const seen = coverageOf(ended, 1);
  const end = io.signal.aborted ? 'cancelled' : found === undefined ? 'lost' : 'ended';
  return { seen, ended, hits, end, silentSince: new Map() };
}

async function grepLocal(io: Io, options: GrepOptions, service: string, search: LogSearch): Promise<void> {
  const output = new Output(io, options);
  const printer = printerOf(io, output, search);
  printer.several = false;
  const searched = await withAgent(io, options, (agent) => searchLocal(io, agent, { service, search }, printer));
  await report(io, output, searched, search.maxLines);
}

/** @throws wrong usage, in place of the refusal, for an expression that grep does not take */
async function takingPattern(searching: Promise<void>): Promise<void> {
  try {
    await searching;
  } catch (error) {
    if (isCode(error, 'invalid') && error.reason === 'PATTERN') throw usage(error.message);
    throw error;
  }
}

/** Lines around hits, and the context whose center is asked, are both called --context: a number is the former. */
function withContexts(options: GrepOptions, typed: readonly string[]): GrepOptions {
  const isCount = (text: string): boolean => /^\d+$/.test(text);
  const lines = typed.findLast(isCount);
  const name = typed.findLast((text) => !isCount(text));
  const known: { -readonly [K in keyof GrepOptions]: GrepOptions[K] } = { ...options };
  if (lines !== undefined) known.around ??= countArgument(lines);
  delete known.context;
  return name === undefined ? known : { ...known, context: name };
}

interface Typed {
  readonly service: string;
  readonly pattern: string;
  /** Everything given with --context. */
  readonly contexts: readonly string[];
}

async function grep(io: Io, command: Command, { service, pattern, contexts }: Typed): Promise<void> {
  const options = withContexts(command.optsWithGlobals(), contexts);
  const search = searchOf(options, pattern, io.clock.now());
  if (!isLocal(options)) {
    await takingPattern(grepFleet(io, options, service, search));
    return;
  }
  const wrong = fleetOption(command);
  if (wrong !== undefined) {
    throw usage(`${wrong} is for the center: with --local there is this machine alone`);
  }
  await takingPattern(grepLocal(io, options, service, search));
}

export function registerGrep(logs: Command, io: Io): void {
  const contexts: string[] = [];
  logs.parent?.on('option:context', (text: string) => contexts.push(text));
  logs
    .command('grep <service> <pattern>')
    .description('search logs, rotated and compressed ones too (exit status 0: found, 1: nothing found)')
    .option(
      '--on <selector>',
      'only on machines that match; default: every machine that has the service',
      selectorArgument,
    )
    .option('--regex', 'the pattern is a POSIX extended regular expression, not plain text')
    .option('-i, --ignore-case', 'capitals or not')
    .option('--since <time>', 'lines from then on: 2h (ago), 14:02, 2026-11-23T14:02:00Z', timeArgument)
    .option('--until <time>', 'lines before then', timeArgument)
    .option('-C, --around <count>', 'lines shown around each hit; --context COUNT is the same', countArgument)
    .option('-B, --before <count>', 'lines shown before each hit', countArgument)
    .option('-A, --after <count>', 'lines shown after each hit', countArgument)
    .option('--max-lines <count>', `matching lines over all machines (default ${SEARCH_LINES_DEFAULT})`, someArgument)
    .option('--max-bytes <size>', 'read so much on each machine, the newest first (default 16GiB)', sizeArgument)
    .option(
      '--max-cpu <duration>',
      `processor time on each machine (default 1m, at most ${SEARCH_CPU_MAX_MS / 3_600_000}h)`,
      durationArgument,
    )
    .option('--file <name>', "only this log and its rotated files; default: all of the service's")
    .option('--batch <amount>', 'machines searched at once, or a share of them (default 50)', batchArgument)
    .option('--timeout <duration>', 'end the search then (default 10m for each machine)', durationArgument)
    .option(
      '--queue-for <duration>',
      'how long a machine that is not connected is waited for (default 1s)',
      durationArgument,
    )
    .option('--reason <text>', 'why, for the record')
    .action((service: string, pattern: string, _options, command: Command) =>
      grep(io, command, { service, pattern, contexts }),
    );
}
