import { sleep, type Clock } from './clock.js';
import { aborted } from './tasks.js';

/** Rests that others end early. A call between `arm` and `rest` is not lost: that rest is over at once. */
export class Wake {
  #called = new AbortController();

  /** Calls count from now on. */
  arm(): void {
    this.#called = new AbortController();
  }

  call(): void {
    this.#called.abort();
  }

  /** Until a call, until the signal aborts, or, where it is given, for so many milliseconds at most. */
  async rest(signal: AbortSignal, atMost?: { readonly ms: number; readonly clock: Clock }): Promise<void> {
    const over = AbortSignal.any([signal, this.#called.signal]);
    if (atMost) await sleep(atMost.clock, atMost.ms, over).catch(() => undefined);
    else await aborted(over);
  }
}
