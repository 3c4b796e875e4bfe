import type { Clock } from '../../kit/clock.js';
import { sleep } from '../../kit/clock.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { isFinal } from '../../model/instance.js';
import type { Changes } from '../changes.js';
import type { CommandReport, CommandWork, Courier, StillCurrent } from '../gateway/parts.js';
import type { Table } from '../table.js';
import { assertRoom, lifeOf, newCommand, type RunOrder } from './creation.js';
import { OpenCommands } from './open-commands.js';
import { Progress } from './progress.js';
import {
  abandoned,
  cancelled,
  cancelRequested,
  contactLost,
  delivered,
  expired,
  forgotten,
  isCancelDue,
  isHeld,
  isProgress,
  isSettled,
  orphaned,
  overdue,
  queued,
  refused,
  partOfOperation,
  progressed,
  reported,
  resumeStep,
  spared,
  unsendable,
  type CommandRecord,
} from './command.js';

/** Settled commands kept; the oldest are forgotten first. */
export const HISTORY_MAX = 10_000;
const SWEEP_INTERVAL_MS = 500;
/** After it could not be stored that contact was lost. */
const LOST_AGAIN_MS = 1000;
const TARGETS_PER_WRITE = 5000;

export interface CommandsOptions {
  readonly table: Table<CommandRecord>;
  readonly courier: Courier;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What a command is to do, beside its action. @throws a MusterError when that cannot be said any more: then it fails */
  readonly workOf: (command: CommandRecord) => CommandWork;
}

/**
 * Commands, one by one. What is told to anyone is durable first: a command before it is sent, an outcome before it is shown or
 * acknowledged. A command whose start was seen is never sent again.
 */
export class Commands {
  readonly #options: CommandsOptions;
  readonly #open: OpenCommands;
  readonly #progress: Progress;
  readonly #byRequest = new Map<string, string>();
  readonly #requests = new KeyedMutex();
  /** Ids of those ordered by themselves, in the order they were made. */
  readonly #order: string[];
  #lastNumber = 0;

  constructor(options: CommandsOptions) {
    this.#options = options;
    this.#open = new OpenCommands(options.clock);
    this.#progress = new Progress(options.clock);
    const all = options.table.values().sort((a, b) => a.number - b.number);
    this.#order = all.filter(({ turn }) => !turn).map(({ id }) => id);
    for (const command of all) this.#index(command);
    this.#lastNumber = all.at(-1)?.number ?? 0;
  }

  get changes(): Changes {
    return this.#options.table.changes;
  }

  list(): CommandRecord[] {
    return this.#options.table.values();
  }

  find(id: string): CommandRecord | undefined {
    return this.#options.table.get(id);
  }

  /** @throws not_found */
  require(id: string): CommandRecord {
    const found = this.find(id);
    if (found) return found;
    throw new MusterError(
      'not_found',
      `there is no command "${id}": it never was, or it is older than the last ${HISTORY_MAX}`,
      {
        reason: 'COMMAND_UNKNOWN',
      },
    );
  }

