import type { MusterError } from '../kit/errors.js';
import type { Frame, Sink } from './delivery.js';
import type { Failure } from './subscription/types.js';

/** Frames handed to the stream of a consumer and not yet taken by its connection. At it nothing more is granted to this consumer; others go on. */
const FRAMES_WAITING_MAX = 4;

/** Sends a frame; resolves when there is room for more. */
export type SendFrame = (frame: Frame) => Promise<void>;

/** What a consumer's stream says of settling. */
export interface SettledNotice {
  readonly id: number;
  readonly failures: readonly Failure[];
}

/** One consumer's stream as the delivery sees it. */
export class StreamConsumer implements Sink {
  readonly name: string;
  readonly #send: SendFrame;
  readonly #onRoom: () => void;
  readonly #onEnd: (reason: unknown) => void;
  #waiting = 0;
  #full = false;

  constructor(name: string, on: { send: SendFrame; room: () => void; end: (reason: unknown) => void }) {
    this.name = name;
    this.#send = on.send;
    this.#onRoom = on.room;
    this.#onEnd = on.end;
  }

  deliver(frame: Frame): boolean {
    this.#waiting += 1;
    this.#send(frame).then(this.#sent, this.#onEnd);
    this.#full = this.#waiting >= FRAMES_WAITING_MAX;
    return !this.#full;
  }

  end(reason: MusterError): void {
    this.#onEnd(reason);
  }

  readonly #sent = (): void => {
    this.#waiting -= 1;
    if (!this.#full || this.#waiting > 0) return;
    this.#full = false;
    this.#onRoom();
  };
}

/** Settle frames of one stream that are not answered yet. At it the stream is not read. */
const UNANSWERED_MAX = 4096;
/** Failures told in their answers. At it the stream is not read. */
const UNANSWERED_FAILURES_MAX = 16_384;

/**
 * Answers settle frames in order, each once what it settled is durable: what becomes durable together is answered together, under the newest id.
 */
export class SettledNotices {
  readonly #answer: (notice: SettledNotice) => Promise<void>;
  readonly #onFailure: (error: unknown) => void;
  #waiting: { readonly notice: SettledNotice; readonly stored: Promise<void> }[] = [];
  #failures = 0;
  #running = false;
  #ran: Promise<void> | undefined;

  constructor(answer: (notice: SettledNotice) => Promise<void>, onFailure: (error: unknown) => void) {
    this.#answer = answer;
    this.#onFailure = onFailure;
  }

  add(notice: SettledNotice, stored: Promise<void>): void {
    this.#waiting.push({ notice, stored });
    this.#failures += notice.failures.length;
    if (this.#running) return;
    this.#running = true;
    this.#ran = this.#run();
  }

  /** Whether the stream must wait before it reads on. */
  get isFull(): boolean {
    return this.#waiting.length >= UNANSWERED_MAX || this.#failures >= UNANSWERED_FAILURES_MAX;
  }

  /** Resolves when all is answered. */
  async idle(): Promise<void> {
    while (this.#running) await this.#ran;
  }

  async #run(): Promise<void> {
    try {
      for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
        const { stored } = first;
        await stored;
        const notice = this.#takeStored(stored);
        await this.#answer(notice);
        this.#failures -= notice.failures.length;
      }
    } catch (error) {
      this.#onFailure(error);
    } finally {
      this.#running = false;
    }
  }

  /** All at the front that one group stored. */
  #takeStored(stored: Promise<void>): SettledNotice {
    const behind = this.#waiting.findIndex((one) => one.stored !== stored);
    const together = this.#waiting.splice(0, behind < 0 ? this.#waiting.length : behind);
    return {
      id: together.at(-1)?.notice.id ?? 0,
      failures: together.flatMap(({ notice }) => notice.failures),
    };
  }
}
