import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import { onAbort } from '../../kit/tasks.js';
import type { Courier } from '../gateway/parts.js';
import type { Output, Outputs } from './outputs.js';

export interface TailWish {
  readonly machine: { readonly id: string; readonly name: string };
  readonly service: string;
  readonly lines: number;
  readonly follow: boolean;
  /** Go on behind this place; empty: begin with the last lines. */
  readonly position: string;
  /** Empty: what the service prints. */
  readonly file: string;
}

/** From the order to the agent's first word. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Orders logs from agents, one machine at a time, and gives them as they come. */
export class Tails<B> {
  readonly #courier: Courier;
  readonly #clock: Clock;
  readonly #outputs: Outputs<B>;

  constructor({ courier, clock, outputs }: { courier: Courier; clock: Clock; outputs: Outputs<B> }) {
    this.#courier = courier;
    this.#clock = clock;
    this.#outputs = outputs;
  }

  /** Whether a log can be ordered from the machine. */
  isConnected(machine: string): boolean {
    return this.#courier.connected(machine);
  }

  /**
   * Orders a log and yields it as it comes. `begun`: the agent has begun to answer.
   * @throws unavailable when the machine is not connected, or does not answer, or goes away; exhausted; what the agent says went wrong
   */
  async *open(wish: TailWish, signal: AbortSignal, begun?: () => void): AsyncGenerator<B> {
    const id = newId('tail');
    const output = this.#outputs.open(id, wish.machine.id, begun);
    const offAbort = onAbort(signal, () => {
      output.leave();
    });
    try {
      this.#order(id, wish);
      void this.#expectAnswer(output, wish.machine.name);
      yield* output;
    } finally {
      offAbort();
      output.leave();
      this.#courier.cancel(wish.machine.id, id);
    }
  }

  #order(id: string, { machine, service, lines, follow, position, file }: TailWish): void {
    if (this.#courier.tail(machine.id, { command: id, service, lines, follow, position, file })) return;
    throw new MusterError(
      'unavailable',
      `machine ${machine.name} is not connected: its logs can be read when it is back`,
      {
        reason: 'MACHINE_OFFLINE',
      },
    );
  }

  async #expectAnswer(output: Output<B>, name: string): Promise<void> {
    try {
      await sleep(this.#clock, ANSWER_TIMEOUT_MS, output.left);
    } catch {
      return; // it is over
    }
    if (output.answered) return;
    output.end(
      new MusterError(
        'unavailable',
        `the agent of ${name} did not answer within ${ANSWER_TIMEOUT_MS / 1000} s: is its version too old?`,
        {
          reason: 'NO_ANSWER',
        },
      ),
    );
  }
}
