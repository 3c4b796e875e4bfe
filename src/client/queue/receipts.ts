import type { PublishAck, Refusal } from '../../../generated/muster/v1/queue.js';
import { MusterError } from '../../kit/errors.js';
import { codeOf } from '../../rpc/status.js';
import { fromDuration } from '../../wire/time.js';

/** What became of a published message. It is on the queue's disk. */
export interface Receipt {
  /**
   * Its place in the topic. Undefined for a message that is delayed, since it gets its place later; and in the rare case that the batch was
   * stored over an earlier connection too long ago for the queue to know.
   */
  readonly sequence: number | undefined;
  /** Its dedupe id was known: it was not stored again, `sequence` is that of the first one. */
  readonly duplicate: boolean;
  /** It waits for its deliverAfterMs. */
  readonly delayed: boolean;
}

/** Somebody waits for the message with this place in its batch. */
export interface Waiter {
  readonly index: number;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: MusterError) => void;
}

interface Batch {
  readonly waiters: readonly Waiter[];
  /** Places of the messages that enter the topic later, rising. */
  readonly delayed: readonly number[];
}

/** Tells everybody who waits for a message of the batch what the queue said. */
export function settleWaiters(batch: Batch, ack: PublishAck): void {
  if (batch.waiters.length === 0) return;
  if (ack.duplicates.length > 0 || batch.delayed.length > 0) {
    settleOneByOne(batch, ack);
    return;
  }
  for (const { index, resolve } of batch.waiters) {
    resolve({ sequence: sequenceOf(ack.firstSequence, index), duplicate: false, delayed: false });
  }
}

/** 0 says that the queue does not know. */
function sequenceOf(first: number, offset: number): number | undefined {
  return first === 0 ? undefined : first + offset;
}

/** Only messages that are neither duplicates nor delayed count as places from the first sequence on. */
function settleOneByOne({ waiters, delayed }: Batch, { duplicates, firstSequence }: PublishAck): void {
  const repeated = new Map(duplicates.map(({ index, sequence }) => [index, sequence]));
  const without = [...new Set([...delayed, ...repeated.keys()])].sort((a, b) => a - b);
  const late = new Set(delayed);
  let before = 0;
  for (const { index, resolve } of waiters) {
    while ((without[before] ?? Infinity) < index) before += 1;
    const first = repeated.get(index);
    if (first !== undefined)
      resolve({ sequence: first === 0 ? undefined : first, duplicate: true, delayed: first === 0 });
    else if (late.has(index)) resolve({ sequence: undefined, duplicate: false, delayed: true });
    else resolve({ sequence: sequenceOf(firstSequence, index - before), duplicate: false, delayed: false });
  }
}

/** The failure a refusal says. */
export function refusalError({ code, reason, message, retryAfter }: Refusal): MusterError {
  const retryAfterMs = fromDuration(retryAfter);
  return new MusterError(codeOf(code), message, {
    ...(reason === '' ? {} : { reason }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
