import { sleep } from '../kit/clock.js';
import { inertLine } from './inert.js';
import type { Io } from './io.js';
import { write } from './output.js';

/** Nothing is shown of what is over sooner. */
const FIRST_MS = 1000;
const EVERY_MS = 250;
const COLUMNS_DEFAULT = 80;
const ERASE = '\r\u001b[K';

/** One line at the bottom of a terminal that says how far something is, and makes room for what is printed. */
export class StatusLine {
  readonly #io: Io;
  readonly #text: () => string;
  readonly #closed = new AbortController();
  readonly #running: Promise<void>;
  #shown = '';

  /** `text` is asked for again and again until close(). */
  constructor(io: Io, text: () => string) {
    this.#io = io;
    this.#text = text;
    this.#running = this.#run();
    // A terminal that has gone away is told of by close().
    this.#running.catch(() => undefined);
  }

  /** To be written before anything else is; the line comes back by itself. */
  erase(): string {
    const shown = this.#shown !== '';
    this.#shown = '';
    return shown ? ERASE : '';
  }

  async close(): Promise<void> {
    this.#closed.abort(new Error('closed'));
    await this.#running;
    await write(this.#io.stdout, this.erase());
  }

  async #run(): Promise<void> {
    const { signal } = this.#closed;
    await sleep(this.#io.clock, FIRST_MS, signal).catch(() => undefined);
    while (!signal.aborted) {
      const text = inertLine(this.#text()).slice(0, (this.#io.columns ?? COLUMNS_DEFAULT) - 1);
      if (text !== this.#shown) {
        this.#shown = text;
        await write(this.#io.stdout, `${ERASE}${text}`);
      }
      await sleep(this.#io.clock, EVERY_MS, signal).catch(() => undefined);
    }
  }
}
