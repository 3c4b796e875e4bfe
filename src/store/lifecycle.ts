import type { MusterError } from '../kit/errors.js';

/** open -> closing -> closed, or open/closing -> failed. `done` resolves when the engine is closed. */
type State =
  | { readonly at: 'open' }
  | { readonly at: 'closing'; readonly done: Promise<void> }
  | { readonly at: 'closed' }
  | { readonly at: 'failed'; readonly error: MusterError; readonly done: Promise<void> };

/** The life of what stands over an engine: what failed stays failed, and nothing is answered any more that was not before. */
export class Lifecycle {
  readonly #closedError: () => MusterError;
  #state: State = { at: 'open' };

  /** @param closedError makes the error of calls after close() */
  constructor(closedError: () => MusterError) {
    this.#closedError = closedError;
  }

  /** Why it failed; undefined: it did not. */
  get failure(): MusterError | undefined {
    return this.#state.at === 'failed' ? this.#state.error : undefined;
  }

  /** @throws the failure, or the error of what is closed */
  assertOpen(): void {
    const state = this.#state;
    switch (state.at) {
      case 'open':
        return;
      case 'failed':
        throw state.error;
      case 'closing':
      case 'closed':
        throw this.#closedError();
    }
  }

  /** A read that was under way at the close rejects as any later one would. */
  async read<T>(read: () => Promise<T>): Promise<T> {
    this.assertOpen();
    let result: T;
    try {
      result = await read();
    } catch (error) {
      this.assertOpen();
      throw error;
    }
    this.assertOpen();
    return result;
  }

  /** Closes by `shutDown`, once; resolves when that has ended, or the closing of what failed. */
  async close(shutDown: () => Promise<void>): Promise<void> {
    if (this.#state.at === 'open') this.#move({ at: 'closing', done: this.#shutDown(shutDown) });
    if (this.#state.at === 'closing') await this.#state.done;
    // A write that failed while closing has moved the state on.
    if (this.#state.at === 'failed') await this.#state.done;
  }

  /** `done` resolves when the engine is closed. */
  fail(error: MusterError, done: Promise<void>): void {
    this.#move({ at: 'failed', error, done });
  }

  async #shutDown(shutDown: () => Promise<void>): Promise<void> {
    await shutDown();
    this.#move({ at: 'closed' });
  }

  /** The only place the state changes. */
  #move(next: State): void {
    if (this.#state.at !== 'failed') this.#state = next;
  }
}
