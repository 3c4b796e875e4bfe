import { CenterService, type CommandOrder, type UploadOutputRequest } from '../../../generated/muster/v1/center.js';
import type { LogLine } from '../../../generated/muster/v1/types.js';
import { isCode, messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { createClient, type Channel } from '../../rpc/client.js';

/** A line as the log reader gives it. */
export interface TailLine {
  /** File name, inside the service's log directory. */
  readonly file: string;
  readonly text: string;
  /** It says something about the log instead of coming from it. */
  readonly notice: boolean;
  /** Where reading goes on behind it; empty for a notice. */
  readonly position: string;
}

export interface TailQuestion {
  readonly service: string;
  /** Lines from the end to begin with. */
  readonly lines: number;
  readonly follow: boolean;
  /** Go on behind this place; empty: begin with the last lines. */
  readonly position: string;
  /** Name of the log; empty: what the service prints. */
  readonly file: string;
}

/**
 * Reads a log of a service, some lines at a time, which go in one message: well below what one may have, however long the lines are. Ends
 * by itself without `follow`. @throws not_found, invalid
 */
export type TailLog = (question: TailQuestion, signal: AbortSignal) => AsyncIterable<readonly TailLine[]>;

export interface TailsOptions {
  readonly tail: TailLog;
  readonly channel: () => Channel | undefined;
  readonly machineName: () => string;
  readonly logger: Logger;
}

/** Logs sent to the center at the same time; beyond it an order is answered with an error. */
export const TAILS_MAX = 16;
export const TAIL_LINES_DEFAULT = 10;
export const TAIL_LINES_MAX = 10_000;

/**
 * Sends logs to the center as they are ordered, each in a call of its own beside the session. A center that takes them slowly holds
 * the reader back; a center that ends the call ends the reading.
 */
export class Tails {
  readonly #options: TailsOptions;
  readonly #running = new Map<string, AbortController>();

  constructor(options: TailsOptions) {
    this.#options = options;
  }

  /** Begins; answers with UploadOutput. A repeated order is the one that runs. */
  start(order: CommandOrder): void {
    const { command } = order;
    const channel = this.#options.channel();
    if (!channel || this.#running.has(command)) return;
    const controller = new AbortController();
    const tooMany = this.#running.size >= TAILS_MAX;
    this.#running.set(command, controller);
    const messages = tooMany ? refusal(command) : this.#messages(order, controller.signal);
    void this.#upload(channel, messages, controller).finally(() => this.#running.delete(command));
  }

  /** Whether there was one of that id. */
  cancel(command: string): boolean {
    const running = this.#running.get(command);
    running?.abort();
    return running !== undefined;
  }

  stop(): void {
    for (const controller of this.#running.values()) controller.abort();
  }

  async #upload(
    channel: Channel,
    messages: AsyncIterable<UploadOutputRequest>,
    controller: AbortController,
  ): Promise<void> {
    try {
      await createClient(CenterService, channel).uploadOutput(messages, { signal: controller.signal });
    } catch (error) {
      // The center ended it because nobody reads any more, or is gone: both are an end like any other.
      if (!isCode(error, 'unavailable', 'cancelled', 'deadline'))
        this.#options.logger.warn('a log could not be sent to the center', { error });
    } finally {
      controller.abort();
    }
  }

  async *#messages(order: CommandOrder, signal: AbortSignal): AsyncGenerator<UploadOutputRequest> {
    const { command, service } = order;
    const machineName = this.#options.machineName();
    yield { command, lines: [], hits: [], error: '' };
    try {
      for await (const batch of this.#options.tail(questionOf(order), signal)) {
        const wire = batch.map((line) => toWireLine(line, service, machineName));
        yield { command: '', lines: wire, hits: [], error: '' };
      }
    } catch (error) {
      if (!signal.aborted) yield { command: '', lines: [], hits: [], error: messageOf(error) };
    }
  }
}

function questionOf({ service, tail }: CommandOrder): TailQuestion {
  const { follow = false, position = '', file = '' } = tail ?? {};
  const lines = Math.min(tail?.lines ?? 0, TAIL_LINES_MAX) || TAIL_LINES_DEFAULT;
  return { service, lines, follow, position, file };
}

export function toWireLine(line: TailLine, service: string, machineName: string): LogLine {
  const { file, text, notice, position } = line;
  return { machineName, service, file, text, notice, position };
}

// eslint-disable-next-line @typescript-eslint/require-await -- the call takes an async iterable
async function* refusal(command: string): AsyncGenerator<UploadOutputRequest> {
  yield {
    command,
    lines: [],
    hits: [],
    error: `this machine already sends ${TAILS_MAX} logs to the center: end one of them first`,
  };
}
