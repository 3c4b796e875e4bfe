import { MusterError } from '../../kit/errors.js';

/** Those who wait for room, the first to come first. */
export class Turns<T> {
  readonly #capacity: number;
  #waiting: T[] = [];
  #head = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#waiting.length - this.#head;
  }

  /** @throws exhausted when too many wait */
  push(turn: T): void {
    if (this.size >= this.#capacity) {
      throw new MusterError(
        'exhausted',
        `${this.#capacity} messages wait for room in this publisher already: await add() or send() before the next`,
        { reason: 'PUBLISHER_FULL' },
      );
    }
    this.#waiting.push(turn);
  }

  /** The one whose turn it is, who stays the first. */
  peek(): T | undefined {
    return this.#waiting[this.#head];
  }

  shift(): T | undefined {
    const turn = this.#waiting[this.#head];
    if (turn === undefined) return undefined;
    this.#head += 1;
    // Moving the rest down for each would take as long as all of them.
    if (this.#head * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
    return turn;
  }
}
