import { asMusterError } from '../rpc/status.js';
import type { MusterError } from '../kit/errors.js';
import type { Admission } from './admission.js';
import type { Published } from './batch-builder.js';
import type { EncodedBatch } from './publication.js';
import type { Topic } from './topic.js';

/** Batches of one stream that are not answered yet. At it the stream is not read. */
const UNANSWERED_MAX = 4096;
/** Messages with a dedupe id or a delay in those batches: an answer may name each of them. At it the stream is not read. */
const UNANSWERED_SPECIAL_MAX = 65_536;

/** What became of one batch of a stream. */
export type Outcome =
  { readonly batch: number; readonly published: Published } | { readonly batch: number; readonly refused: MusterError };

interface Slot {
  readonly batch: number;
  /** Messages with a dedupe id or a delay. */
  readonly special: number;
  outcome: Outcome | undefined;
}

type Answered = Pick<Slot, 'special'> & { readonly outcome: Outcome };

export interface PublisherParts {
  readonly topic: Topic;
  readonly admission: Admission;
  /** '' for none. */
  readonly producer: string;
  /** Sends answers, in the order of the batches. */
  readonly answer: (outcomes: readonly Outcome[]) => Promise<void>;
  /** The stream cannot go on. */
  readonly onFailure: (error: unknown) => void;
}

/** One publishing stream: takes batches as fast as there is room, answers them in their order. */
export class Publisher {
  readonly #parts: PublisherParts;
  readonly #owner: number | undefined;
  #slots: Slot[] = [];
  #special = 0;
  #taken = 0;
  #answered = 0;
  #answering: Promise<void> | undefined;
  #changed: (() => void)[] = [];

  constructor(parts: PublisherParts, nowMs: number, displaced: () => void) {
    this.#parts = parts;
    const { producer, topic } = parts;
    this.#owner = producer === '' ? undefined : topic.producers.open(producer, nowMs, displaced);
  }

  /** The newest batch of the producer that is durable; 0 for none, or without a producer. @throws as the log's commit */
  async lastBatch(): Promise<number> {
    if (this.#owner === undefined) return 0;
    const { topic, producer } = this.#parts;
    // What another stream of the producer had under way is stored or refused by then, and no more of it is taken.
    await topic.settled();
    return topic.producers.lastBatch(producer);
  }

  /** Takes a batch; resolves when the stream may go on reading. */
  async take(batch: number, encoded: EncodedBatch): Promise<void> {
    const { admission, topic, producer } = this.#parts;
    const bytes = encoded.messages.length;
    const entering = admission.enter(bytes);
    if (entering) await entering;
    const slot = this.#slot(batch, encoded.placed?.length ?? 0);
    const claim = this.#owner === undefined ? undefined : { name: producer, owner: this.#owner, batch };
    topic.publish(encoded, claim).then(
      (published) => {
        admission.release(bytes);
        this.#settle(slot, { batch, published });
      },
      (error: unknown) => {
        admission.release(bytes);
        this.#settle(slot, { batch, refused: asMusterError(error) });
      },
    );
    await this.#room();
  }

  /** A batch that is not what it should be: answered in its turn. Resolves when the stream may go on reading. */
  async refuse(batch: number, error: MusterError): Promise<void> {
    const { topic, producer } = this.#parts;
    if (this.#owner !== undefined) topic.producers.expect({ name: producer, batch });
    this.#settle(this.#slot(batch, 0), { batch, refused: error });
    await this.#room();
  }

  /** Resolves when everything taken so far is answered. */
  async finish(): Promise<void> {
    const taken = this.#taken;
    while (this.#answered < taken) await this.#change();
  }

  /** The stream has ended. */
  close(): void {
    if (this.#owner !== undefined) this.#parts.topic.producers.close(this.#parts.producer, this.#owner);
  }

  #slot(batch: number, special: number): Slot {
    const slot: Slot = { batch, special, outcome: undefined };
    this.#slots.push(slot);
    this.#special += special;
    this.#taken += 1;
    return slot;
  }

  async #room(): Promise<void> {
    while (this.#slots.length >= UNANSWERED_MAX || this.#special >= UNANSWERED_SPECIAL_MAX) await this.#change();
  }

  /** Resolves when some batches have been answered. */
  #change(): Promise<void> {
    return new Promise<void>((resolve) => {
      this.#changed.push(resolve);
    });
  }

  #settle(slot: Slot, outcome: Outcome): void {
    slot.outcome = outcome;
    this.#answering ??= this.#answerAll();
  }

  async #answerAll(): Promise<void> {
    try {
      // What one group stored is said one by one within this turn: it is answered together.
      await Promise.resolve();
      for (let ready = this.#takeReady(); ready.length > 0; ready = this.#takeReady()) {
        await this.#parts.answer(ready.map(({ outcome }) => outcome));
        this.#answered += ready.length;
        for (const { special } of ready) this.#special -= special;
        for (const wake of this.#changed.splice(0)) wake();
      }
    } catch (error) {
      this.#parts.onFailure(error);
    } finally {
      this.#answering = undefined;
    }
  }

  #takeReady(): readonly Answered[] {
    const ready: Answered[] = [];
    for (const { special, outcome } of this.#slots) {
      if (!outcome) break;
      ready.push({ special, outcome });
    }
    this.#slots = ready.length === this.#slots.length ? [] : this.#slots.slice(ready.length);
    return ready;
  }
}
