import type { Readable } from 'node:stream';
import { MusterError } from '../kit/errors.js';

/**
 * Messages of one stream handed to the transport and not yet taken by it. At the bound send() waits, so a peer that does not
 * read holds its sender back: at most this many messages, plus one in the HTTP/2 stream, wait in memory.
 */
export const SEND_WINDOW_MESSAGES = 16;

type Write<T> = (message: T, taken: () => void) => void;

/** The sending half of a stream. Its signal aborts, with the failure as reason, when the call has ended. */
export class SendWindow<T> {
  readonly #write: Write<T>;
  readonly #ended: AbortSignal;
  #closed = false;
  #pending = 0;
  #waiting: (() => void)[] = [];

  constructor(write: Write<T>, ended: AbortSignal) {
    this.#write = write;
    this.#ended = ended;
    ended.addEventListener('abort', this.#wake, { once: true });
  }

  /** Messages the transport has not taken yet. */
  get pending(): number {
    return this.#pending;
  }

  /** No more messages: send() refuses from now on. False when that was so already. */
  close(): boolean {
    const first = !this.#closed;
    this.#closed = true;
    return first;
  }

  /**
   * Resolves when there is room for the next message.
   * @throws the call's failure once it has ended; precondition after close()
   */
  async send(message: T): Promise<void> {
    this.#ended.throwIfAborted();
    if (this.#closed) throw new MusterError('precondition', 'this stream was ended: nothing more can be sent on it');
    this.#pending += 1;
    this.#write(message, this.#taken);
    while (this.#pending >= SEND_WINDOW_MESSAGES) {
      this.#ended.throwIfAborted();
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
    this.#ended.throwIfAborted();
  }

  readonly #taken = (): void => {
    this.#pending -= 1;
    this.#wake();
  };

  readonly #wake = (): void => {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  };
}

export interface Receiving {
  /** What the reader is told of a failure. */
  readonly explain: (error: unknown) => unknown;
  /** Looks at each message before the reader gets it. @throws what the reader is told */
  readonly check?: (message: unknown) => unknown;
  /** Comes between the last message and the end of the loop. */
  readonly beforeEnd?: () => Promise<void>;
  /** Its owner answers the failure over the same stream, behind what was sent before: the stream is left to end by that. */
  readonly answersFailure?: boolean;
}

/** What the reader is told. */
function failed(source: Readable, { explain, answersFailure = false }: Receiving, failure: unknown): unknown {
  if (!answersFailure) source.destroy();
  return explain(failure);
}

/**
 * The messages of a stream, read one by one: what is not asked for stays with the peer. Leaving the loop early does not destroy the stream.
 * One generator that reads by itself, where Readable.iterator() would stand behind another: streams are many, live long and mostly wait.
 */
export async function* receive(source: Readable, receiving: Receiving): AsyncGenerator {
  const { check, beforeEnd } = receiving;
  let wake = (): void => undefined;
  // The first word on how it ended counts; what has arrived before is read all the same.
  let ending: { readonly failure?: unknown } | undefined;
  const onReadable = (): void => {
    wake();
  };
  const onEnd = (): void => {
    ending ??= {};
    wake();
  };
  const onError = (failure: unknown): void => {
    ending ??= { failure };
    wake();
  };
  const onClose = (): void => {
    onError(source.errored ?? new Error('the stream was closed before its end'));
  };
  source.on('readable', onReadable).on('end', onEnd).on('error', onError).on('close', onClose);
  if (source.readableEnded) onEnd();
  else if (source.closed) onClose();
  try {
    for (;;) {
      const message: unknown = source.destroyed ? null : source.read();
      if (message !== null) yield check ? check(message) : message;
      else if (ending) break;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    source.off('readable', onReadable).off('end', onEnd).off('error', onError).off('close', onClose);
  }
  if ('failure' in ending) throw failed(source, receiving, ending.failure);
  await beforeEnd?.();
}

/**
 * Settles as `work` does, or rejects with the signal's reason as soon as it aborts; `work` is then left to end by itself.
 */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = (): void => undefined;
  const gone = new Promise<never>((_, reject) => {
    stop = () => {
      reject(signal.reason as unknown);
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, gone]);
  } finally {
    signal.removeEventListener('abort', stop);
    work.catch(() => undefined);
    gone.catch(() => undefined);
  }
}
