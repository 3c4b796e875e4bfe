import { Message } from '../../../generated/muster/v1/queue.js';
import type { HeldFrame } from './held-frame.js';
import type { NackOptions } from './settler.js';

const PAYLOAD = 1;
const NOTHING = Buffer.alloc(0);

/** A message that was delivered. Settle it, by ack() or nack(), within its lease; until then it counts against the credit. */
export class Delivery {
  /** The content. Shares memory with the other messages of its frame: copy what is kept for long. */
  readonly payload: Buffer;
  readonly #held: HeldFrame;
  readonly #index: number;
  /** The message has more than its payload. */
  readonly #more: boolean;
  #decoded: Message | undefined;

  /** Made by the library. @throws invalid */
  constructor(held: HeldFrame, index: number) {
    this.#held = held;
    this.#index = index;
    const reader = held.frame.fields(index);
    let payload: Buffer | undefined;
    let more = false;
    while (reader.next()) {
      if (reader.field === PAYLOAD) payload = reader.value();
      else {
        more = true;
        reader.skip();
      }
    }
    this.payload = payload ?? NOTHING;
    this.#more = more;
  }

  /** The content as text, UTF-8. */
  text(): string {
    return this.payload.toString('utf8');
  }

  get attributes(): Readonly<Record<string, string>> {
    return this.#more ? this.#message().attributes : {};
  }

  /** Empty for none. */
  get key(): string {
    return this.#more ? this.#message().key : '';
  }

  get dedupeId(): string {
    return this.#more ? this.#message().dedupeId : '';
  }

  /** Its place in the topic. */
  get sequence(): number {
    return this.#held.frame.place(this.#index).sequence;
  }

  /** 1 for the first delivery to the subscription. */
  get attempt(): number {
    return this.#held.frame.place(this.#index).run.attempt;
  }

  get published(): Date | undefined {
    return this.#held.frame.place(this.#index).run.published;
  }

  /** Done: never delivered to this subscription again. Told to the queue at the end of this turn; use acked() to know that it was. */
  ack(): void {
    this.#held.ack(this.#index);
  }

  /** Not done: deliver it again, after the subscription's backoff unless told otherwise, or make it a dead letter. */
  nack(options: NackOptions = {}): void {
    this.#held.settle(this.#index, { kind: 'nack', options });
  }

  /** The lease begins anew, and lasts so many milliseconds; default: the subscription's lease. */
  extend(leaseMs?: number): void {
    this.#held.settle(this.#index, { kind: 'extend', leaseMs });
  }

  /**
   * ack(), and resolves when that is on the queue's disk.
   * @throws precondition, reason LEASE_OVER or ALREADY_SETTLED; unavailable, reason STREAM_LOST, when the connection was lost: the message
   * is then delivered again, unless the queue had heard of it
   */
  acked(): Promise<void> {
    return this.#held.confirmed(this.#index, { kind: 'ack' });
  }

  /** nack(), and resolves when that is on the queue's disk. @throws as acked() */
  nacked(options: NackOptions = {}): Promise<void> {
    return this.#held.confirmed(this.#index, { kind: 'nack', options });
  }

  #message(): Message {
    this.#decoded ??= Message.decode(this.#held.frame.message(this.#index));
    return this.#decoded;
  }
}

/** The messages of one frame, for volume: they are decoded when they are asked for, and can be settled together. */
export class DeliveryBatch implements Iterable<Delivery> {
  readonly #held: HeldFrame;

  /** Made by the library. */
  constructor(held: HeldFrame) {
    this.#held = held;
  }

  /** Messages in it. */
  get count(): number {
    return this.#held.frame.count;
  }

  /** Sequence of the first message. Those of the others follow by one, except where messages between were not delivered with it. */
  get firstSequence(): number {
    return this.#held.frame.place(0).sequence;
  }

  /** @throws RangeError */
  at(index: number): Delivery {
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw new RangeError(`there is no message ${index} in a batch of ${this.count}`);
    }
    return new Delivery(this.#held, index);
  }

  *[Symbol.iterator](): Iterator<Delivery> {
    for (let index = 0; index < this.count; index += 1) yield new Delivery(this.#held, index);
  }

  /** Acknowledges all that are not settled. */
  ackAll(): void {
    this.#held.settleRest({ kind: 'ack' });
  }

  /** Gives back all that are not settled. */
  nackAll(options: NackOptions = {}): void {
    this.#held.settleRest({ kind: 'nack', options });
  }

  /** The leases of all that are not settled begin anew. */
  extendAll(leaseMs?: number): void {
    this.#held.settleRest({ kind: 'extend', leaseMs });
  }

  /** ackAll(), and resolves when that is on the queue's disk. @throws as Delivery.acked() */
  ackedAll(): Promise<void> {
    this.ackAll();
    return this.#held.confirm(0, this.count - 1);
  }
}
