import type { Broker } from './broker.js';
import type { Delivery } from './delivery.js';
import type { Change, DeadLetterRecord } from './log/port.js';

/** Letters handled with one group, and about how many bytes of them. */
const GROUP_LETTERS_MAX = 1000;
const GROUP_BYTES_MAX = 4 * 1024 * 1024;

/** The dead letters of one subscription. */
export class DeadLetters {
  readonly #broker: Broker;
  readonly #delivery: Delivery;

  constructor(broker: Broker, delivery: Delivery) {
    this.#broker = broker;
    this.#delivery = delivery;
  }

  /** By sequence, those that are not being replayed; `bytesMax` ends it early, behind the letter that goes beyond. */
  async list(after: number, limit: number, bytesMax = Infinity): Promise<readonly DeadLetterRecord[]> {
    const letters: DeadLetterRecord[] = [];
    let bytes = 0;
    for await (const page of this.#pages(after)) {
      letters.push(...page);
      bytes += bytesOf(page);
      if (letters.length >= limit || bytes > bytesMax) break;
    }
    return letters.slice(0, limit);
  }

  /** Delivers these again, or all; answers with how many. */
  replay(sequences: readonly number[]): Promise<number> {
    return this.#each(sequences, (letters) => this.#delivery.replay(letters));
  }

  /** Deletes these, or all; answers with how many. */
  purge(sequences: readonly number[]): Promise<number> {
    return this.#each(sequences, async (letters) => {
      await this.#delete(letters);
      this.#delivery.purged(letters.length);
      return letters.length;
    });
  }

  async #delete(letters: readonly DeadLetterRecord[]): Promise<void> {
    const { topicId, id: subscriptionId } = this.#delivery.record;
    const changes = letters.map(({ sequence }): Change => {
      return { kind: 'dead letter', topicId, subscriptionId, sequence, letter: undefined };
    });
    if (changes.length > 0) await this.#broker.commit.commitChanges(changes);
  }

  async #each(
    sequences: readonly number[],
    handle: (letters: readonly DeadLetterRecord[]) => Promise<number>,
  ): Promise<number> {
    let handled = 0;
    const pages = sequences.length === 0 ? this.#pages(0) : this.#chosen(sequences);
    for await (const letters of pages) handled += await handle(letters);
    return handled;
  }

  async *#chosen(sequences: readonly number[]): AsyncGenerator<readonly DeadLetterRecord[]> {
    const { topicId, id } = this.#delivery.record;
    let letters: DeadLetterRecord[] = [];
    for (const sequence of new Set(sequences)) {
      const letter = await this.#broker.log.deadLetter(topicId, id, sequence);
      if (letter && !letter.replayed) letters.push(letter);
      if (letters.length < GROUP_LETTERS_MAX && bytesOf(letters) < GROUP_BYTES_MAX) continue;
      yield letters;
      letters = [];
    }
    yield letters;
  }

  async *#pages(after: number): AsyncGenerator<readonly DeadLetterRecord[]> {
    const { topicId, id } = this.#delivery.record;
    let last = after;
    for (;;) {
      const page = await this.#broker.log.deadLetters(topicId, id, { after: last, limit: GROUP_LETTERS_MAX });
      if (page.length === 0) return;
      last = page.at(-1)?.sequence ?? last;
      yield page.filter(({ replayed }) => !replayed);
    }
  }
}

function bytesOf(letters: readonly DeadLetterRecord[]): number {
  return letters.reduce((sum, { message }) => sum + message.length, 0);
}
