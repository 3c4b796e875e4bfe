import type { LogLine } from '../../../generated/muster/v1/types.js';
import { sleep } from '../../kit/clock.js';
import { isCode } from '../../kit/errors.js';
import type { Io } from '../io.js';

const AGAIN_MS = 500;
/** A call that lasts so long is taken to be read from, though no line has come. */
const SETTLED_MS = 2000;
/** Lines asked of logs that gave none before: what they have now is new, as far as one call gives it. */
const NEW_LINES_MAX = 10_000;

/** What is asked for: the last lines, or what is behind the positions, by machine name. */
export interface TailAsked {
  readonly lines: number;
  readonly positions: Readonly<Record<string, string>>;
}

export interface TailListener {
  /** A listener that takes its time holds the lines back. */
  readonly line: (line: LogLine) => Promise<void>;
  /** Whom lines come from cannot be reached. */
  readonly away: () => Promise<void>;
  readonly back: () => Promise<void>;
}

export interface TailCall {
  readonly lines: number;
  readonly follow: boolean;
  readonly open: (asked: TailAsked, signal: AbortSignal) => AsyncIterable<LogLine>;
}

/** Lines of logs, over ends of whom they come from: each call goes on behind the last line that was had of each machine. */
export class TailFollower {
  readonly #io: Io;
  readonly #call: TailCall;
  readonly #listener: TailListener;
  /** At most as many as machines that are read at once. */
  readonly #positions: Record<string, string> = {};
  #isAway = false;
  /** Whether a call once lasted: from then on it is tried again without end. */
  #settled = false;

  constructor(io: Io, call: TailCall, listener: TailListener) {
    this.#io = io;
    this.#call = call;
    this.#listener = listener;
  }

  /** Resolves at the end of the logs, or when the user has seen enough. @throws what is refused, and without `follow` what broke off */
  async run(): Promise<void> {
    for (;;) {
      const failure = await this.#once();
      if (this.#io.signal.aborted) return;
      if (!this.#call.follow || !this.#settled) {
        if (failure) throw failure.error;
        return;
      }
      // One that ends in good order ends its calls without a failure.
      if (failure && !isCode(failure.error, 'unavailable', 'cancelled', 'deadline')) throw failure.error;
      if (!this.#isAway) await this.#listener.away();
      this.#isAway = true;
      await sleep(this.#io.clock, AGAIN_MS, this.#io.signal).catch(() => undefined);
    }
  }

  async #once(): Promise<{ readonly error: unknown } | undefined> {
    const { clock, signal } = this.#io;
    const lines = this.#settled ? NEW_LINES_MAX : this.#call.lines;
    const settling = clock.after(SETTLED_MS, () => void this.#lasts());
    try {
      for await (const line of this.#call.open({ lines, positions: { ...this.#positions } }, signal)) {
        if (!line.notice) await this.#lasts();
        await this.#listener.line(line);
        if (line.position !== '') this.#positions[line.machineName] = line.position;
      }
      return undefined;
    } catch (error) {
      return { error };
    } finally {
      settling.cancel();
    }
  }

  async #lasts(): Promise<void> {
    const wasAway = this.#isAway;
    this.#isAway = false;
    this.#settled = true;
    if (wasAway) await this.#listener.back();
  }
}
