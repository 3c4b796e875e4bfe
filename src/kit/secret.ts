import { inspect } from 'node:util';

const SHOWN = '[secret]';

/**
 * Holds a value that must never be printed: logging, JSON, string concatenation and util.inspect all show `[secret]`.
 * Code that needs the value says so by calling reveal().
 */
export class Secret<T = string> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return SHOWN;
  }

  toJSON(): string {
    return SHOWN;
  }

  [inspect.custom](): string {
    return SHOWN;
  }
}
