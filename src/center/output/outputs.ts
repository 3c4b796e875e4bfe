import { MusterError } from '../../kit/errors.js';
import { Handoff } from './handoff.js';

/** Outputs that may be waited for at once, over all calls. */
export const OUTPUTS_MAX = 2000;

/** What one agent sends for one order, as whoever ordered it takes it: one batch is in hand at a time. */
export class Output<B> implements AsyncIterable<B> {
  readonly machine: string;
  /** Aborts when whoever waits has left. */
  readonly left: AbortSignal;
  readonly #handoff = new Handoff<B>();
  readonly #controller = new AbortController();
  readonly #forget: () => void;
  readonly #onBegin: () => void;
  #answered = false;
  #ended = false;
  #failure: MusterError | undefined;

  /** Made by Outputs alone. */
  constructor(machine: string, forget: () => void, onBegin: () => void) {
    this.machine = machine;
    this.left = this.#controller.signal;
    this.#forget = forget;
    this.#onBegin = onBegin;
  }

  /** Whether the agent has begun to send. */
  get answered(): boolean {
    return this.#answered;
  }

  /** Why what was missing when it ended does not come here any more; undefined: it has not ended, or the agent had no more. */
  get failure(): MusterError | undefined {
    return this.#failure;
  }

  /** Batches until the agent has no more. @throws what `end` was given */
  [Symbol.asyncIterator](): AsyncIterator<B> {
    return this.#handoff[Symbol.asyncIterator]();
  }

  /** Nobody waits for it any more: the agent's call ends. Safe to repeat; whoever opened it calls it in the end. */
  leave(): void {
    if (!this.left.aborted) this.#controller.abort(unwanted());
    this.#over(unwanted());
    this.#handoff.abandon();
    this.#forget();
  }

  /** There is no more, or no more can be had; a batch in hand is still given. */
  end(error?: MusterError): void {
    this.#over(error);
    this.#handoff.close(error);
  }

  #over(failure: MusterError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = failure;
  }

  /** @throws conflict when it was begun already */
  begin(): void {
    if (this.#answered) {
      throw new MusterError('conflict', 'this output is being sent already', { reason: 'OUTPUT_TWICE' });
    }
    this.#answered = true;
    this.#onBegin();
  }

  /** Resolves when the batch was taken. @throws cancelled when nobody waits for it (any more) */
  async deliver(batch: B): Promise<void> {
    await this.#handoff.put(batch);
    this.left.throwIfAborted();
  }
}

function unwanted(): MusterError {
  return new MusterError('cancelled', 'nobody waits for this output any more', { reason: 'OUTPUT_UNWANTED' });
}

/**
 * Joins those who wait for the output of an order with the agents that send it, by the order's id. A reader who is slow holds the agent's
 * stream back, and nothing piles up here. Whichever side leaves, the other ends.
 */
export class Outputs<B> {
  readonly #open = new Map<string, Output<B>>();

  /** Outputs being waited for. */
  get size(): number {
    return this.#open.size;
  }

  /** Waits for an output; call it before the order is sent. `onBegin`: the agent has begun to answer. @throws exhausted */
  open(id: string, machine: string, onBegin: () => void = () => undefined): Output<B> {
    if (this.#open.size >= OUTPUTS_MAX) {
      throw new MusterError(
        'exhausted',
        `the output of ${OUTPUTS_MAX} machines is being read already: try again when some of that has ended`,
        { reason: 'OUTPUTS_MAX' },
      );
    }
    const forget = (): void => {
      if (this.#open.get(id) === output) this.#open.delete(id);
    };
    const output: Output<B> = new Output(machine, forget, onBegin);
    this.#open.set(id, output);
    return output;
  }

  /**
   * Hands an agent's batch to whoever waits for it; resolves when it was taken.
   * @throws cancelled when nobody waits for it (any more); denied when it was ordered from another machine
   */
  async deliver(machine: string, id: string, batch: B): Promise<void> {
    await this.#outputOf(machine, id).deliver(batch);
  }

  /** The agent has begun to answer; the signal aborts when nobody waits any more. @throws as deliver; conflict when it was begun already */
  begin(machine: string, id: string): AbortSignal {
    const output = this.#outputOf(machine, id);
    output.begin();
    return output.left;
  }

  /** The agent has no more, or cannot give it. */
  end(machine: string, id: string, error?: MusterError): void {
    const output = this.#open.get(id);
    if (output?.machine === machine) output.end(error);
  }

  /** Contact with a machine is lost: what it has not begun will not come. */
  machineLost(machine: string): void {
    for (const output of [...this.#open.values()]) {
      if (output.machine !== machine || output.answered) continue;
      output.end(
        new MusterError('unavailable', 'contact with the machine was lost: try again when it is back', {
          reason: 'MACHINE_LOST',
        }),
      );
    }
  }

  #outputOf(machine: string, id: string): Output<B> {
    const output = this.#open.get(id);
    if (!output) throw unwanted();
    if (output.machine !== machine) {
      throw new MusterError('denied', 'this output was ordered from another machine', { reason: 'NOT_YOUR_COMMAND' });
    }
    return output;
  }
}
