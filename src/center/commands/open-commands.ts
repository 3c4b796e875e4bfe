import type { Clock } from '../../kit/clock.js';
import { isSettled, type CommandRecord } from './command.js';

/** Commands that can still change, by machine, and until when those ordered by themselves may wait. */
export class OpenCommands {
  readonly #clock: Clock;
  readonly #byMachine = new Map<string, Set<string>>();
  /** Monotonic, so that a jump of the wall clock expires nothing. */
  readonly #deadlines = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(command: CommandRecord): void {
    if (isSettled(command)) return;
    const open = this.#byMachine.get(command.machine) ?? new Set();
    open.add(command.id);
    this.#byMachine.set(command.machine, open);
    // How long a target may wait, its operation decides.
    if (command.turn) return;
    const lifeMs = command.expiresMs - command.createdMs;
    const leftMs = Math.min(Math.max(0, command.expiresMs - this.#clock.now()), lifeMs);
    this.#deadlines.set(command.id, this.#clock.monotonic() + leftMs);
  }

  remove({ id, machine }: CommandRecord): void {
    this.#byMachine.get(machine)?.delete(id);
    if (this.#byMachine.get(machine)?.size === 0) this.#byMachine.delete(machine);
    this.#deadlines.delete(id);
  }

  machines(): string[] {
    return [...this.#byMachine.keys()];
  }

  of(machine: string): string[] {
    return [...(this.#byMachine.get(machine) ?? [])];
  }

  countOf(machine: string): number {
    return this.#byMachine.get(machine)?.size ?? 0;
  }

  /** Those whose time to wait is over. */
  due(): string[] {
    const nowMs = this.#clock.monotonic();
    return [...this.#deadlines].filter(([, deadlineMs]) => deadlineMs <= nowMs).map(([id]) => id);
  }

  /** It is not due any more. */
  dropDeadline(id: string): void {
    this.#deadlines.delete(id);
  }

  /** Until it expires, milliseconds. */
  leftMs({ id, turn, expiresMs }: CommandRecord): number {
    return turn ? expiresMs - this.#clock.now() : (this.#deadlines.get(id) ?? 0) - this.#clock.monotonic();
  }
}
