import { framedBytes, isDelayed, MessageWriter, type OutgoingMessage } from './message.js';
import type { Waiter } from './receipts.js';

/** Room before the messages for the frame's tag and length, filled in when it is sent. */
const HEADER_BYTES = 6;
/** Room behind them for the batch's number. */
const TRAILER_BYTES = 12;
const INITIAL_BYTES = 4096;

/** `PublishStreamRequest.batch = 2`, and `PublishBatch.batch = 2`, a number. */
const FRAME_BATCH = 0x12;
const BATCH_NUMBER = 0x10;

/** Nothing waits for any message of most batches: their lists are never made. */
const NONE: readonly never[] = [];

/** Messages that go together, encoded as they were added. It is kept until the queue has answered, to be sent again over a new connection. */
export class OutgoingBatch {
  #count = 0;
  #waiters: Waiter[] | undefined;
  #delayed: number[] | undefined;
  #writer: MessageWriter;

  /** `buffer` is filled from its start, and replaced by a larger one where it is too small. */
  constructor(buffer: Buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES)) {
    this.#writer = new MessageWriter(buffer);
    this.#writer.at = HEADER_BYTES;
  }

  /** Messages in it. */
  get count(): number {
    return this.#count;
  }

  /** Encoded bytes of its messages. */
  get bytes(): number {
    return this.#writer.at - HEADER_BYTES;
  }

  /** Who waits for which message. */
  get waiters(): readonly Waiter[] {
    return this.#waiters ?? NONE;
  }

  /** Places of the messages that enter the topic later, rising. */
  get delayed(): readonly number[] {
    return this.#delayed ?? NONE;
  }

  /** The memory of the batch, for another one. Not to be used before the transport has let go of the frame. */
  get buffer(): Buffer {
    return this.#writer.bytes;
  }

  /** Adds one message; `encoded` is what encodedBytes says of it. */
  add(message: OutgoingMessage, encoded: number): void {
    const needed = this.#writer.at + framedBytes(encoded) + TRAILER_BYTES;
    if (needed > this.#writer.bytes.length) this.#grow(needed);
    if (isDelayed(message)) (this.#delayed ??= []).push(this.#count);
    this.#writer.message(message, encoded);
    this.#count += 1;
  }

  /** Somebody waits for the message added last. */
  wait({ resolve, reject }: Pick<Waiter, 'resolve' | 'reject'>): void {
    (this.#waiters ??= []).push({ index: this.#count - 1, resolve, reject });
  }

  /** The frame of the stream that carries it as number `batch`: the batch's own bytes, not a copy. May be made anew with another number. */
  frame(batch: number): Buffer {
    const { bytes, at: end } = this.#writer;
    this.#writer.tagged(BATCH_NUMBER, batch);
    const until = this.#writer.at;
    this.#writer.at = end;
    const from = this.#header(until - HEADER_BYTES);
    return bytes.subarray(from, until);
  }

  /** Writes the frame's tag and length so that they end where the messages begin; answers with where they begin. */
  #header(length: number): number {
    const header = new MessageWriter(Buffer.allocUnsafe(HEADER_BYTES));
    header.tagged(FRAME_BATCH, length);
    const from = HEADER_BYTES - header.at;
    header.bytes.copy(this.#writer.bytes, from, 0, header.at);
    return from;
  }

  #grow(needed: number): void {
    const { bytes, at } = this.#writer;
    const larger = new MessageWriter(Buffer.allocUnsafeSlow(Math.max(needed, bytes.length * 2)));
    bytes.copy(larger.bytes, HEADER_BYTES, HEADER_BYTES, at);
    larger.at = at;
    this.#writer = larger;
  }
}
