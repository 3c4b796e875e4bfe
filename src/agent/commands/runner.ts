import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { isCode, messageOf, unreachable } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Action, InstanceReport, Outcome } from '../../model/instance.js';
import type { ServiceControl } from '../ports.js';
import { type CommandJournal, type CommandStatus, COMMANDS_UNACKNOWLEDGED_MAX } from './journal.js';

/** An order as it arrived from the center. */
export interface CommandOrder {
  readonly command: string;
  /** Undefined: an action that this version does not know. */
  readonly action: Action | undefined;
  readonly service: string;
  /** Counted from arrival: not started within it, it is expired. */
  readonly expiresInMs: number;
}

export interface CommandRunnerOptions {
  readonly journal: CommandJournal;
  readonly control: Pick<ServiceControl, 'start' | 'stop' | 'restart'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Characters kept of what a command said. */
const MESSAGE_CHARACTERS_MAX = 2000;
const WRITE_RETRY = { initialMs: 100, maxMs: 5000, multiplier: 2 } as const;

/**
 * Runs the center's commands, each id at most once: one that is known, waiting, running or ended, is answered and not run again.
 * An order waits its turn at its service, is written to disk, and only then runs.
 * What waits is only in memory: if the agent dies, nothing of it has happened, and the center sends it again.
 */
export class CommandRunner {
  readonly #options: CommandRunnerOptions;
  readonly #turns = new KeyedMutex();
  readonly #listeners = new Set<(status: CommandStatus) => void>();
  /** Arrived and not yet started; removing one here is what cancels it. */
  readonly #waiting = new Map<string, CommandStatus>();
  /** Left #waiting, and not yet on disk or not yet ended. */
  readonly #running = new Map<string, CommandStatus>();
  readonly #work = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  constructor(options: CommandRunnerOptions) {
    this.#options = options;
  }

