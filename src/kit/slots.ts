import { MusterError } from './errors.js';

/** At most `capacity` pieces of work at once; who comes later waits, in order. Waiters are as many as there are callers: each waits once. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new MusterError('internal', `slots must be a positive whole number, not ${capacity}`);
    }
    this.#free = capacity;
  }

  /** Resolves with how to give the slot back; giving it back twice does nothing. */
  async take(): Promise<() => void> {
    if (this.#free > 0) this.#free -= 1;
    else {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
    let held = true;
    return () => {
      if (held) this.#giveBack();
      held = false;
    };
  }

  /** The slot goes straight to the first who waits: it is never free in between. */
  #giveBack(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}
