/** What a queue's producers and its one consumer share beside the items: the end, and waking a consumer that waits. */
export class Gate {
  #wake: (() => void) | undefined;
  #end: { error?: unknown } | undefined;

  /** Whether close() was called. */
  get closed(): boolean {
    return this.#end !== undefined;
  }

  /** Tells the consumer that there is something to take. */
  ring(): void {
    this.#wake?.();
  }

  /** Nothing more will come; only the first call counts. */
  close(error?: unknown): void {
    if (this.#end) return;
    this.#end = error === undefined ? {} : { error };
    this.ring();
  }

  /**
   * For the consumer, when it has taken all there was: true once there may be more, false after the end.
   * @throws the error of close()
   */
  async more(): Promise<boolean> {
    if (this.#end) {
      if ('error' in this.#end) throw this.#end.error;
      return false;
    }
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
    return true;
  }
}
