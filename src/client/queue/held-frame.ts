import { MusterError } from '../../kit/errors.js';
import { DeliveryRanges } from './delivery-ranges.js';
import { assertKnown, assertTime } from './options.js';
import type { ReceivedFrame } from './received-frame.js';
import type { NackOptions, Settler } from './settler.js';

/** What a frame needs of the stream it came on. */
export interface FrameStream {
  readonly settler: Settler;
  /** Whether deliveries of this stream can still be settled. */
  readonly alive: boolean;
  /** So many messages of the frame, which the program has, were settled. */
  settled(held: HeldFrame, messages: number): void;
}

export type Settlement =
  | { readonly kind: 'ack' }
  | { readonly kind: 'nack'; readonly options: NackOptions }
  | { readonly kind: 'extend'; readonly leaseMs: number | undefined };

const ACK = { kind: 'ack' } as const;
const NACK_OPTIONS: ReadonlySet<string> = new Set<keyof NackOptions>(['delayMs', 'deadLetter', 'reason']);

/** What cannot be sent would end the stream, and with it everything that is on its way there. @throws invalid */
function checked(settlement: Settlement): Settlement {
  if (settlement.kind === 'extend') assertTime('leaseMs', settlement.leaseMs);
  if (settlement.kind === 'nack') {
    assertKnown('nack', settlement.options, NACK_OPTIONS);
    assertTime('delayMs', settlement.options.delayMs);
  }
  return settlement;
}

/** What a byte of a frame's settled messages says. */
const SAID = { ack: 1, nack: 2 } as const;

/** A frame and what of it is settled. Each message is settled once: what is said of it afterwards changes nothing. */
export class HeldFrame {
  readonly frame: ReceivedFrame;
  readonly stream: FrameStream;
  /** Monotonic milliseconds. */
  readonly receivedMs: number;
  /** Messages the program was given, from the front. */
  given = 0;
  #open: number;
  /** One byte a message, how it was settled; made when the first is settled alone. */
  #settled: Uint8Array | undefined;
  /** How the rest was settled. */
  #rest: keyof typeof SAID | undefined;

  constructor(frame: ReceivedFrame, stream: FrameStream, receivedMs: number) {
    this.frame = frame;
    this.stream = stream;
    this.receivedMs = receivedMs;
    this.#open = frame.count;
  }

  /** Messages that are not settled. */
  get open(): number {
    return this.#open;
  }

  isSettled(index: number): boolean {
    return this.#open === 0 || (this.#settled?.[index] ?? 0) > 0;
  }

  ack(index: number): void {
    this.settle(index, ACK);
  }

  /** Says what became of the message at `index`. */
  settle(index: number, settlement: Settlement): void {
    checked(settlement);
    if (this.isSettled(index)) return;
    const delivery = this.frame.firstDelivery + index;
    if (settlement.kind !== 'extend') {
      this.#settled ??= new Uint8Array(this.frame.count);
      this.#settled[index] = SAID[settlement.kind];
      this.#open -= 1;
    }
    this.#tell({ first: delivery, last: delivery }, settlement);
    if (settlement.kind !== 'extend') this.stream.settled(this, 1);
  }

  /** Says the same of all that are not settled. */
  settleRest(settlement: Settlement): void {
    checked(settlement);
    const open = this.#open;
    const ranges = this.#openRanges();
    if (settlement.kind !== 'extend' && open > 0) {
      this.#open = 0;
      this.#rest = settlement.kind;
    }
    for (const range of ranges) this.#tell(range, settlement);
    if (settlement.kind !== 'extend' && open > 0) this.stream.settled(this, open);
  }

  /**
   * Settles the message at `index`; resolves when that is on the queue's disk.
   * @throws precondition, reason ALREADY_SETTLED when the program had said otherwise before; unavailable
   */
  confirmed(index: number, settlement: Exclude<Settlement, { kind: 'extend' }>): Promise<void> {
    this.settle(index, settlement);
    const said = this.#settled?.[index];
    const before = said ? (said === SAID.ack ? 'ack' : 'nack') : this.#rest;
    if (before === settlement.kind) return this.confirm(index, index);
    const how = before === 'ack' ? 'acknowledged' : 'given back';
    const message = `the message was ${how} by this program before, and stays so: settle each message once`;
    return Promise.reject(new MusterError('precondition', message, { reason: 'ALREADY_SETTLED' }));
  }

  /**
   * Resolves when what was just said of the messages from `first` to `last` is on the queue's disk.
   * @throws precondition, unavailable
   */
  confirm(first: number, last: number): Promise<void> {
    if (!this.stream.alive) return Promise.reject(lostError());
    const { firstDelivery } = this.frame;
    return this.stream.settler.confirm({ first: firstDelivery + first, last: firstDelivery + last });
  }

  #tell(deliveries: { first: number; last: number }, settlement: Settlement): void {
    const { settler } = this.stream;
    switch (settlement.kind) {
      case 'ack':
        settler.ack(deliveries, (this.frame.bytes * (deliveries.last - deliveries.first + 1)) / this.frame.count);
        break;
      case 'nack':
        settler.nack(deliveries, settlement.options);
        break;
      case 'extend':
        settler.extend(deliveries, settlement.leaseMs);
        break;
    }
  }

  #openRanges(): readonly { first: number; last: number }[] {
    const { firstDelivery, count } = this.frame;
    if (this.#open === 0) return [];
    if (!this.#settled) return [{ first: firstDelivery, last: firstDelivery + count - 1 }];
    const ranges = new DeliveryRanges();
    for (const [index, settled] of this.#settled.entries()) {
      if (settled === 0) ranges.add(firstDelivery + index, firstDelivery + index);
    }
    return ranges.take();
  }
}

/** What is said of deliveries whose stream is gone. */
export function lostError(): MusterError {
  return new MusterError(
    'unavailable',
    'the connection the message came over is lost, so it cannot be settled: it is delivered again, unless it was settled before',
    { reason: 'STREAM_LOST' },
  );
}
