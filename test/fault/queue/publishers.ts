import type {
  Message,
  PublishAck,
  PublishMessagesResponse,
  PublishStreamRequest,
  PublishStreamResponse,
} from '../../../generated/muster/v1/queue.js';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import type { ClientDuplex } from '../../../src/rpc/types.js';
import type { QueueClient } from '../../support/queue-process.js';
import { newMessage, TOPIC as topic, type Life } from './life.js';

/** Somebody who does something through all lives of the server. */
export interface Actor {
  run(life: Life): Promise<void>;
}

const BATCH_MESSAGES_MAX = 12;
const BURST_BATCHES_MAX = 8;
const BURSTS_MAX = 12;
const REST_MS_MAX = 12;
/** Longer than any life, shorter than the window of duplicates. */
const DELAY_MS_MAX = 400;

interface Batch {
  readonly ids: readonly string[];
  readonly messages: Message[];
}

/** Numbers messages of one publisher. */
class Numbers {
  readonly #name: string;
  #n = 0;

  constructor(name: string) {
    this.#name = name;
  }

  next(): string {
    this.#n += 1;
    return `${this.#name}/${this.#n}`;
  }

  batch(life: Life, count: number): Batch {
    const ids = Array.from({ length: count }, () => this.next());
    for (const id of ids) life.judge.record({ kind: 'sent', id });
    return { ids, messages: ids.map((id) => newMessage(life, id)) };
  }
}

type Stream = ClientDuplex<PublishStreamRequest, PublishStreamResponse>;

/** Publishes on streams under one producer's name, sends again what was not answered, and so must never publish anything twice. */
export class StreamPublisher implements Actor {
  readonly #name: string;
  readonly #numbers: Numbers;
  readonly #unanswered = new Map<number, Batch>();
  #batchNumber = 0;

  constructor(name: string) {
    this.#name = name;
    this.#numbers = new Numbers(name);
  }

