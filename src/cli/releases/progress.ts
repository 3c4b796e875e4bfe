import { formatDuration, formatSize } from '../../kit/durations.js';
import type { Io } from '../io.js';
import { write, type Output } from '../output.js';

/** Between two looks at a terminal, and between two lines elsewhere. */
const REDRAW_MS = 100;
const LINE_MS = 5000;

/** Rates over less time than this say nothing. */
const RATE_AFTER_MS = 500;

/** `42% of 102 MB, 12 MB/s, 5s left`. */
export function shareText(bytes: number, total: number, rate: { readonly bytes: number; readonly ms: number }): string {
  const share = total === 0 ? 100 : Math.floor((100 * bytes) / total);
  const head = `${share}% of ${formatSize(total)}`;
  if (rate.ms < RATE_AFTER_MS || rate.bytes <= 0) return head;
  const leftMs = ((total - bytes) * rate.ms) / rate.bytes;
  const left = leftMs < 1000 ? '' : `, ${formatDuration(Math.round(leftMs / 1000) * 1000)} left`;
  return `${head}, ${formatSize((1000 * rate.bytes) / rate.ms)}/s${left}`;
}

/** How long work goes on, on one line that is drawn anew; where there is no terminal, a note every few seconds. */
export class ProgressLine {
  readonly #io: Io;
  readonly #output: Output;
  #shownMs: number;
  #drawn = false;

  constructor(io: Io, output: Output) {
    this.#io = io;
    this.#output = output;
    this.#shownMs = io.terminal ? -Infinity : io.clock.monotonic();
  }

  /** Shows it where the last one is old enough. */
  async show(text: () => string): Promise<void> {
    if (this.#output.json) return;
    const nowMs = this.#io.clock.monotonic();
    if (nowMs - this.#shownMs < (this.#io.terminal ? REDRAW_MS : LINE_MS)) return;
    this.#shownMs = nowMs;
    if (!this.#io.terminal) {
      await this.#output.note(text());
      return;
    }
    this.#drawn = true;
    await write(this.#io.stdout, `\r${text().slice(0, (this.#io.columns ?? 80) - 1)}\u001b[K`);
  }

  /** A note that is shown whatever was shown just before. */
  async note(text: string): Promise<void> {
    await this.clear();
    await this.#output.note(text);
  }

  /** Leaves nothing of the line behind. */
  async clear(): Promise<void> {
    if (this.#drawn) await write(this.#io.stdout, '\r\u001b[K');
    this.#drawn = false;
  }
}
