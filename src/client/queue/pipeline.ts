import type { PublishAck } from '../../../generated/muster/v1/queue.js';
import { MusterError } from '../../kit/errors.js';
import { framedBytes, type OutgoingMessage } from './message.js';
import { OutgoingBatch } from './outgoing-batch.js';
import { refusalError, settleWaiters, type Waiter } from './receipts.js';

export interface PipelineLimits {
  /** Encoded bytes of one batch's messages; a larger message goes alone. */
  readonly batchBytesMax: number;
  readonly batchMessagesMax: number;
  /** Messages taken and not answered. At the bound nothing more is taken. */
  readonly inFlightMessagesMax: number;
  readonly inFlightBytesMax: number;
}

export interface PipelineOptions extends PipelineLimits {
  /** Whether a batch that was refused like this is to be sent again. */
  readonly again: (refusal: MusterError) => boolean;
  /** These many messages, for which nobody waits, were not stored. */
  readonly onFailed: (error: MusterError, messages: number) => void;
}

/** A batch that was sent, and its number. */
interface Sent {
  readonly batch: OutgoingBatch;
  readonly number: number;
}

/** Who waits for a message. */
export type Waiting = Pick<Waiter, 'resolve' | 'reject'>;

/** Before a refused batch is sent again, where the queue does not say how long to wait. */
const RETRY_AFTER_MS = 1000;
/** A batch before this one was refused: the queue takes a producer's batches in order and without gaps. */
const BATCH_GAP = 'BATCH_GAP';
/** Memory of answered batches kept for new ones. */
const SPARE_BUFFERS_MAX = 16;
/** Of one: buffers double, so that this holds a batch of the default size. */
const SPARE_BYTES_MAX = 512 * 1024;

/**
 * What a publisher holds, in the order it was added: messages in a batch that fills, full batches, and batches sent and not answered. No
 * transport, no time. Numbers go up by one from the newest batch the queue has stored, so a batch sent again after a lost connection is
 * recognized: it is stored once. After a refusal nothing new is sent until all that was sent is answered; then the numbers go on behind
 * what was stored, first with what is to be sent again, so that no message overtakes another.
 */
export class Pipeline {
  readonly #options: PipelineOptions;
  #filling = new OutgoingBatch();
  #ready: OutgoingBatch[] = [];
  #sent: Sent[] = [];
  /** Refused or overtaken by a refusal; sent again once `#sent` is empty. */
  #refused: OutgoingBatch[] = [];
  #recovering = false;
  #pauseMs = 0;
  #lastStored = 0;
  #nextNumber = 1;
  #messages = 0;
  #bytes = 0;
  #answered = 0;
  readonly #spare: Buffer[] = [];

  constructor(options: PipelineOptions) {
    this.#options = options;
  }

  /** Messages taken and not answered. */
  get messages(): number {
    return this.#messages;
  }

  /** Messages answered so far, well or not. Messages are answered in the order they were added. */
  get answered(): number {
    return this.#answered;
  }

  /** Messages taken so far. */
  get taken(): number {
    return this.#answered + this.#messages;
  }

  /** Batches sent and not answered. */
  get sent(): number {
    return this.#sent.length;
  }

  /** Messages in the batch that fills. */
  get filling(): number {
    return this.#filling.count;
  }

