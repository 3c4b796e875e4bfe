import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import type { Slots } from '../../kit/slots.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { NO_RESULT, type CommandResult } from '../../model/command-result.js';
import type { CommandKind } from '../../model/instance.js';
import type { BackupOrder } from '../../model/backup.js';
import type { LogSearch, SearchReport } from '../../model/log-search.js';
import type { DeployOrder, RollbackOrder } from '../../model/release.js';
import { type CommandJournal, type CommandStatus, COMMANDS_UNACKNOWLEDGED_MAX } from './journal.js';
import { Lifecycle, type CommandEnd, type LifecycleControl } from './lifecycle.js';

/** An order as it arrived from the center. */
export interface CommandOrder {
  readonly command: string;
  /** Undefined: an action that this version does not know. */
  readonly action: CommandKind | undefined;
  readonly service: string;
  /** With SEARCH. @throws invalid for one that cannot be made */
  readonly search?: () => LogSearch;
  /** With DEPLOY. @throws invalid */
  readonly deploy?: () => DeployOrder;
  /** With ROLLBACK. @throws invalid */
  readonly rollback?: () => RollbackOrder;
  /** With VERIFY_BACKUP and RESTORE. @throws invalid */
  readonly backup?: () => BackupOrder;
  /** Counted from arrival: not started within it, it is expired. */
  readonly expiresInMs: number;
}

/** What a command searches for, and where. */
export interface SearchOrder {
  readonly command: string;
  readonly service: string;
  readonly search: LogSearch;
}

export interface CommandSearches {
  /**
   * Searches and hands every hit to the center; resolves with what was looked at, also when the signal has ended it.
   * @throws not_found, invalid; the failure of the call when the center takes no more
   */
  run(order: SearchOrder, signal: AbortSignal): Promise<SearchReport>;
}

/** Says how far a command is. */
export type Tell = (sofar: CommandResult) => void;

/** Carries out commands that take long: deploys, backups. */
export interface Performer {
  /** What it throws makes the command FAILED with its message. */
  perform(order: CommandOrder, tell: Tell): Promise<CommandEnd>;
  /** Whether it can go on with a command that an earlier process of the agent had begun; else that one's outcome is UNKNOWN. */
  holds(command: string): boolean;
  /** Goes on with it, to its end. */
  resume(command: string, tell: Tell): Promise<CommandEnd>;
}

