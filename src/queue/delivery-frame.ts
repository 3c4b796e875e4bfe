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

/** The encoded SubscribeResponse. */
export function encodeDeliveries(firstDelivery: number, runs: readonly FramedRun[]): Buffer {
  const sizes = runs.map(sized);
  let body = numberFieldBytes(firstDelivery);
  for (const { run, bytes } of sizes) body += run.messages.length + 1 + varintBytes(bytes) + bytes;
  const writer = new FieldWriter(Buffer.allocUnsafe(1 + varintBytes(body) + body));
  writer.length(DELIVERIES, body);
  for (const { messages } of runs) writer.copy(messages);
  writer.number(FIRST_DELIVERY, firstDelivery);
  for (const run of sizes) writeRun(writer, run);
  return writer.bytes;
}