  hasRoom(encoded: number): boolean {
    const { inFlightMessagesMax, inFlightBytesMax } = this.#options;
    if (this.#messages === 0) return true;
    return this.#messages < inFlightMessagesMax && this.#bytes + framedBytes(encoded) <= inFlightBytesMax;
  }

  /** Takes a message, which somebody may wait for. True when a batch has become full and may be sent. */
  add(message: OutgoingMessage, encoded: number, waiter?: Waiting): boolean {
    const bytes = framedBytes(encoded);
    const { batchBytesMax, batchMessagesMax } = this.#options;
    const full = this.#filling.count > 0 && this.#filling.bytes + bytes > batchBytesMax;
    if (full) this.seal();
    this.#filling.add(message, encoded);
    if (waiter) this.#filling.wait(waiter);
    this.#messages += 1;
    this.#bytes += bytes;
    if (this.#filling.count < batchMessagesMax && this.#filling.bytes < batchBytesMax) return full;
    this.seal();
    return true;
  }

  /** The batch that fills may be sent as it is. */
  seal(): void {
    if (this.#filling.count === 0) return;
    this.#ready.push(this.#filling);
    this.#filling = new OutgoingBatch(this.#spare.pop());
  }

  /** A stream is open, and the newest batch of ours that the queue has stored is `lastStored`. Returns the frames to send first. */
  opened(lastStored: number): Buffer[] {
    this.#lastStored = lastStored;
    this.#nextNumber = lastStored + 1;
    const before = this.#sent;
    this.#sent = [];
    const unstored: OutgoingBatch[] = [];
    for (const sent of before) {
      if (sent.number > lastStored) unstored.push(sent.batch);
      // Its answer says the sequences, and that it is on disk.
      else this.#sent.push(sent);
    }
    this.#ready = [...this.#refused, ...unstored, ...this.#ready];
    this.#refused = [];
    this.#recovering = false;
    return this.#sent.map(({ batch, number }) => batch.frame(number));
  }

  /** The frame of the next batch, now sent; undefined when there is none or it has to wait. */
  next(): Buffer | undefined {
    if (this.#recovering) return undefined;
    const batch = this.#ready.shift();
    if (!batch) return undefined;
    const number = this.#nextNumber;
    this.#nextNumber += 1;
    this.#sent.push({ batch, number });
    return batch.frame(number);
  }

  /**
   * The queue has answered the oldest batch sent.
   * @throws internal when it is another one
   */
  answer(ack: PublishAck): void {
    const [sent] = this.#sent;
    if (sent?.number !== ack.batch) {
      throw new MusterError('internal', `the queue answered batch ${ack.batch}, which is not the oldest that was sent`);
    }
    this.#sent.shift();
    if (ack.refusal !== undefined) {
      this.#refusal(sent.batch, refusalError(ack.refusal));
      return;
    }
    this.#lastStored = Math.max(this.#lastStored, ack.batch);
    settleWaiters(sent.batch, ack);
    this.#done(sent.batch);
  }

  /**
   * To be asked after answers: how long to wait before next() gives what was refused; undefined as long as answers are missing, or when
   * nothing was refused.
   */
  recover(): number | undefined {
    if (!this.#recovering || this.#sent.length > 0) return undefined;
    const pauseMs = this.#pauseMs;
    this.#recovering = false;
    this.#pauseMs = 0;
    this.#ready = [...this.#refused, ...this.#ready];
    this.#refused = [];
    this.#nextNumber = this.#lastStored + 1;
    return pauseMs;
  }

  /** Gives up everything held. */
  fail(error: MusterError): void {
    this.seal();
    const held = [...this.#sent.map(({ batch }) => batch), ...this.#refused, ...this.#ready];
    this.#sent = [];
    this.#refused = [];
    this.#ready = [];
    this.#recovering = false;
    for (const batch of held) this.#failed(batch, error);
  }

  #refusal(batch: OutgoingBatch, refusal: MusterError): void {
    const overtaken = refusal.reason === BATCH_GAP && this.#recovering;
    const again = overtaken || this.#options.again(refusal);
    this.#recovering = true;
    if (!again) {
      this.#failed(batch, refusal);
      return;
    }
    if (!overtaken) this.#pauseMs = Math.max(this.#pauseMs, refusal.retryAfterMs ?? RETRY_AFTER_MS);
    this.#refused.push(batch);
  }

  #failed(batch: OutgoingBatch, error: MusterError): void {
    const unattended = batch.count - batch.waiters.length;
    for (const { reject } of batch.waiters) reject(error);
    if (unattended > 0) this.#options.onFailed(error, unattended);
    this.#done(batch);
  }

  #done(batch: OutgoingBatch): void {
    this.#messages -= batch.count;
    this.#bytes -= batch.bytes;
    this.#answered += batch.count;
    const { buffer } = batch;
    if (this.#spare.length < SPARE_BUFFERS_MAX && buffer.length <= SPARE_BYTES_MAX) this.#spare.push(buffer);
  }
}
