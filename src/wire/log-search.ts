import {
  LogSearch as WireSearch,
  type LogHit as WireHit,
  type SearchLimit as WireLimit,
  type SearchReport as WireReport,
} from '../../generated/muster/v1/types.js';
import { MusterError, type FieldViolation } from '../kit/errors.js';
import { formatDuration } from '../kit/durations.js';
import {
  PATTERN_BYTES_MAX,
  SEARCH_BYTES_DEFAULT,
  SEARCH_CONTEXT_MAX,
  SEARCH_CPU_DEFAULT_MS,
  SEARCH_CPU_MAX_MS,
  SEARCH_LIMITS,
  SEARCH_LINES_DEFAULT,
  SEARCH_LINES_MAX,
  SEARCH_PROBLEMS_MAX,
  type LogHit,
  type LogSearch,
  type SearchLimit,
  type SearchReport,
} from '../model/log-search.js';
import { fromDate, fromDuration, toDate, toDuration } from './time.js';

/** Searches in logs and what they found, between the contracts and the domain. Center, agent and command line speak them. */

/** Characters kept of a problem a peer tells of, and of a word such as a file's name. */
const PROBLEM_CHARACTERS_MAX = 500;
const WORD_CHARACTERS_MAX = 1024;

/**
 * Fills in the defaults.
 * @throws invalid naming each field that cannot be used
 */
export function fromWireSearch(wire: WireSearch | undefined): LogSearch {
  const { maxLines, maxBytes, maxCpu, since, until, ...plain } = wire ?? WireSearch.create();
  const search: LogSearch = {
    ...plain,
    sinceMs: fromDate(since),
    untilMs: fromDate(until),
    linesMax: maxLines || SEARCH_LINES_DEFAULT,
    bytesMax: maxBytes || SEARCH_BYTES_DEFAULT,
    cpuMs: fromDuration(maxCpu) || SEARCH_CPU_DEFAULT_MS,
  };
  const fields = mistakesOf(search);
  if (fields.length === 0) return search;
  const text = fields.map(({ field, description }) => `${field}: ${description}`).join('; ');
  throw new MusterError('invalid', `this search cannot be made: ${text}`, { reason: 'SEARCH', fields });
}

const RULES: readonly {
  readonly field: string;
  readonly holds: (search: LogSearch) => boolean;
  readonly description: string;
}[] = [
  { field: 'pattern', holds: ({ pattern }) => pattern !== '', description: 'must not be empty' },
  {
    field: 'pattern',
    holds: ({ pattern }) => Buffer.byteLength(pattern) <= PATTERN_BYTES_MAX && !/[\0\n\r]/.test(pattern),
    description: `must be at most ${PATTERN_BYTES_MAX} bytes, without line ends and zero bytes`,
  },
  {
    field: 'regex',
    holds: ({ pattern, regex }) => !regex || !/(?:^|[^\\])(?:\\\\)*\\[1-9]/.test(pattern),
    description: 'back references are not taken: matching them can take forever',
  },
  {
    field: 'regex',
    // They would be taken for the letter alone: nothing found, and nothing said.
    holds: ({ pattern, regex }) => !regex || !/(?:^|[^\\])(?:\\\\)*(?:\\[dDnrt]|\(\?)/.test(pattern),
    description: 'is POSIX extended: for \\d write [0-9]; \\n, \\t and (?...) are not in it',
  },
  {
    field: 'until',
    holds: ({ sinceMs, untilMs }) => sinceMs === undefined || untilMs === undefined || sinceMs < untilMs,
    description: 'must be later than since',
  },
  {
    field: 'context',
    holds: ({ before, after }) => [before, after].every((lines) => lines >= 0 && lines <= SEARCH_CONTEXT_MAX),
    description: `before and after must be between 0 and ${SEARCH_CONTEXT_MAX}`,
  },
  {
    field: 'max_lines',
    holds: ({ linesMax }) => linesMax > 0 && linesMax <= SEARCH_LINES_MAX,
    description: `must be between 1 and ${SEARCH_LINES_MAX}`,
  },
  { field: 'max_bytes', holds: ({ bytesMax }) => bytesMax > 0, description: 'must be above 0' },
  {
    field: 'max_cpu',
    holds: ({ cpuMs }) => cpuMs > 0 && cpuMs <= SEARCH_CPU_MAX_MS,
    description: `must be above 0 and at most ${formatDuration(SEARCH_CPU_MAX_MS)}`,
  },
];

function mistakesOf(search: LogSearch): FieldViolation[] {
  return RULES.filter(({ holds }) => !holds(search)).map(({ field, description }) => ({ field, description }));
}

export function toWireSearch(search: LogSearch): WireSearch {
  return {
    pattern: search.pattern,
    regex: search.regex,
    ignoreCase: search.ignoreCase,
    since: toDate(search.sinceMs),
    until: toDate(search.untilMs),
    before: search.before,
    after: search.after,
    maxLines: search.linesMax,
    maxBytes: search.bytesMax,
    maxCpu: toDuration(search.cpuMs),
    file: search.file,
  };
}

export function toWireHit(hit: LogHit, service: string, machineName: string): WireHit {
  const { file, line, text, truncated, context, separate, release } = hit;
  return { machineName, service, file, line, time: toDate(hit.timeMs), text, truncated, context, separate, release };
}

export const toWireLimit = (limit: SearchLimit): WireLimit => `SEARCH_LIMIT_${limit}`;

function fromWireLimit(wire: WireLimit): SearchLimit {
  return SEARCH_LIMITS.find((limit) => toWireLimit(limit) === wire) ?? 'PROBLEM';
}

export function toWireReport(report: SearchReport): WireReport {
  return {
    files: report.files,
    filesTotal: report.filesTotal,
    bytes: report.bytes,
    hits: report.hits,
    first: toDate(report.firstMs),
    last: toDate(report.lastMs),
    limits: report.limits.map(toWireLimit),
    problems: [...report.problems],
    took: toDuration(report.tookMs),
  };
}

/** What a peer tells is kept and sent on: so much of it and no more. */
export function fromWireReport(wire: WireReport): SearchReport {
  return {
    files: countOf(wire.files),
    filesTotal: countOf(wire.filesTotal),
    bytes: countOf(wire.bytes),
    hits: countOf(wire.hits),
    firstMs: fromDate(wire.first),
    lastMs: fromDate(wire.last),
    limits: [...new Set(wire.limits.map(fromWireLimit))],
    problems: wire.problems.slice(0, SEARCH_PROBLEMS_MAX).map((problem) => problem.slice(0, PROBLEM_CHARACTERS_MAX)),
    tookMs: countOf(fromDuration(wire.took) ?? 0),
  };
}

function countOf(told: number): number {
  return Math.min(Math.max(told, 0), Number.MAX_SAFE_INTEGER);
}

/** Longest name of a file that a hit may carry. */
export const HIT_FILE_CHARACTERS_MAX = WORD_CHARACTERS_MAX;
