import { SearchCoverage, type Command, type SearchGap } from '../../../generated/muster/v1/center.js';
import type { SearchLimit, SearchReport } from '../../../generated/muster/v1/types.js';
import { counted } from '../../kit/counted.js';
import { formatSize } from '../../kit/durations.js';
import { inertLine } from '../inert.js';
import { clockTime, enumWord } from '../output.js';

/** What a search saw, and how that is said. */

export interface Seen {
  readonly coverage: SearchCoverage;
  /** Machines of which no end was seen, and that are not among the gaps. */
  readonly unanswered: number;
}

function earliest(a: Date | undefined, b: Date | undefined): Date | undefined {
  return a === undefined || (b !== undefined && b < a) ? b : a;
}

function latest(a: Date | undefined, b: Date | undefined): Date | undefined {
  return a === undefined || (b !== undefined && b > a) ? b : a;
}

/** Whether all that was asked for was seen there. */
function isWhole({ outcome, search }: Command): boolean {
  return outcome === 'OUTCOME_SUCCEEDED' && search?.limits.length === 0;
}

function add(coverage: SearchCoverage, search: SearchReport): void {
  coverage.files += search.files;
  coverage.bytes += search.bytes;
  coverage.hits += search.hits;
  coverage.first = earliest(coverage.first, search.first);
  coverage.last = latest(coverage.last, search.last);
}

/** What the ends of the single machines add up to; `machines` are those there are. */
export function coverageOf(ended: readonly Command[], machines: number): Seen {
  const coverage = SearchCoverage.fromPartial({ machines: Math.max(machines, ended.length) });
  for (const target of ended) {
    const { machineName, outcome, search, message } = target;
    if (search !== undefined) add(coverage, search);
    if (isWhole(target)) coverage.machinesComplete += 1;
    else {
      if (search !== undefined) coverage.machinesPartial += 1;
      coverage.gaps.push({ machineName, outcome, limits: search?.limits ?? [], message });
    }
  }
  return { coverage, unanswered: coverage.machines - ended.length };
}

export function isComplete({ coverage, unanswered }: Seen): boolean {
  return unanswered === 0 && coverage.gaps.length === 0 && coverage.machinesComplete >= coverage.machines;
}

/** What was reached, and what lifts it. */
const LIMITS: Readonly<Record<SearchLimit, string>> = {
  SEARCH_LIMIT_UNSPECIFIED: 'cut short',
  SEARCH_LIMIT_LINES: 'as many matching lines as asked for: --max-lines gives more',
  SEARCH_LIMIT_BYTES: 'as many bytes as asked for: --max-bytes reads more, --since and --file make it less',
  SEARCH_LIMIT_CPU: 'as much processor time as asked for: --max-cpu gives more, --since and --file make it less',
  SEARCH_LIMIT_CANCELLED: 'cancelled',
  SEARCH_LIMIT_PROBLEM: 'something could not be read',
  SEARCH_LIMIT_TIME: 'as long as asked for: --timeout gives more',
  UNRECOGNIZED: 'cut short',
};

/** Whether the search never began there. */
function isUnbegun({ outcome }: SearchGap): boolean {
  return outcome === 'OUTCOME_EXPIRED' || outcome === 'OUTCOME_CANCELLED';
}

function gapText(gap: SearchGap, telling: Telling): string {
  const { machineName, outcome, message } = gap;
  const cut = cutText(gap, telling);
  if (cut !== '') return isUnbegun(gap) ? `not searched (${cut})` : partText(gap, cut, telling);
  const since = telling.silentSince.get(machineName);
  const silent = since === undefined ? '' : `, not heard of since ${clockTime(since, telling.nowMs)}`;
  const how = isUnbegun(gap) ? 'not searched' : 'not searched to its end';
  return `${how}, ${enumWord('OUTCOME', outcome)}${silent}${message === '' ? '' : `: ${message}`}`;
}

