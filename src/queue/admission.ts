import { MusterError } from '../kit/errors.js';

/** Published bytes that are in memory and not yet on disk, over all publishers. At it publishers are held back by the flow control of their streams. */
export const ADMITTED_BYTES_MAX = 32 * 1024 * 1024;
/** Bytes that wait to be let in. At it publishers that cannot be held back are refused. */
export const WAITING_BYTES_MAX = 64 * 1024 * 1024;
const RETRY_AFTER_MS = 100;
/** What a batch takes beside its messages, about. */
const BATCH_BYTES = 512;

/** Lets so many bytes in at once; the others wait their turn. One that is larger than all goes alone. */
export class Admission {
  readonly #bytesMax: number;
  #bytes = 0;
  #waitingBytes = 0;
  #waiting: { bytes: number; enter: () => void }[] = [];

  constructor(bytesMax = ADMITTED_BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  /** Undefined: there is room, and it is taken. Otherwise resolves when it is. Give it back with release(). */
  enter(messageBytes: number): Promise<void> | undefined {
    const bytes = messageBytes + BATCH_BYTES;
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#bytes += bytes;
      return undefined;
    }
    this.#waitingBytes += bytes;
    return new Promise((resolve) => {
      this.#waiting.push({ bytes, enter: resolve });
    });
  }

  /** The same for one call, which has its whole request in memory while it waits. @throws exhausted, reason BUSY */
  async enterOnce(messageBytes: number): Promise<void> {
    if (this.#waitingBytes >= WAITING_BYTES_MAX) {
      throw new MusterError('exhausted', 'more is being published than the disk takes: try again in a moment', {
        reason: 'BUSY',
        retryAfterMs: RETRY_AFTER_MS,
      });
    }
    await this.enter(messageBytes);
  }

  release(messageBytes: number): void {
    this.#bytes -= messageBytes + BATCH_BYTES;
    let first = this.#waiting[0];
    while (first && this.#fits(first.bytes)) {
      this.#bytes += first.bytes;
      this.#waitingBytes -= first.bytes;
      this.#waiting.shift();
      first.enter();
      first = this.#waiting[0];
    }
  }

  #fits(bytes: number): boolean {
    return this.#bytes === 0 || this.#bytes + bytes <= this.#bytesMax;
  }
}