  /** Calls `listener` with what the center is to hear. An outcome is on disk before it is told. Returns how to stop. */
  onUpdate(listener: (status: CommandStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Every command whose outcome the center has not acknowledged. */
  pending(): readonly CommandStatus[] {
    const byId = new Map(this.#options.journal.pending().map((status) => [status.command, status]));
    for (const status of [...this.#waiting.values(), ...this.#running.values()]) byId.set(status.command, status);
    return [...byId.values()];
  }

  /** Takes an order; never throws, answers through onUpdate. */
  offer(order: CommandOrder): void {
    const known = this.#find(order.command);
    if (known) {
      this.#tell(known);
    } else if (this.#closing.signal.aborted) {
      // The center sends it again to the agent's next process.
    } else if (this.#full()) {
      const message = `this agent holds ${COMMANDS_UNACKNOWLEDGED_MAX} commands whose outcome the center has not acknowledged; try again when it has`;
      this.#tell({ ...arrived(order), outcome: 'FAILED', message });
    } else {
      this.#waiting.set(order.command, arrived(order));
      this.#track(this.#execute(order, this.#options.clock.monotonic() + order.expiresInMs));
    }
  }

  /** Cancels a command that has not started; one that has is answered with how far it is. */
  cancel(command: string): void {
    const waiting = this.#waiting.get(command);
    const known = this.#find(command);
    if (waiting) {
      this.#leaveWaiting(waiting);
      this.#track(this.#end(waiting, 'CANCELLED', 'cancelled before it started'));
    } else if (known) {
      this.#tell(known);
    }
  }

  /** The center has the command's outcome on its disk. */
  acknowledge(command: string): void {
    this.#track(this.#options.journal.acknowledge(command));
  }

  /** Takes no more orders, drops what waits, and resolves when what runs has ended or after `timeoutMs`. */
  async close(timeoutMs: number): Promise<void> {
    this.#closing.abort();
    this.#waiting.clear();
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(timeoutMs, resolve);
      void Promise.all(this.#work).then(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  async #execute(order: CommandOrder, deadlineMs: number): Promise<void> {
    await this.#turn(order, async () => {
      const waiting = this.#waiting.get(order.command);
      if (!waiting) return;
      this.#leaveWaiting(waiting);
      const { action } = order;
      if (action === undefined) {
        await this.#end(waiting, 'FAILED', 'this agent is too old to know this action: upgrade it');
      } else if (this.#options.clock.monotonic() >= deadlineMs) {
        await this.#end(waiting, 'EXPIRED', 'its time ran out before it could start on the machine');
      } else {
        await this.#run(waiting, action);
      }
    });
  }

  /** In the order of arrival per service, except that a stop does not wait for a start under way: it is how a hopeless start is ended. */
  #turn({ service, action }: CommandOrder, work: () => Promise<void>): Promise<void> {
    const stops = `${service}/stop`;
    if (action === 'STOP') return this.#turns.run(stops, work);
    return this.#turns.run(service, async () => {
      await this.#turns.run(stops, () => Promise.resolve());
      await work();
    });
  }

  async #run(waiting: CommandStatus, action: Action): Promise<void> {
    const started: CommandStatus = { ...waiting, outcome: 'STARTED', startedMs: this.#options.clock.now() };
    try {
      await this.#options.journal.write(started);
    } catch (error) {
      // Not on disk, so it must not run. If the write is there after all, the next process says UNKNOWN.
      this.#running.delete(waiting.command);
      if (!isCode(error, 'exhausted')) throw error;
      this.#tell({ ...waiting, outcome: 'FAILED', message: `it was not started: ${messageOf(error)}` });
      return;
    }
    this.#running.set(started.command, started);
    this.#tell(started);
    const { outcome, message } = await this.#act(action, started);
    await this.#end(started, outcome, message);
  }

  async #act(action: Action, { command, service }: CommandStatus): Promise<{ outcome: Outcome; message: string }> {
    try {
      return { outcome: 'SUCCEEDED', message: describe(await this.#call(action, service)) };
    } catch (error) {
      if (!isCode(error)) this.#options.logger.error('a command failed in an unexpected way', { command, error });
      return { outcome: 'FAILED', message: messageOf(error) };
    }
  }

  #call(action: Action, service: string): Promise<InstanceReport> {
    const { control } = this.#options;
    switch (action) {
      case 'START':
        return control.start(service);
      case 'STOP':
        return control.stop(service);
      case 'RESTART':
        return control.restart(service);
      default:
        return unreachable(action);
    }
  }

  /** The outcome is told only when it is on disk: waits for room there. */
  async #end(before: CommandStatus, outcome: Outcome, message: string): Promise<void> {
    const { journal, clock, random } = this.#options;
    const status = { ...before, outcome, message: message.slice(0, MESSAGE_CHARACTERS_MAX), endedMs: clock.now() };
    const retry = new Backoff(WRITE_RETRY, random);
    for (;;) {
      try {
        await journal.write(status);
        break;
      } catch (error) {
        if (!isCode(error, 'exhausted')) throw error;
        await sleep(clock, retry.next());
      }
    }
    this.#running.delete(status.command);
    this.#tell(status);
  }

  #leaveWaiting(status: CommandStatus): void {
    this.#waiting.delete(status.command);
    this.#running.set(status.command, status);
  }

  #find(command: string): CommandStatus | undefined {
    return this.#waiting.get(command) ?? this.#running.get(command) ?? this.#options.journal.find(command);
  }

  #full(): boolean {
    return this.#options.journal.full || this.#waiting.size + this.#running.size >= COMMANDS_UNACKNOWLEDGED_MAX;
  }

  #tell(status: CommandStatus): void {
    for (const listener of [...this.#listeners]) listener(status);
  }

  /** A store that fails ends the process elsewhere; here it is only said. */
  #track(work: Promise<void>): void {
    const tracked: Promise<void> = work
      .catch((error: unknown) => {
        this.#options.logger.error('a command could not be recorded', { error });
      })
      .finally(() => this.#work.delete(tracked));
    this.#work.add(tracked);
  }
}

function arrived({ command, action, service }: CommandOrder): CommandStatus {
  return { command, action, service, outcome: 'DELIVERED', message: '', startedMs: undefined, endedMs: undefined };
}

function describe(report: InstanceReport): string {
  const { state, pid, reason } = report;
  return `${state}${pid > 0 ? `, pid ${pid}` : ''}${reason === '' ? '' : `: ${reason}`}`;
}
