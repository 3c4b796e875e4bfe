import { Heap, type Ranked } from './heap.js';

/** Messages with consecutive sequences that wait to be delivered, all after the same number of failed attempts. */
export interface WaitingRun extends Ranked {
  firstSequence: number;
  count: number;
  /** Attempts that failed; 0: given back without failing. */
  readonly attempts: number;
}

/** What waits: until it is due by time, and then, by sequence, until somebody takes it. */
export class Waiting {
  /** Ranked by the monotonic millisecond at which they are due. */
  readonly #later = new Heap<WaitingRun>();
  /** Ranked by sequence. They do not overlap, so cutting one at its front leaves it in its place. */
  readonly #ready = new Heap<WaitingRun>();
  #messages = 0;

  /** Messages, due or not. */
  get messages(): number {
    return this.#messages;
  }

  /** When the first one not yet due is; undefined when none is. */
  get nextDueMs(): number | undefined {
    return this.#later.peek()?.rank;
  }

  /** Of those that are due the one with the lowest sequence. */
  get front(): WaitingRun | undefined {
    return this.#ready.peek();
  }

  /** Lets messages wait until `dueMs`, or not at all. */
  add(messages: { firstSequence: number; count: number; attempts: number }, dueMs?: number): void {
    const { firstSequence, count, attempts } = messages;
    this.#messages += count;
    const run = { firstSequence, count, attempts, rank: dueMs ?? firstSequence, slot: -1 };
    if (dueMs === undefined) this.#ready.push(run);
    else this.#later.push(run);
  }

  /** Finds what is due now. */
  wake(nowMs: number): void {
    for (let run = this.#later.peek(); run && run.rank <= nowMs; run = this.#later.peek()) {
      this.#later.remove(run);
      run.rank = run.firstSequence;
      this.#ready.push(run);
    }
  }

  /** Takes `count` messages off the front. */
  take(count: number): void {
    const run = this.#ready.peek();
    if (!run) return;
    this.#messages -= count;
    run.firstSequence += count;
    run.rank = run.firstSequence;
    run.count -= count;
    if (run.count === 0) this.#ready.remove(run);
  }

  /** Takes out and returns what waits of the sequences [from, until). */
  takeOut(from: number, until: number): WaitingRun[] {
    const taken: WaitingRun[] = [];
    for (const heap of [this.#later, this.#ready]) {
      for (const run of heap.sift((each) => end(each) <= from || each.firstSequence >= until)) {
        this.#messages -= run.count;
        const dueMs = heap === this.#later ? run.rank : undefined;
        if (run.firstSequence < from) this.add(section(run, run.firstSequence, from), dueMs);
        if (end(run) > until) this.add(section(run, until, end(run)), dueMs);
        taken.push(section(run, Math.max(run.firstSequence, from), Math.min(end(run), until)));
      }
    }
    return taken;
  }
}

function end(run: WaitingRun): number {
  return run.firstSequence + run.count;
}

/** The messages [from, until) of a run, in no heap. */
function section(run: WaitingRun, from: number, until: number): WaitingRun {
  return { firstSequence: from, count: until - from, attempts: run.attempts, rank: run.rank, slot: -1 };
}
