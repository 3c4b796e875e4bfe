import { MusterError } from '../kit/errors.js';
import type { Published } from './batch-builder.js';
import { PRODUCER_ACKS_MAX, type Change, type ProducerAck, type ProducerRecord } from './log/port.js';

/** Producers remembered per topic. Beyond it the one that was silent longest is forgotten. */
export const PRODUCERS_MAX = 10_000;
/** A producer that was silent for so long is forgotten: batches it sends again after that are stored again. */
export const PRODUCER_MEMORY_MS = 24 * 3600 * 1000;

interface Producer {
  acks: readonly ProducerAck[];
  seenMs: number;
  /** The batch that must come next; undefined: any, nothing of this producer is known. */
  expected: number | undefined;
  /** Which stream speaks for it. */
  owner: number;
  /** Tells the owner that another stream has taken over. */
  displaced: (() => void) | undefined;
}

/** What to do with a producer's batch. */
export type Verdict =
  | { readonly kind: 'new' }
  | { readonly kind: 'repeated'; readonly published: Published }
  | { readonly kind: 'refused'; readonly error: MusterError };

/**
 * What each producer of a topic has stored last, so that batches it sends again after a reconnect are answered and not stored.
 * Batches are taken in order without gaps: after a refused batch the following ones are refused too, until it comes again.
 */
export class Producers {
  readonly #topicId: number;
  readonly #known = new Map<string, Producer>();
  #owners = 0;

  constructor(topicId: number, records: readonly ProducerRecord[]) {
    this.#topicId = topicId;
    for (const { producer, acks, seenMs } of records) {
      const last = acks.at(-1)?.batch;
      const expected = last === undefined ? undefined : last + 1;
      this.#known.set(producer, { acks, seenMs, expected, owner: 0, displaced: undefined });
    }
  }

  /** A stream begins to speak for `name`; the one before is told, and what it still has waiting is refused. Answers with the stream's number. */
  open(name: string, nowMs: number, displaced: () => void): number {
    const producer = this.#known.get(name) ?? {
      acks: [],
      seenMs: nowMs,
      expected: undefined,
      owner: 0,
      displaced: undefined,
    };
    this.#known.set(name, producer);
    producer.displaced?.();
    this.#owners += 1;
    producer.owner = this.#owners;
    producer.displaced = displaced;
    return this.#owners;
  }

  /** The newest batch of the producer that was given its place; 0 for none. Durable once the group that is being written is. */
  lastBatch(name: string): number {
    return this.#known.get(name)?.acks.at(-1)?.batch ?? 0;
  }

  /** The first batch ever seen of a producer says where its numbers begin, whatever becomes of that batch. */
  expect({ name, batch }: { name: string; batch: number }): void {
    const producer = this.#known.get(name);
    if (producer) producer.expected ??= batch;
  }

  /** The stream `owner` has ended. */
  close(name: string, owner: number): void {
    const producer = this.#known.get(name);
    if (producer?.owner !== owner) return;
    producer.displaced = undefined;
    if (producer.acks.length === 0) this.#known.delete(name);
  }

  judge({ name, owner, batch }: { name: string; owner: number; batch: number }): Verdict {
    const producer = this.#known.get(name);
    if (producer?.owner !== owner) return { kind: 'refused', error: displacedError(name) };
    const expected = producer.expected ?? batch;
    if (batch < expected) return { kind: 'repeated', published: answered(producer, batch) };
    if (batch > expected) return { kind: 'refused', error: outOfOrder(expected, batch) };
    return { kind: 'new' };
  }

  /** The batch was given its place: what to store with it. */
  accept({ name, batch }: { name: string; batch: number }, published: Published, nowMs: number): Change {
    const producer = this.#known.get(name);
    if (!producer) throw new MusterError('internal', `producer ${name} is not known`);
    const ack = { batch, firstSequence: published.firstSequence, count: published.count };
    producer.acks = [...producer.acks, ack].slice(-PRODUCER_ACKS_MAX);
    producer.expected = batch + 1;
    producer.seenMs = nowMs;
    const record = { producer: name, acks: producer.acks, seenMs: nowMs };
    return { kind: 'producer', topicId: this.#topicId, producer: name, record };
  }

  /** What accept() said of these batches was not stored after all. */
  undo(orders: readonly { name: string; batch: number }[]): void {
    for (const { name, batch } of orders) {
      const producer = this.#known.get(name);
      if (!producer) continue;
      producer.acks = producer.acks.filter((ack) => ack.batch < batch);
      producer.expected = Math.min(producer.expected ?? batch, batch);
    }
  }

  /** Producers with a stream now. */
  get streams(): number {
    let count = 0;
    for (const { displaced } of this.#known.values()) if (displaced) count += 1;
    return count;
  }

  /** Forgets those that were silent too long, or are too many: what to store. */
  forget(nowMs: number): readonly Change[] {
    const idle = [...this.#known].filter(([, { displaced }]) => displaced === undefined);
    const bySilence = idle.sort(([, a], [, b]) => a.seenMs - b.seenMs);
    const tooMany = Math.max(0, this.#known.size - PRODUCERS_MAX);
    const gone = bySilence.filter(([, { seenMs }], index) => index < tooMany || nowMs - seenMs > PRODUCER_MEMORY_MS);
    return gone.map(([producer]) => {
      this.#known.delete(producer);
      return { kind: 'producer', topicId: this.#topicId, producer, record: undefined };
    });
  }
}

function answered(producer: Producer, batch: number): Published {
  const ack = producer.acks.find((one) => one.batch === batch);
  const { firstSequence, count } = ack ?? { firstSequence: 0, count: 0 };
  return { firstSequence, count, duplicates: [], delayed: 0, repeated: true };
}

/** What a stream is told when another one has taken over its producer. */
export function displacedError(name: string): MusterError {
  return new MusterError(
    'precondition',
    `another stream now publishes as producer ${name}: give each publisher a name of its own`,
    { reason: 'PRODUCER_DISPLACED' },
  );
}

function outOfOrder(expected: number, batch: number): MusterError {
  return new MusterError(
    'precondition',
    `batch ${batch} came where batch ${expected} must: after a refused batch send that one again, or the next one under its number`,
    { reason: 'BATCH_GAP', metadata: { expected: String(expected) } },
  );
}
