import type { LogHit, LogSearch } from '../../../model/log-search.js';
import type { PrintedLine } from './output.js';
import type { Progress } from './report.js';

/** Hits handed on together, and bytes of their text. */
export const BATCH_HITS_MAX = 256;
export const BATCH_BYTES_MAX = 256 * 1024;

/** What a hit carries beside what grep says of it. */
export type HitFacts = Pick<LogHit, 'file' | 'line' | 'timeMs' | 'release'>;

/** Makes hits of the lines of one file, up to the number asked for, and batches of hits. */
export class Collector {
  readonly #search: Pick<LogSearch, 'linesMax' | 'before' | 'after'>;
  readonly #progress: Progress;
  /** Lines before a hit that may come: at most `before`. */
  #leading: LogHit[] = [];
  #batch: LogHit[] = [];
  #bytes = 0;
  #lastMatch = -Infinity;
  #lastShown = -Infinity;

  constructor(search: Pick<LogSearch, 'linesMax' | 'before' | 'after'>, progress: Progress) {
    this.#search = search;
    this.#progress = progress;
  }

  /** Whether there is enough for a batch. */
  get full(): boolean {
    return this.#batch.length >= BATCH_HITS_MAX || this.#bytes >= BATCH_BYTES_MAX;
  }

  /** False: it is one more than asked for, and was not taken. */
  take({ match, text, truncated }: PrintedLine, facts: HitFacts): boolean {
    const hit: LogHit = { ...facts, text, truncated, context: !match, separate: false };
    if (match) return this.#takeMatch(hit);
    if (hit.line <= this.#lastMatch + this.#search.after) this.#show(hit);
    else this.#leading = [...this.#leading, hit].slice(-Math.max(this.#search.before, 1));
    return true;
  }

  /** What there is; empty where there is nothing. */
  drain(): readonly LogHit[] {
    const batch = this.#batch;
    this.#batch = [];
    this.#bytes = 0;
    return batch;
  }

  #takeMatch(hit: LogHit): boolean {
    if (this.#progress.hits >= this.#search.linesMax) return false;
    for (const before of this.#leading) if (before.line >= hit.line - this.#search.before) this.#show(before);
    this.#leading = [];
    this.#show(hit);
    this.#lastMatch = hit.line;
    this.#progress.hits += 1;
    return true;
  }

  #show(hit: LogHit): void {
    this.#batch.push({ ...hit, separate: hit.line !== this.#lastShown + 1 });
    this.#bytes += hit.text.length;
    this.#lastShown = hit.line;
  }
}