  async run(life: Life): Promise<void> {
    if (life.calm && this.#unanswered.size === 0) return;
    await life.through(this.#name, (client) => this.#stream(life, client));
  }

  async #stream(life: Life, client: QueueClient): Promise<'done' | 'again'> {
    const stream = client.publishStream({ signal: life.cut });
    const answers = stream[Symbol.asyncIterator]();
    await stream.send({ frame: { $case: 'open', value: { topic, producer: this.#name } } });
    await this.#resume(life, stream, answers);
    for (let bursts = life.between(1, BURSTS_MAX); bursts > 0 && !life.over && !life.calm; bursts -= 1) {
      await this.#burst(life, stream);
      await this.#answered(life, answers);
      await sleep(systemClock, life.between(0, REST_MS_MAX));
    }
    if (!life.calm && life.chance(0.5)) await this.#burst(life, stream);
    stream.cancel();
    return life.calm ? 'done' : 'again';
  }

  async #resume(life: Life, stream: Stream, answers: AsyncIterator<PublishStreamResponse>): Promise<void> {
    const { value } = (await answers.next()) as { value: PublishStreamResponse | undefined };
    if (value?.frame?.$case !== 'opened') throw new Error('the stream was not opened');
    const { lastBatch } = value.frame.value;
    // Both are promised to be right: to believe it, or to send again.
    if (life.chance(0.5)) this.#believe(life, lastBatch);
    for (const [batch, { messages }] of this.#unanswered) await send(stream, batch, messages);
    await this.#answered(life, answers);
  }

  #believe(life: Life, lastBatch: number): void {
    for (const [batch, { ids }] of this.#unanswered) {
      if (batch > lastBatch) return;
      this.#unanswered.delete(batch);
      for (const id of ids) life.judge.record({ kind: 'published', id, sequence: undefined });
    }
  }

  async #burst(life: Life, stream: Stream): Promise<void> {
    for (let count = life.between(1, BURST_BATCHES_MAX); count > 0; count -= 1) {
      const batch = this.#numbers.batch(life, life.between(1, BATCH_MESSAGES_MAX));
      this.#batchNumber += 1;
      this.#unanswered.set(this.#batchNumber, batch);
      await send(stream, this.#batchNumber, batch.messages);
    }
  }

  async #answered(life: Life, answers: AsyncIterator<PublishStreamResponse>): Promise<void> {
    while (this.#unanswered.size > 0) {
      const next = await answers.next();
      if (next.done === true) throw new Error('the stream ended by itself');
      const { frame } = next.value;
      if (frame?.$case === 'acks') for (const ack of frame.value.acks) this.#ack(life, ack);
    }
  }

  #ack(life: Life, { batch, firstSequence, count, refusal, repeatedBatch }: PublishAck): void {
    const { judge } = life;
    const known = this.#unanswered.get(batch);
    this.#unanswered.delete(batch);
    if (refusal) judge.find(`${this.#name}: batch ${batch} was refused: ${refusal.message}`);
    if (!known || refusal) return;
    const isTold = !repeatedBatch || firstSequence > 0;
    if (isTold && count !== known.ids.length) judge.find(`${this.#name}: batch ${batch} was answered with ${count}`);
    known.ids.forEach((id, index) => {
      judge.record({ kind: 'published', id, sequence: isTold ? firstSequence + index : undefined });
    });
  }
}

function send(stream: Stream, batch: number, messages: Message[]): Promise<void> {
  return stream.send({ frame: { $case: 'batch', value: { batch, messages } } });
}

/** How a caller of Publish protects itself. `plain`: it does not, and never publishes again what may be stored. */
export type UnaryKind = 'plain' | 'dedupe' | 'delayed';

/** Publishes by single calls. With a dedupe id it calls again until it is answered. */
export class UnaryPublisher implements Actor {
  readonly #name: string;
  readonly #kind: UnaryKind;
  readonly #numbers: Numbers;
  #unanswered: Batch | undefined;

  constructor(name: string, kind: UnaryKind) {
    this.#name = name;
    this.#kind = kind;
    this.#numbers = new Numbers(name);
  }

  async run(life: Life): Promise<void> {
    await life.through(this.#name, async (client) => {
      if (life.calm && !this.#unanswered) return 'done';
      const batch = this.#unanswered ?? this.#newBatch(life);
      if (this.#kind !== 'plain') this.#unanswered = batch;
      const answer = await client.publish({ topic, messages: batch.messages });
      this.#unanswered = undefined;
      this.#published(life, batch, answer);
      await sleep(systemClock, life.between(0, REST_MS_MAX));
      return 'again';
    });
  }

  #newBatch(life: Life): Batch {
    const batch = this.#numbers.batch(life, life.between(1, BATCH_MESSAGES_MAX));
    if (this.#kind === 'plain') return batch;
    batch.messages.forEach((message, index) => {
      message.dedupeId = batch.ids[index] ?? '';
      if (this.#kind === 'delayed') {
        message.deliverAfter = { seconds: 0, nanos: life.between(1, DELAY_MS_MAX) * 1_000_000 };
      }
    });
    return batch;
  }

  #published(
    { judge }: Life,
    { ids }: Batch,
    { firstSequence, count, duplicates, delayed }: PublishMessagesResponse,
  ): void {
    const known = new Map(duplicates.map(({ index, sequence }) => [index, sequence]));
    if (count + delayed + known.size !== ids.length) judge.find(`${this.#name}: ${count} + ${delayed} + ${known.size}`);
    let next = firstSequence;
    ids.forEach((id, index) => {
      const stored = known.get(index);
      const isDelayed = stored === 0 || (stored === undefined && this.#kind === 'delayed');
      judge.record({ kind: 'published', id, sequence: isDelayed ? undefined : (stored ?? next) });
      if (stored === undefined) next += 1;
    });
  }
}
