/** A search in a service's logs, in domain words. Times are wall-clock milliseconds since the Unix epoch. */

export interface LogSearch {
  /** Plain text, or a POSIX extended regular expression; never empty, no line ends. */
  readonly pattern: string;
  readonly regex: boolean;
  readonly ignoreCase: boolean;
  /** Only lines written at or after this. */
  readonly sinceMs: number | undefined;
  /** Only lines written before this. */
  readonly untilMs: number | undefined;
  /** Lines shown before and after each hit. */
  readonly before: number;
  readonly after: number;
  /** Matching lines, context not counted. */
  readonly linesMax: number;
  /** Bytes of log (uncompressed) read on one machine. */
  readonly bytesMax: number;
  /** Processor time used on one machine, milliseconds. */
  readonly cpuMs: number;
  /** One log of the service by name; empty: all of them. */
  readonly file: string;
}

/** A line that was found, or one around it. */
export interface LogHit {
  /** Inside the log directory, or JOURNAL. */
  readonly file: string;
  /** From 1, as in the uncompressed file; 0 in the journal. */
  readonly line: number;
  readonly timeMs: number | undefined;
  readonly text: string;
  readonly truncated: boolean;
  /** It does not match: it stands around a line that does. */
  readonly context: boolean;
  /** It does not follow the line before it in the file. */
  readonly separate: boolean;
  /** Version of the service that ran when it was written; empty where that cannot be known. */
  readonly release: string;
}

/** What LogHit.file is for a line of systemd's journal. */
export const JOURNAL = 'journal';

export const SEARCH_LIMITS = ['LINES', 'BYTES', 'CPU', 'CANCELLED', 'PROBLEM', 'TIME'] as const;
/** Why a search did not see everything. */
export type SearchLimit = (typeof SEARCH_LIMITS)[number];

/** What a search of one machine looked at. */
export interface SearchReport {
  /** Searched to their end, or to the end of the asked time. */
  readonly files: number;
  readonly filesTotal: number;
  /** Bytes of log (uncompressed) that were read. */
  readonly bytes: number;
  /** Matching lines that were sent. */
  readonly hits: number;
  /** First and last time seen in what was searched. */
  readonly firstMs: number | undefined;
  readonly lastMs: number | undefined;
  /** Empty: everything asked for was seen. */
  readonly limits: readonly SearchLimit[];
  /** One sentence each, at most SEARCH_PROBLEMS_MAX. */
  readonly problems: readonly string[];
  readonly tookMs: number;
}

export const SEARCH_PROBLEMS_MAX = 20;
/** UTF-8 bytes of a pattern. */
export const PATTERN_BYTES_MAX = 1000;
export const SEARCH_CONTEXT_MAX = 100;
export const SEARCH_LINES_DEFAULT = 1000;
export const SEARCH_LINES_MAX = 100_000;
export const SEARCH_BYTES_DEFAULT = 16 * 1024 ** 3;
export const SEARCH_CPU_DEFAULT_MS = 60_000;
export const SEARCH_CPU_MAX_MS = 3_600_000;
/** Of a hit's text, UTF-8. */
export const HIT_BYTES_MAX = 16 * 1024;