export interface CommandRunnerOptions {
  readonly journal: CommandJournal;
  readonly control: LifecycleControl;
  readonly searches: CommandSearches;
  /** By what they carry out; of other kinds this agent is too old to know. */
  readonly performers: Readonly<Partial<Record<CommandKind, Performer>>>;
  /** Of the center's searches that run at once on this machine. */
  readonly searchSlots: Slots;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Characters kept of what a command said. */
const MESSAGE_CHARACTERS_MAX = 2000;
const TOO_OLD = 'this agent is too old to know this action: upgrade it';
const WRITE_RETRY = { initialMs: 100, maxMs: 5000, multiplier: 2 } as const;

/**
 * Runs the center's commands, each id at most once: one that is known, waiting, running or ended, is answered and not run again.
 * An order waits its turn at its service, a search for a place among the searches, is written to disk, and only then runs.
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
  /** Of searches that run: they can be cancelled. */
  readonly #searching = new Map<string, AbortController>();
  readonly #lifecycle: Lifecycle;
  readonly #work = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  constructor(options: CommandRunnerOptions) {
    this.#options = options;
    this.#lifecycle = new Lifecycle(options.control, options.logger);
  }

  /** Calls `listener` with what the center is to hear. An outcome is on disk before it is told. Returns how to stop. */
  onUpdate(listener: (status: CommandStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Goes on with what the journal left STARTED: call once, when services are ready. */
  resume(): void {
    for (const status of this.#options.journal.pending()) {
      const performer = status.action && this.#options.performers[status.action];
      if (status.outcome !== 'STARTED' || !performer) continue;
      this.#running.set(status.command, status);
      this.#track(
        this.#inTurn(status, async () => {
          await this.#end(status, await this.#performed(status, (tell) => performer.resume(status.command, tell)));
        }),
      );
    }
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

  /** Cancels a command that has not started, and a search at any time; another that has started is answered with how far it is. */
  cancel(command: string): void {
    const searching = this.#searching.get(command);
    const waiting = this.#waiting.get(command);
    const known = this.#find(command);
    if (searching) {
      searching.abort();
    } else if (waiting) {
      this.#leaveWaiting(waiting);
      const message = 'cancelled before it started';
      this.#track(this.#end(waiting, { outcome: 'CANCELLED', message, result: NO_RESULT }));
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
    for (const searching of this.#searching.values()) searching.abort();
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(timeoutMs, resolve);
      void Promise.all(this.#work).then(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  async #execute(order: CommandOrder, deadlineMs: number): Promise<void> {
    await this.#inTurn(order, async () => {
      const waiting = this.#waiting.get(order.command);
      if (!waiting) return;
      this.#leaveWaiting(waiting);
      if (order.action === undefined) {
        await this.#end(waiting, failed(TOO_OLD));
      } else if (this.#options.clock.monotonic() >= deadlineMs) {
        const message = 'its time ran out before it could start on the machine';
        await this.#end(waiting, { outcome: 'EXPIRED', message, result: NO_RESULT });
      } else {
        await this.#run(waiting, order.action, order);
      }
    });
  }

  /** In the order of arrival per service, except that a stop does not wait for a start under way: it is how a hopeless start is ended. */
  async #inTurn(
    { service, action }: Pick<CommandOrder, 'service' | 'action'>,
    work: () => Promise<void>,
  ): Promise<void> {
    if (action === 'SEARCH') {
      const giveBack = await this.#options.searchSlots.take();
      await work().finally(giveBack);
      return;
    }
    // What reads a service's files keeps nobody from acting on it.
    if (action === 'BACKUP' || action === 'VERIFY_BACKUP') return this.#turns.run(`${service}/backup`, work);
    const stops = `${service}/stop`;
    if (action === 'STOP') return this.#turns.run(stops, work);
    return this.#turns.run(service, async () => {
      await this.#turns.run(stops, () => Promise.resolve());
      await work();
    });
  }

  async #run(waiting: CommandStatus, action: CommandKind, order: CommandOrder): Promise<void> {
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
    await this.#end(started, await this.#carryOut(started, action, order));
  }

  #carryOut(started: CommandStatus, action: CommandKind, order: CommandOrder): Promise<CommandEnd> {
    switch (action) {
      case 'SEARCH':
        return this.#search(order);
      case 'START':
      case 'STOP':
      case 'RESTART':
        return this.#lifecycle.run(action, order.service);
      case 'DEPLOY':
      case 'ROLLBACK':
      case 'BACKUP':
      case 'VERIFY_BACKUP':
      case 'RESTORE':
        return this.#perform(started, action, order);
    }
  }

  #perform(started: CommandStatus, action: CommandKind, order: CommandOrder): Promise<CommandEnd> {
    const performer = this.#options.performers[action];
    return performer
      ? this.#performed(started, (tell) => performer.perform(order, tell))
      : Promise.resolve(failed(TOO_OLD));
  }

  /** Never rejects. */
  async #performed(started: CommandStatus, work: (tell: Tell) => Promise<CommandEnd>): Promise<CommandEnd> {
    const { command } = started;
    try {
      return await work((result) => {
        const sofar = { ...started, result };
        // Told while it runs, never after its end.
        if (!this.#running.has(command)) return;
        this.#running.set(command, sofar);
        this.#tell(sofar);
      });
    } catch (error) {
      if (!isCode(error)) this.#options.logger.error('a command failed in an unexpected way', { command, error });
      return failed(messageOf(error));
    }
  }

  async #search({ command, service, search: wanted }: CommandOrder): Promise<CommandEnd> {
    const controller = new AbortController();
    if (this.#closing.signal.aborted) controller.abort();
    this.#searching.set(command, controller);
    try {
      if (!wanted) throw new MusterError('invalid', 'the order does not say what to search for');
      const search = await this.#options.searches.run({ command, service, search: wanted() }, controller.signal);
      if (!controller.signal.aborted) return { outcome: 'SUCCEEDED', message: foundOf(search), result: { search } };
      return { outcome: 'CANCELLED', message: 'cancelled while it searched', result: { search } };
    } catch (error) {
      if (!isCode(error)) this.#options.logger.error('a search failed in an unexpected way', { command, error });
      return failed(messageOf(error));
    } finally {
      this.#searching.delete(command);
    }
  }

  /** The outcome is told only when it is on disk: waits for room there. */
  async #end(before: CommandStatus, end: CommandEnd): Promise<void> {
    const { journal, clock, random } = this.#options;
    const status = { ...before, ...end, message: end.message.slice(0, MESSAGE_CHARACTERS_MAX), endedMs: clock.now() };
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
  return {
    command,
    action,
    service,
    outcome: 'DELIVERED',
    message: '',
    startedMs: undefined,
    endedMs: undefined,
    result: NO_RESULT,
  };
}

function failed(message: string): CommandEnd {
  return { outcome: 'FAILED', message, result: NO_RESULT };
}

function foundOf({ hits, files, limits }: SearchReport): string {
  const cut = limits.length === 0 ? '' : `, cut short: ${limits.join(', ').toLowerCase()}`;
  return `${hits} matching ${hits === 1 ? 'line' : 'lines'} in ${files} ${files === 1 ? 'file' : 'files'}${cut}`;
}
