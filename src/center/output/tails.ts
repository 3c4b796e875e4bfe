import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import type { Courier } from '../gateway/parts.js';
import { Handoff } from './handoff.js';

/** Lines that an agent sent together. */
export type Batch<L> = readonly L[];

export interface TailWish {
  readonly machine: { readonly id: string; readonly name: string };
  readonly service: string;
  readonly lines: number;
  readonly follow: boolean;
}

/** From the order to the agent's first word. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Outputs that may be waited for at once. */
const TAILS_MAX = 200;

interface Tail<L> {
  readonly machine: string;
  readonly handoff: Handoff<Batch<L>>;
  /** Aborts when whoever waits for the lines has left. */
  readonly left: AbortSignal;
  answered: boolean;
}

/**
 * Joins an operator who waits for lines with the agent that sends them. One batch is in hand at a time: an operator who reads slowly
 * holds the agent's stream back, and nothing piles up here. Whichever side leaves, the other ends.
 */
export class Tails<L> {
  readonly #courier: Courier;
  readonly #clock: Clock;
  readonly #tails = new Map<string, Tail<L>>();

  constructor(courier: Courier, clock: Clock) {
    this.#courier = courier;
    this.#clock = clock;
  }

  /** Outputs being waited for. */
  get size(): number {
    return this.#tails.size;
  }

  /**
   * Orders an output and yields it as it comes.
   * @throws unavailable when the machine is not connected, or does not answer, or goes away; exhausted; what the agent says went wrong
   */
  async *open(wish: TailWish, signal: AbortSignal): AsyncGenerator<Batch<L>> {
    if (this.#tails.size >= TAILS_MAX) {
      throw new MusterError('exhausted', `${TAILS_MAX} logs are being read already: try again when one has ended`, {
        reason: 'TAILS_MAX',
      });
    }
    const id = newId('tail');
    const controller = new AbortController();
    const tail: Tail<L> = {
      machine: wish.machine.id,
      handoff: new Handoff(),
      left: controller.signal,
      answered: false,
    };
    const leave = (): void => {
      controller.abort(
        new MusterError('cancelled', 'nobody waits for this output any more', { reason: 'OUTPUT_UNWANTED' }),
      );
      tail.handoff.close();
    };
    signal.addEventListener('abort', leave, { once: true });
    this.#tails.set(id, tail);
    try {
      if (signal.aborted) leave();
      this.#order(id, wish);
      void this.#expectAnswer(tail, wish.machine.name);
      yield* tail.handoff;
    } finally {
      signal.removeEventListener('abort', leave);
      leave();
      this.#tails.delete(id);
      this.#courier.cancel(wish.machine.id, id);
    }
  }

  /**
   * Hands an agent's batch to whoever waits for it; resolves when it was taken.
   * @throws cancelled when nobody waits for it (any more); denied when it was ordered from another machine
   */
  async deliver(machine: string, id: string, batch: Batch<L>): Promise<void> {
    const tail = this.#tailOf(machine, id);
    await tail.handoff.put(batch);
    tail.left.throwIfAborted();
  }

  /** The agent has begun to answer; the signal aborts when nobody waits any more. @throws as deliver */
  begin(machine: string, id: string): AbortSignal {
    const tail = this.#tailOf(machine, id);
    if (tail.answered)
      throw new MusterError('conflict', 'this output is being sent already', { reason: 'OUTPUT_TWICE' });
    tail.answered = true;
    return tail.left;
  }

  /** The agent has no more, or cannot give it. */
  end(machine: string, id: string, error?: MusterError): void {
    const tail = this.#tails.get(id);
    if (tail?.machine === machine) tail.handoff.close(error);
  }

  /** Contact with a machine is lost: nothing more will come from it. */
  machineLost(machine: string): void {
    for (const tail of [...this.#tails.values()]) {
      if (tail.machine !== machine || tail.answered) continue;
      tail.handoff.close(
        new MusterError('unavailable', 'contact with the machine was lost: try again when it is back', {
          reason: 'MACHINE_LOST',
        }),
      );
    }
  }

  #order(id: string, { machine, service, lines, follow }: TailWish): void {
    if (this.#courier.tail(machine.id, { command: id, service, lines, follow })) return;
    throw new MusterError(
      'unavailable',
      `machine ${machine.name} is not connected: its logs can be read when it is back`,
      {
        reason: 'MACHINE_OFFLINE',
      },
    );
  }

  async #expectAnswer(tail: Tail<L>, name: string): Promise<void> {
    try {
      await sleep(this.#clock, ANSWER_TIMEOUT_MS, tail.left);
    } catch {
      return; // it is over
    }
    if (tail.answered) return;
    tail.handoff.close(
      new MusterError(
        'unavailable',
        `the agent of ${name} did not answer within ${ANSWER_TIMEOUT_MS / 1000} s: is its version too old?`,
        {
          reason: 'NO_ANSWER',
        },
      ),
    );
  }

  #tailOf(machine: string, id: string): Tail<L> {
    const tail = this.#tails.get(id);
    if (!tail) {
      throw new MusterError('cancelled', 'nobody waits for this output any more', { reason: 'OUTPUT_UNWANTED' });
    }
    if (tail.machine !== machine) {
      throw new MusterError('denied', 'this output was ordered from another machine', { reason: 'NOT_YOUR_COMMAND' });
    }
    return tail;
  }
}
