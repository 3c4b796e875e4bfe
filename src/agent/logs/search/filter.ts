import type { LogBytes } from './bytes.js';
import type { PrintedLine } from './output.js';
import { lastTimed, type TimeSpan } from './stretch.js';
import { timeOf, type LineTime } from './times.js';

export interface FilterOptions {
  readonly span: TimeSpan;
  readonly referenceMs: number;
  /** Where the times of lines before a hit are looked up; undefined: a line without a time is in the span. */
  readonly bytes: LogBytes | undefined;
  /** What a line without a time belongs to at the beginning of the file. */
  readonly earlierMs: number | undefined;
}

/** Which printed lines were written in a span of time. Lines come in their order. */
export class TimeFilter {
  readonly #options: FilterOptions;
  /** Of all lines that begin before `offset`, the last one with a time has this one. */
  #known: { offset: number; ms: number | undefined };

  constructor(options: FilterOptions) {
    this.#options = options;
    this.#known = { offset: options.bytes?.begin ?? 0, ms: options.earlierMs };
  }

  timeOf(text: string): LineTime | undefined {
    return timeOf(text, this.#options.referenceMs);
  }

  /** @param offset of the line in the file */
  async keeps(printed: PrintedLine, offset: number): Promise<boolean> {
    const { sinceMs = -Infinity, untilMs = Infinity } = this.#options.span;
    if (sinceMs === -Infinity && untilMs === Infinity) return true;
    const ms = this.timeOf(printed.text)?.ms ?? (await this.#ownerMs(offset));
    return ms === undefined || (ms >= sinceMs && ms < untilMs);
  }

  /** The time of the last line before `offset` that has one. Each byte is looked at once at most. */
  async #ownerMs(offset: number): Promise<number | undefined> {
    const { bytes, referenceMs } = this.#options;
    if (!bytes) return undefined;
    if (offset <= this.#known.offset) return this.#known.ms;
    const line = await lastTimed(bytes, this.#known.offset, offset, referenceMs);
    this.#known = { offset, ms: line?.ms ?? this.#known.ms };
    return this.#known.ms;
  }
}