  /** At a start nobody is connected: what had been sent is unknown until its agent comes back. */
  async resume(): Promise<void> {
    for (const machine of this.#open.machines()) await this.machineLost(machine);
  }

  /**
   * Records a command and sends it when its machine is connected. Resolves once durable; a repeated request id answers with the first.
   * @throws invalid; exhausted
   */
  async run(order: RunOrder): Promise<CommandRecord> {
    const expiresInMs = lifeOf(order);
    if (order.requestId === '') return this.#create(order, expiresInMs);
    const key = `${order.by}\n${order.requestId}`;
    return this.#requests.run(key, async () => {
      const earlier = this.#options.table.get(this.#byRequest.get(key) ?? '');
      return earlier ?? this.#create(order, expiresInMs);
    });
  }

  /**
   * Cancels what has not been sent. What has been sent its agent is asked to cancel: that it is to be is durable, so an agent that is
   * away is asked when it comes back. @throws not_found; precondition when it started
   */
  async cancel(id: string, by: string): Promise<CommandRecord> {
    this.require(id);
    const { clock } = this.#options;
    const command = await this.#change(id, (current) => {
      if (current.turn) throw partOfOperation(current.turn.operation);
      if (current.outcome === 'QUEUED') return cancelled(current, by, clock.now());
      if (current.outcome === 'STARTED' || (current.outcome === 'UNKNOWN' && current.startedMs !== undefined)) {
        throw new MusterError('precondition', 'the command has started: it can no longer be cancelled', {
          reason: 'COMMAND_STARTED',
        });
      }
      return cancelRequested(current, by);
    });
    if (command) this.#tellCancel(command);
    return this.require(id);
  }

  /** A machine connected; `held` are the commands on its disk. Settles, acknowledges and sends what is due. */
  async held(machine: string, held: readonly CommandReport[], current: StillCurrent): Promise<void> {
    for (const report of held) await this.reported(machine, report, current);
    const there = new Set(held.map(({ command }) => command));
    for (const id of there) {
      const command = this.find(id);
      if (command?.machine === machine && current()) this.#tellCancel(command);
    }
    for (const id of this.#open.of(machine)) {
      if (!there.has(id) && current()) await this.#resumeOne(id);
    }
  }

  /** An agent reported on a command. A final outcome is acknowledged once it is durable; so is one of a command nobody knows. */
  async reported(machine: string, report: CommandReport, current: StillCurrent): Promise<void> {
    const { clock, courier, logger } = this.#options;
    const known = this.find(report.command);
    if (known && known.machine !== machine) {
      logger.warn("an agent reported on another machine's command", { machine, command: report.command });
      return;
    }
    if (known && isProgress(known, report)) return this.#takeProgress(report, current);
    const after = await this.#change(report.command, (before) =>
      current() ? reported(before, report, clock.now()) : before,
    );
    if (current() && isEnd(report) && (!after || isSettled(after))) courier.acknowledge(machine, report.command);
  }

  /** Contact with a machine is lost. What a disk that is full does not take is tried again while the machine is away. */
  async machineLost(machine: string): Promise<void> {
    const { clock, courier, logger } = this.#options;
    const nowMs = clock.now();
    try {
      const ids = this.#open.of(machine);
      await Promise.all(ids.map((id) => this.#change(id, (command) => contactLost(command, nowMs))));
    } catch (error) {
      if (!isCode(error, 'exhausted')) throw error;
      logger.error('could not store that commands are unknown, trying again', { machine, error });
      clock.after(LOST_AGAIN_MS, () => {
        if (!courier.connected(machine)) this.machineLost(machine).catch(() => undefined);
      });
    }
  }

  /** The machine is gone for good: nothing that waits for it will be sent. */
  async machineRemoved(machine: string, by: string): Promise<void> {
    const nowMs = this.#options.clock.now();
    const ids = this.#open.of(machine);
    await Promise.all(
      ids.map((id) =>
        this.#change(id, (command) => (isHeld(command) ? orphaned(command, by, nowMs) : abandoned(command, by, nowMs))),
      ),
    );
  }

  /** Stores the targets of an operation, PENDING. Resolves once all are durable; a crash in between leaves some that nothing refers to. */
  async addTargets(targets: readonly CommandRecord[]): Promise<void> {
    for (let at = 0; at < targets.length; at += TARGETS_PER_WRITE) {
      await this.#options.table.putAll(targets.slice(at, at + TARGETS_PER_WRITE).map((target) => [target.id, target]));
    }
    for (const target of targets) this.#index(target);
  }

  /** The number of the next command. */
  nextNumber(): number {
    this.#lastNumber += 1;
    return this.#lastNumber;
  }

  /** Sends a target whose turn has come; not started within that time, it never will be. Nothing happens to one that was sent before. */
  async orderTarget(id: string, withinMs: number): Promise<void> {
    const target = this.find(id);
    if (target && isHeld(target)) await this.#send(id, withinMs);
  }

  /** The machine of a target whose turn has come is not connected: it waits for it until then. */
  async queueTarget(id: string, untilMs: number): Promise<void> {
    await this.#change(id, (target) => queued(target, untilMs));
  }

  async expireTarget(id: string): Promise<void> {
    const { clock } = this.#options;
    await this.#change(id, (target) => (isHeld(target) ? expired(target, clock.now()) : target));
  }

  async refuseTarget(id: string, why: string): Promise<void> {
    const { clock } = this.#options;
    await this.#change(id, (target) => refused(target, why, clock.now()));
  }

  async giveUpTarget(id: string, why: string): Promise<void> {
    const { clock } = this.#options;
    await this.#change(id, (target) => overdue(target, why, clock.now()));
  }

  /** Spares a target that was not sent; the agent of one that was sent is asked to cancel it. */
  async cancelTarget(id: string, why: string): Promise<void> {
    const { clock } = this.#options;
    const target = await this.#change(id, (before) =>
      isHeld(before) ? spared(before, why, clock.now()) : cancelRequested(before, why),
    );
    if (target) this.#tellCancel(target);
  }

  /** Forgets targets whose operation is forgotten, or never began. Resolves once durable. */
  async removeTargets(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      const target = this.find(id);
      if (target) this.#open.remove(target);
    }
    for (let at = 0; at < ids.length; at += TARGETS_PER_WRITE) {
      await this.#options.table.remove(ids.slice(at, at + TARGETS_PER_WRITE));
    }
  }

  /** Expires what waits too long and bounds the history, until the signal aborts. */
  async watchOver(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    for (;;) {
      await sleep(clock, SWEEP_INTERVAL_MS, signal);
      const due = this.#open.due();
      try {
        await Promise.all([
          ...due.map((id) => this.#expire(id)),
          ...this.#progress.due().map((id) => this.#storeProgress(id)),
        ]);
        await this.#forgetOld();
      } catch (error) {
        logger.error('could not store that commands expired or how far they are, trying again', { error });
      }
    }
  }

  async #create(order: RunOrder, expiresInMs: number): Promise<CommandRecord> {
    const { clock, table } = this.#options;
    assertRoom(this.#open.countOf(order.machine.id), order.machine.name);
    const command = newCommand(order, { number: this.nextNumber(), nowMs: clock.now(), expiresInMs });
    await table.put(command.id, command);
    this.#order.push(command.id);
    this.#index(command);
    if (this.#options.courier.connected(command.machine)) await this.#send(command.id);
    return this.require(command.id);
  }

  async #resumeOne(id: string): Promise<void> {
    const { clock } = this.#options;
    const command = this.find(id);
    if (!command) return;
    switch (resumeStep(command, clock.now())) {
      case 'leave':
        return;
      case 'send':
        await this.#send(id);
        return;
      case 'expire':
        await this.#change(id, (before) => expired(before, clock.now()));
        return;
      case 'cancel':
        await this.#change(id, (before) =>
          isCancelDue(before) ? cancelled(before, before.cancelBy, clock.now()) : before,
        );
        return;
      case 'give up':
        await this.#change(id, (before) => forgotten(before, clock.now()));
        return;
    }
  }

  /** Asks the agent of a command that is to be cancelled, if it is connected. */
  #tellCancel(command: CommandRecord): void {
    if (isCancelDue(command)) this.#options.courier.cancel(command.machine, command.id);
  }

  /** Sends a command that has not started. That it is sent is durable first, so that a center killed in between does not forget it. */
  async #send(id: string, withinMs?: number): Promise<void> {
    const { clock, courier } = this.#options;
    let work: CommandWork = {};
    const command = await this.#change(id, (before) => {
      if (before.startedMs !== undefined) return before;
      const now = clock.now();
      // Asked for while this waited its turn: it is not on its agent's disk, else it were not sent.
      if (isCancelDue(before)) return cancelled(before, before.cancelBy, now);
      try {
        work = this.#options.workOf(before);
      } catch (error) {
        if (!(error instanceof MusterError)) throw error;
        return unsendable(before, messageOf(error), now);
      }
      return { ...delivered(before, now), expiresMs: withinMs === undefined ? before.expiresMs : now + withinMs };
    });
    if (command?.outcome !== 'DELIVERED') return;
    const { service, action, machine } = command;
    const expiresInMs = Math.max(1, this.#open.leftMs(command));
    if (courier.order(machine, { command: id, service, action, expiresInMs, ...work })) return;
    await this.#change(id, (before) => contactLost(before, clock.now()));
  }

  /** Only what was never sent expires here; what was sent its agent decides. */
  async #expire(id: string): Promise<void> {
    const { clock } = this.#options;
    await this.#change(id, (command) => (command.outcome === 'QUEUED' ? expired(command, clock.now()) : command));
    this.#open.dropDeadline(id);
  }

  async #takeProgress(report: CommandReport, current: StillCurrent): Promise<void> {
    if (current() && this.#progress.take(report)) await this.#storeProgress(report.command);
  }

  /** Stores the newest that was told of how far a command is. */
  async #storeProgress(id: string): Promise<void> {
    try {
      await this.#change(id, (command) => command);
    } catch (error) {
      if (!isCode(error, 'exhausted')) throw error;
      this.#options.logger.error('could not store how far a command is, trying again', { command: id, error });
    }
  }

  /** The one place where a command changes, together with what was told of it and not stored yet. A settled command stays as it is. */
  async #change(id: string, change: (command: CommandRecord) => CommandRecord): Promise<CommandRecord | undefined> {
    let told: CommandReport | undefined;
    try {
      const after = await this.#options.table.save(id, (before) => {
        told = this.#progress.withdraw(id);
        if (!before || isSettled(before)) return before;
        return change(told ? progressed(before, told) : before);
      });
      if (!after || isSettled(after)) this.#progress.forget(id);
      if (after && isSettled(after)) this.#open.remove(after);
      return after;
    } catch (error) {
      if (told) this.#progress.giveBack(told);
      throw error;
    }
  }

  async #forgetOld(): Promise<void> {
    const surplus = this.#order.length - HISTORY_MAX;
    if (surplus <= 0) return;
    const old = this.#order.slice(0, surplus).filter((id) => {
      const command = this.find(id);
      return !command || isSettled(command);
    });
    if (old.length === 0) return;
    const gone = new Set(old);
    for (const id of old) {
      const command = this.find(id);
      if (command) this.#byRequest.delete(`${command.createdBy}\n${command.requestId}`);
    }
    this.#order.splice(0, this.#order.length, ...this.#order.filter((id) => !gone.has(id)));
    await this.#options.table.remove(old);
  }

  #index(command: CommandRecord): void {
    if (command.requestId !== '') this.#byRequest.set(`${command.createdBy}\n${command.requestId}`, command.id);
    this.#open.add(command);
  }
}

/** Whether its agent will say no more of it. */
function isEnd({ outcome }: CommandReport): boolean {
  return isFinal(outcome) || outcome === 'UNKNOWN';
}
