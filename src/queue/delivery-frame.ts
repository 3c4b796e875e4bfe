/**
 * The frame that carries messages to a consumer, written around their stored bytes: SubscribeResponse { deliveries } of the contract, encoded by
 * hand because everything but a few numbers is copied as it lies on disk.
 */
import { FieldWriter, numberFieldBytes, varintBytes } from '../rpc/framing.js';

/** Fields of SubscribeResponse, Deliveries, Run and Timestamp. */
const DELIVERIES = 2;
const FIRST_DELIVERY = 2;
const RUNS = 3;
const RUN = { firstSequence: 1, count: 2, published: 3, attempt: 4 } as const;
const TIMESTAMP = { seconds: 1, nanos: 2 } as const;

/** Messages with consecutive sequences, and their encoded `messages` fields. */
export interface FramedRun {
  readonly firstSequence: number;
  readonly count: number;
  readonly attempt: number;
  readonly publishedMs: number;
  readonly messages: Buffer;
}

interface SizedRun {
  readonly run: FramedRun;
  readonly seconds: number;
  readonly nanos: number;
  readonly timestampBytes: number;
  readonly bytes: number;
}

function sized(run: FramedRun): SizedRun {
  const seconds = Math.floor(run.publishedMs / 1000);
  const nanos = (run.publishedMs % 1000) * 1_000_000;
  const timestampBytes = numberFieldBytes(seconds) + numberFieldBytes(nanos);
  const bytes =
    numberFieldBytes(run.firstSequence) +
    numberFieldBytes(run.count) +
    1 +
    varintBytes(timestampBytes) +
    timestampBytes +
    numberFieldBytes(run.attempt);
  return { run, seconds, nanos, timestampBytes, bytes };
}

function writeRun(writer: FieldWriter, { run, seconds, nanos, timestampBytes, bytes }: SizedRun): void {
  writer.length(RUNS, bytes);
  writer.number(RUN.firstSequence, run.firstSequence);
  writer.number(RUN.count, run.count);
  writer.length(RUN.published, timestampBytes);
  writer.number(TIMESTAMP.seconds, seconds);
  writer.number(TIMESTAMP.nanos, nanos);
  writer.number(RUN.attempt, run.attempt);
}

/** Below this it costs more to leave a frame to the transport than to copy it once more. */
const WRITTEN_LATER_MIN_BYTES = 8 * 1024;

/** An encoded SubscribeResponse, not yet written. */
class SizedFrame {
  readonly bytes: number;
  readonly #body: number;
  readonly #firstDelivery: number;
  readonly #runs: readonly SizedRun[];

  constructor(firstDelivery: number, runs: readonly FramedRun[]) {
    this.#firstDelivery = firstDelivery;
    this.#runs = runs.map(sized);
    let body = numberFieldBytes(firstDelivery);
    for (const { run, bytes } of this.#runs) body += run.messages.length + 1 + varintBytes(bytes) + bytes;
    this.#body = body;
    this.bytes = 1 + varintBytes(body) + body;
  }

  writeTo(target: Buffer, at: number): void {
    const writer = new FieldWriter(target);
    writer.at = at;
    writer.length(DELIVERIES, this.#body);
    for (const { run } of this.#runs) writer.copy(run.messages);
    writer.number(FIRST_DELIVERY, this.#firstDelivery);
    for (const run of this.#runs) writeRun(writer, run);
  }

  encode(): Buffer {
    const target = Buffer.allocUnsafe(this.bytes);
    this.writeTo(target, 0);
    return target;
  }
}

/** The encoded SubscribeResponse. */
export function encodeDeliveries(firstDelivery: number, runs: readonly FramedRun[]): Buffer {
  return new SizedFrame(firstDelivery, runs).encode();
}

/**
 * The same for the transport, as what its serializer answers with. grpc-js makes a buffer of `byteLength` bytes and five more and lets copy() fill
 * it: a large frame is written there, once, and not before it is its turn; meanwhile it is what lies in memory anyway. Good for nothing else.
 */
export function serializeDeliveries(firstDelivery: number, runs: readonly FramedRun[]): Buffer {
  const frame = new SizedFrame(firstDelivery, runs);
  if (frame.bytes < WRITTEN_LATER_MIN_BYTES) return frame.encode();
  return Object.defineProperties(Buffer.alloc(0), {
    byteLength: { value: frame.bytes },
    copy: {
      value: (target: Buffer, at: number): number => {
        frame.writeTo(target, at);
        return frame.bytes;
      },
    },
  });
}