/** What was reached is said: of the message only what it says besides. */
function partText({ machineName, message }: SearchGap, cut: string, { ended }: Telling): string {
  const own = ended.find((target) => target.machineName === machineName)?.message ?? '';
  const besides = (message.startsWith(own) ? message.slice(own.length) : message).replace(/^; /, '');
  return `searched in part (${cut})${besides === '' ? '' : `: ${besides}`}`;
}

/** The limits that were reached; empty where there were none. */
function cutText({ limits, outcome }: SearchGap, { enough }: Telling): string {
  if (enough && limits.length === 0 && outcome === 'OUTCOME_CANCELLED') return LIMITS.SEARCH_LIMIT_LINES;
  // Machines that still searched when there was enough were cancelled for that.
  const reached = limits.map((limit) => (enough && limit === 'SEARCH_LIMIT_CANCELLED' ? 'SEARCH_LIMIT_LINES' : limit));
  return [...new Set(reached)].map((limit) => LIMITS[limit]).join('; ');
}

function headText({ coverage }: Seen, complete: boolean): string {
  const { machines, machinesComplete, machinesPartial } = coverage;
  if (complete)
    return machines === 1 ? 'Searched everything' : `Searched everything on ${counted(machines, 'machine')}`;
  const none = machines - machinesComplete - machinesPartial;
  return `NOT EVERYTHING WAS SEARCHED: of ${counted(machines, 'machine')} ${machinesComplete} whole, ${machinesPartial} in part, ${none} not`;
}

/** Gaps and problems told of one by one. */
const SHOWN_MAX = 50;

function bounded(lines: readonly string[], what: string): string[] {
  const more = lines.length - SHOWN_MAX;
  return [...lines.slice(0, SHOWN_MAX), ...(more > 0 ? [`  and ${more} more ${what}`] : [])];
}

/** What is known besides. */
export interface Telling {
  /** The machines' own ends, as far as they were told. */
  readonly ended: readonly Command[];
  /** By name, machines that are not connected. */
  readonly silentSince: ReadonlyMap<string, Date>;
  /** As many lines were found as were asked for. */
  readonly enough: boolean;
  readonly nowMs: number;
}

/** Machine by machine; what is the same of all there are is said once, as where a search is refused by each of them. */
function gapTexts({ coverage: { gaps, machines } }: Seen, telling: Telling): string[] {
  const texts = gaps.map((gap) => gapText(gap, telling));
  const [first] = texts;
  if (first !== undefined && gaps.length > 1 && gaps.length === machines && texts.every((text) => text === first))
    return [`  each machine  ${first}`];
  return gaps.map(({ machineName }, index) => `  ${machineName || 'this machine'}  ${texts[index] ?? ''}`);
}

/** What was seen and what was not, for people: each on one line, whatever names and messages of machines hold. */
export function coverageText(seen: Seen, telling: Telling): string[] {
  const { ended, nowMs } = telling;
  const { files, bytes, hits, first, last, gaps } = seen.coverage;
  const span = first && last ? `, lines of ${clockTime(first, nowMs)} to ${clockTime(last, nowMs)}` : '';
  const said = gaps.map(({ message }) => message).join('\n');
  const problems = ended.flatMap(({ machineName, search }) =>
    (search?.problems ?? [])
      .filter((problem) => !said.includes(problem))
      .map((problem) => `  ${machineName === '' ? '' : `${machineName}  `}${problem}`),
  );
  return [
    `${headText(seen, isComplete(seen))}: ${counted(files, 'file')}, ${formatSize(bytes)}${span}; ${counted(hits, 'matching line')}`,
    ...bounded(gapTexts(seen, telling), 'machines'),
    ...(seen.unanswered > 0 ? [`  ${counted(seen.unanswered, 'machine')} had not answered`] : []),
    ...bounded(problems, 'remarks'),
  ].map(inertLine);
}
