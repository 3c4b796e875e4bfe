/**
 * Frames of the queue's contract, written and read by hand: the raw client shows what the server can do when the client costs nothing. The
 * numbers are those of proto/muster/v1/queue.proto.
 */

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length += 1;
  return length;
}

function writeVarint(into: Buffer, value: number, at: number): number {
  let rest = value;
  let next = at;
  while (rest >= 128) {
    into[next] = (rest % 128) + 128;
    rest = Math.floor(rest / 128);
    next += 1;
  }
  into[next] = rest;
  return next + 1;
}

/** PublishStreamRequest{batch: {messages: [{payload}, ...], batch}}. */
export function batchFrame(payloads: readonly Buffer[], batch: number): Buffer {
  let body = 1 + varintLength(batch);
  for (const { length } of payloads) {
    const message = 1 + varintLength(length) + length;
    body += 1 + varintLength(message) + message;
  }
  const frame = Buffer.allocUnsafe(1 + varintLength(body) + body);
  frame[0] = 0x12;
  let at = writeVarint(frame, body, 1);
  for (const payload of payloads) {
    frame[at] = 0x0a;
    at = writeVarint(frame, 1 + varintLength(payload.length) + payload.length, at + 1);
    frame[at] = 0x0a;
    at = writeVarint(frame, payload.length, at + 1);
    at += payload.copy(frame, at);
  }
  frame[at] = 0x10;
  writeVarint(frame, batch, at + 1);
  return frame;
}

/** SubscribeRequest{settle: {id, acks: [{first, last}]}}. */
export function settleFrame(id: number, first: number, last: number): Buffer {
  const range = 2 + varintLength(first) + varintLength(last);
  const body = 1 + varintLength(id) + 1 + varintLength(range) + range;
  const frame = Buffer.allocUnsafe(1 + varintLength(body) + body);
  frame[0] = 0x12;
  let at = writeVarint(frame, body, 1);
  frame[at] = 0x08;
  at = writeVarint(frame, id, at + 1);
  frame[at] = 0x12;
  at = writeVarint(frame, range, at + 1);
  frame[at] = 0x08;
  at = writeVarint(frame, first, at + 1);
  frame[at] = 0x10;
  writeVarint(frame, last, at + 1);
  return frame;
}

/** Goes over the fields of one encoded message. */
class Fields {
  readonly #bytes: Buffer;
  #at = 0;
  number = 0;
  /** Of a length-delimited field: its bytes; of a varint: empty, see `value`. */
  bytes: Buffer;
  value = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.bytes = bytes;
  }

  next(): boolean {
    if (this.#at >= this.#bytes.length) return false;
    const tag = this.#varint();
    this.number = tag >>> 3;
    this.value = this.#varint();
    if ((tag & 7) === 2) {
      this.bytes = this.#bytes.subarray(this.#at, this.#at + this.value);
      this.#at += this.value;
    } else if ((tag & 7) !== 0) throw new Error('the queue sent a field of an unknown kind');
    return true;
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#bytes[this.#at] ?? 0;
      this.#at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }
}

/** What a SubscribeResponse brought: deliveries, or something else that needs no answer. */
export interface Delivered {
  readonly payloads: readonly Uint8Array[];
  readonly firstDelivery: number;
}

export function readDeliveries(frame: Buffer): Delivered | undefined {
  const outer = new Fields(frame);
  if (!outer.next() || outer.number !== 2) return undefined;
  const payloads: Uint8Array[] = [];
  let firstDelivery = 0;
  const deliveries = new Fields(outer.bytes);
  while (deliveries.next()) {
    if (deliveries.number === 1) payloads.push(payloadOf(deliveries.bytes));
    else if (deliveries.number === 2) firstDelivery = deliveries.value;
  }
  return { payloads, firstDelivery };
}

function payloadOf(message: Buffer): Uint8Array {
  const fields = new Fields(message);
  while (fields.next()) if (fields.number === 1) return fields.bytes;
  return new Uint8Array();
}
