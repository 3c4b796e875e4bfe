import assert from 'node:assert/strict';
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
  isSettled,
  overdue,
  queued,
  refused,
  reported,
  resumeStep,
  spared,
  type CommandRecord,
} from '../../src/center/commands/command.js';
import type { Stop } from '../../src/center/operations/operation.js';
import type { Plan, Rollout, RolloutTarget, Step } from '../../src/center/operations/rollout.js';
import { batchOf, budgetOf, type Strategy } from '../../src/center/operations/strategy.js';
import { randomBetween, type Random } from '../../src/kit/random.js';
import { NO_RESULT } from '../../src/model/command-result.js';
import type { Outcome } from '../../src/model/instance.js';

/** How the agent of a target behaves once it was ordered. */
export interface Fate {
  readonly end: 'SUCCEEDED' | 'FAILED' | 'UNKNOWN';
  /** Until it starts, and from then until it ends, milliseconds; more than any patience: it hangs. */
  readonly startsInMs: number;
  readonly lastsMs: number;
  readonly connected: boolean;
  readonly tooOld: boolean;
}

export interface WorldOptions {
  readonly strategy: Strategy;
  readonly patienceMs: number;
  readonly fates: readonly Fate[];
  readonly random: Random;
}

interface Machine {
  readonly fate: Fate;
  readonly canary: boolean;
  command: CommandRecord;
  connected: boolean;
  removed: boolean;
  awaySinceMs: number | undefined;
  illness: string | undefined;
  /** By the operation itself, not by a center that finds a machine again. */
  orders: number;
  /** What its agent has on its disk. */
  journal: { outcome: Outcome; nextMs: number } | undefined;
  starts: number;
}

const BEGIN_MS = 1_000_000;

function record(position: number, canary: boolean): CommandRecord {
  return {
    id: `c-${position}`,
    number: position,
    requestId: '',
    machine: `m-${position}`,
    machineName: `web-${position}`,
    service: 'orders',
    action: 'RESTART',
    outcome: 'PENDING',
    message: '',
    createdMs: BEGIN_MS,
    expiresMs: BEGIN_MS,
    deliveredMs: undefined,
    startedMs: undefined,
    endedMs: undefined,
    unknownSinceMs: undefined,
    createdBy: 'ann',
    reason: '',
    turn: { operation: 'op-1', position, canary },
  };
}

/** A fleet that an operation goes over: agents by their promises, links that break, people who decide; and what must hold all along. */
export class RolloutWorld {
  readonly machines: readonly Machine[];
  nowMs = BEGIN_MS;
  paused = false;
  stop: Stop | undefined;
  bakeUntilMs: number | undefined;
  ended = false;
  readonly #options: WorldOptions;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.machines = options.fates.map((fate, position) => ({
      fate,
      canary: position < options.strategy.canary,
      command: record(position, position < options.strategy.canary),
      connected: fate.connected,
      removed: false,
      awaySinceMs: undefined,
      illness: undefined,
      orders: 0,
      journal: undefined,
      starts: 0,
    }));
  }

  view(): Rollout {
    const { strategy, patienceMs } = this.#options;
    const { paused, stop, bakeUntilMs } = this;
    for (const machine of this.machines) {
      const seen = machine.connected || bakeUntilMs === undefined || !machine.canary;
      machine.awaySinceMs = seen ? undefined : (machine.awaySinceMs ?? this.nowMs);
    }
    const targets = this.machines.map((machine): RolloutTarget => {
      const { command, canary, fate } = machine;
      return {
        id: command.id,
        name: command.machineName,
        outcome: command.outcome,
        canary,
        connected: machine.connected,
        settled: isSettled(command),
        orderedMs: command.deliveredMs,
        queuedUntilMs: command.outcome === 'QUEUED' ? command.expiresMs : undefined,
        unknownSinceMs: command.unknownSinceMs,
        cancelling: command.cancelBy !== undefined,
        recallable: command.startedMs === undefined,
        problem: fate.tooOld ? 'its agent is too old' : undefined,
        illness: bakeUntilMs === undefined ? undefined : machine.illness,
        awaySinceMs: machine.awaySinceMs,
      };
    });
    return { strategy, startedMs: BEGIN_MS, paused, stop, bakeUntilMs, targets, patienceMs };
  }

  /** Fails when the plan breaks a promise. */
  judge({ steps, wakeMs }: Plan): void {
    const stop = steps.find((step) => step.kind === 'stop');
    this.#judgeTurns(steps, stop !== undefined);
    this.#judgeStop(stop);
    if (!stop && !this.stop) this.#judgeCanaries();
    for (const step of steps) if (step.kind === 'cancel') this.#judgeCancel(this.#machine(step.target));
    if (steps.some(({ kind }) => kind === 'end')) this.#judgeEnd(steps);
    if (steps.length > 0) return;
    this.#judgeRest();
    assert.ok(wakeMs === undefined || wakeMs > this.nowMs, 'a plan that wakes in the past spins');
    assert.ok((wakeMs ?? Infinity) <= this.#firstDueMs(), 'what falls due is overslept');
  }

  #judgeTurns(steps: readonly Step[], stops: boolean): void {
    const kinds = new Set(steps.map(({ kind }) => kind));
    if (this.stop || this.paused || stops) {
      assert.ok(
        !kinds.has('order') && !kinds.has('queue') && !kinds.has('refuse'),
        'a turn after a stop or in a pause',
      );
    }
    const orders = steps.flatMap((step) => (step.kind === 'order' ? [this.#machine(step.target)] : []));
    for (const machine of orders) this.#judgeOrder(machine);
    const room = this.#room();
    assert.ok(orders.length === 0 || orders.length <= room, `${orders.length} orders where ${room} places are free`);
  }

  #room(): number {
    return batchOf(this.#options.strategy.batch, this.machines.length) - this.#underWay();
  }

  /** Takes a step, as the center does. */
  take(step: Step): void {
    if (step.kind === 'stop') this.stop = step.stop;
    else if (step.kind === 'bake') this.bakeUntilMs = step.untilMs;
    else if (step.kind === 'end') this.ended = true;
    else if (step.kind === 'order') this.#order(this.#machine(step.target));
    else {
      const machine = this.#machine(step.target);
      machine.command = this.#changed(machine.command, step);
      this.#tellCancel(machine);
    }
  }

  /** Something happens, by chance. */
  happen(): void {
    const { random } = this.#options;
    const machine = this.machines[randomBetween(random, 0, this.machines.length)];
    assert.ok(machine);
    const events: (() => void)[] = [
      () => {
        this.lose(machine);
      },
      () => {
        this.find(machine);
      },
      () => {
        this.find(machine);
      },
      () => {
        this.pass(randomBetween(random, 1, 400));
      },
      () => {
        this.pass(randomBetween(random, 1, 2000));
      },
      () => {
        this.paused = !this.stop && random.next() < 0.5;
      },
      () => {
        if (random.next() < 0.1) this.stop ??= { cause: 'cancelled', message: 'cancelled by ann' };
      },
      () => {
        if (random.next() < 0.2) this.#remove(machine);
      },
      () => {
        if (random.next() < 0.2) this.#renew(machine);
      },
      () => {
        if (random.next() < 0.3) machine.illness = random.next() < 0.5 ? 'it is FATAL' : undefined;
      },
    ];
    events[randomBetween(random, 0, events.length)]?.();
  }

  /** Time passes; agents do what falls due. */
  pass(byMs: number): void {
    this.nowMs += byMs;
    for (const machine of this.machines) this.#live(machine);
  }

  /** When the next agent does something; undefined: none ever does. */
  nextAgentMs(): number | undefined {
    const times = this.machines.flatMap(({ journal, removed }) =>
      journal && !removed && !isOver(journal.outcome) ? [journal.nextMs] : [],
    );
    return times.length === 0 ? undefined : Math.min(...times);
  }

  lose(machine: Machine): void {
    machine.connected = false;
    machine.command = contactLost(machine.command, this.nowMs);
  }

  /** It connects, says what it has, and the center settles what it does not have. */
  find(machine: Machine): void {
    if (machine.removed) return;
    machine.connected = true;
    if (machine.journal) {
      this.#report(machine);
      this.#tellCancel(machine);
      return;
    }
    const { command } = machine;
    switch (resumeStep(command, this.nowMs)) {
      case 'leave':
        return;
      case 'send':
        assert.ok(!this.stop && !this.ended, 'a target that was lost is sent again after a stop');
        machine.command = delivered(command, this.nowMs);
        this.#arrive(machine);
        return;
      case 'expire':
        machine.command = expired(command, this.nowMs);
        return;
      case 'cancel':
        if (isCancelDue(command)) machine.command = cancelled(command, command.cancelBy, this.nowMs);
        return;
      case 'give up':
        machine.command = forgotten(command, this.nowMs);
        return;
    }
  }

  /** All that is known of how far it is; two that are equal are in the same state. */
  print(): string {
    const commands = this.machines.map(({ command: { outcome, cancelBy, endedMs } }) => [outcome, cancelBy, endedMs]);
    return JSON.stringify([this.stop, this.bakeUntilMs, this.ended, commands]);
  }

  count(outcome: Outcome): number {
    return this.machines.filter(({ command }) => command.outcome === outcome).length;
  }

  #machine(id: string): Machine {
    const machine = this.machines.find(({ command }) => command.id === id);
    assert.ok(machine, `there is no target ${id}`);
    return machine;
  }

  #changed(command: CommandRecord, step: Exclude<Step, { kind: 'stop' | 'bake' | 'end' | 'order' }>): CommandRecord {
    if (isSettled(command)) return command;
    switch (step.kind) {
      case 'queue':
        return queued(command, step.untilMs);
      case 'expire':
        return isHeld(command) ? expired(command, this.nowMs) : command;
      case 'refuse':
        return refused(command, step.why, this.nowMs);
      case 'give up':
        return overdue(command, step.why, this.nowMs);
      case 'cancel':
        return isHeld(command) ? spared(command, step.why, this.nowMs) : cancelRequested(command, step.why);
    }
  }

  #order(machine: Machine): void {
    machine.orders += 1;
    assert.equal(machine.orders, 1, 'a target was ordered twice');
    const expiresMs = this.nowMs + this.#options.strategy.targetTimeoutMs;
    machine.command = { ...delivered(machine.command, this.nowMs), expiresMs };
    this.#arrive(machine);
  }

  /** What is written to a connection may never arrive; then the connection is lost too. */
  #arrive(machine: Machine): void {
    if (this.#options.random.next() < 0.1) this.lose(machine);
    else machine.journal = { outcome: 'DELIVERED', nextMs: this.nowMs + machine.fate.startsInMs };
  }

  #live(machine: Machine): void {
    const { journal, fate } = machine;
    if (!journal || machine.removed) return;
    if (journal.outcome === 'DELIVERED' && journal.nextMs <= this.nowMs) {
      machine.starts += 1;
      assert.equal(machine.starts, 1, 'a target was started twice');
      machine.journal = { outcome: 'STARTED', nextMs: journal.nextMs + fate.lastsMs };
      this.#report(machine);
    }
    if (machine.journal?.outcome === 'STARTED' && machine.journal.nextMs <= this.nowMs) {
      machine.journal = { outcome: fate.end, nextMs: 0 };
      this.#report(machine);
    }
  }

  #report(machine: Machine): void {
    const { journal, command } = machine;
    if (!journal || !machine.connected || journal.outcome === 'DELIVERED') return;
    const endedMs = isOver(journal.outcome) ? this.nowMs : undefined;
    const startedMs = machine.starts > 0 ? this.nowMs : undefined;
    const report = {
      command: command.id,
      outcome: journal.outcome,
      message: '',
      startedMs,
      endedMs,
      result: NO_RESULT,
    };
    machine.command = reported(command, report, this.nowMs);
  }

  #tellCancel(machine: Machine): void {
    if (!machine.connected || machine.journal?.outcome !== 'DELIVERED' || !isCancelDue(machine.command)) return;
    machine.journal = { outcome: 'CANCELLED', nextMs: 0 };
    this.#report(machine);
  }

  #remove(machine: Machine): void {
    machine.removed = true;
    machine.connected = false;
    const { command } = machine;
    if (isSettled(command)) return;
    machine.command = isHeld(command) ? cancelled(command, 'bob', this.nowMs) : abandoned(command, 'bob', this.nowMs);
  }

  #renew(machine: Machine): void {
    this.lose(machine);
    // A start that nobody saw on a disk that is lost is beyond what is promised.
    if (machine.command.startedMs !== undefined) machine.journal = undefined;
    this.find(machine);
  }

  #isUnderWay({ command }: Machine): boolean {
    const { strategy, patienceMs } = this.#options;
    if (command.outcome === 'DELIVERED' || command.outcome === 'STARTED') return true;
    if (command.outcome !== 'UNKNOWN' || isSettled(command)) return false;
    const silentMs = this.nowMs - (command.unknownSinceMs ?? 0);
    return silentMs < patienceMs && this.nowMs - (command.deliveredMs ?? 0) < strategy.targetTimeoutMs;
  }

  #underWay(): number {
    return this.machines.filter((machine) => this.#isUnderWay(machine)).length;
  }

  #judgeOrder(machine: Machine): void {
    const { command, canary, connected, fate } = machine;
    assert.ok(isHeld(command) && connected && !fate.tooOld, 'an order to a machine that cannot take it');
    if (canary) return;
    const canaries = this.machines.filter((one) => one.canary);
    if (canaries.length === 0) return;
    assert.ok(
      canaries.every((one) => one.command.outcome === 'SUCCEEDED'),
      'others are ordered before the canaries succeeded',
    );
    if (this.#options.strategy.bakeMs === 0) return;
    assert.ok(
      this.bakeUntilMs !== undefined && this.bakeUntilMs <= this.nowMs,
      'others are ordered before the bake ends',
    );
    const begun = this.machines.some((one) => !one.canary && (one.orders > 0 || one.command.outcome === 'QUEUED'));
    const others = this.machines.some((one) => !one.canary && one.command.outcome !== 'PENDING' && !one.removed);
    if (begun || others) return;
    assert.ok(
      canaries.every((one) => one.illness === undefined && one.connected),
      'others are ordered though a canary is ill or cannot be seen',
    );
  }

  #othersBegun(): boolean {
    return this.machines.some(
      ({ canary, command: { outcome } }) => !canary && outcome !== 'PENDING' && outcome !== 'CANCELLED',
    );
  }

  #judgeCanaries(): void {
    if (this.#othersBegun()) return;
    for (const machine of this.machines) {
      const { canary, command } = machine;
      if (!canary || isHeld(command) || this.#isUnderWay(machine)) continue;
      assert.equal(command.outcome, 'SUCCEEDED', 'a canary did not succeed and nothing stops');
      assert.ok(this.bakeUntilMs === undefined || machine.illness === undefined, 'a canary is ill and nothing stops');
    }
  }

  #judgeCancel({ command }: Machine): void {
    const taken = command.outcome === 'DELIVERED' || command.outcome === 'STARTED';
    assert.ok(
      !taken || this.stop?.cause === 'cancelled',
      'what is under way is taken back though nobody asked for that',
    );
    assert.ok(command.cancelBy === undefined, 'a target is cancelled twice');
  }

  /** When there is nothing to do, nothing is due and nobody who could have a turn is passed over. */
  #judgeRest(): void {
    const { strategy } = this.#options;
    assert.ok(this.stop ?? this.nowMs < BEGIN_MS + strategy.timeoutMs, 'its deadline has passed and nothing stops');
    for (const machine of this.machines) {
      const { command, connected } = machine;
      const runs = command.outcome === 'DELIVERED' || command.outcome === 'STARTED';
      assert.ok(!runs || this.nowMs < this.#lateMs(command), 'a target that takes too long is not given up');
      assert.ok(command.outcome !== 'QUEUED' || connected || this.nowMs < command.expiresMs, 'a target waits too long');
      if (this.stop) this.#judgeStopped(command);
      else this.#judgeTurn(machine);
    }
  }

  #judgeStopped(command: CommandRecord): void {
    assert.ok(!isHeld(command), 'a target waits though its operation is stopped');
    const open = !isSettled(command) && command.startedMs === undefined && command.cancelBy === undefined;
    const recall = command.outcome === 'UNKNOWN' || this.stop?.cause === 'cancelled';
    assert.ok(!open || !recall, 'a target that may not have started is not taken back');
  }

  #judgeTurn({ command, connected, canary }: Machine): void {
    if (this.paused || this.#room() <= 0 || !(canary || this.#canariesHold())) return;
    assert.ok(command.outcome !== 'PENDING' && !(command.outcome === 'QUEUED' && connected), 'a turn is passed over');
  }

  /** Whether the others may have their turns. */
  #canariesHold(): boolean {
    const canaries = this.machines.filter(({ canary }) => canary);
    const baked = this.bakeUntilMs === undefined || this.nowMs >= this.bakeUntilMs;
    const seen = this.bakeUntilMs === undefined || this.#othersBegun() || canaries.every(({ connected }) => connected);
    return baked && seen && canaries.every(({ command }) => command.outcome === 'SUCCEEDED');
  }

  /** When something falls due though nothing changes. */
  #firstDueMs(): number {
    const { strategy, patienceMs } = this.#options;
    const dues = this.machines.map((machine) => {
      const { command, connected } = machine;
      if (command.outcome === 'QUEUED') return connected ? Infinity : command.expiresMs;
      if (!this.#isUnderWay(machine)) return Infinity;
      const silentMs = command.outcome === 'UNKNOWN' ? (command.unknownSinceMs ?? 0) + patienceMs : Infinity;
      return Math.min(silentMs, this.#lateMs(command));
    });
    if (!this.stop) dues.push(BEGIN_MS + strategy.timeoutMs);
    if (!this.stop && (this.bakeUntilMs ?? 0) > this.nowMs) dues.push(this.bakeUntilMs ?? 0);
    return Math.min(...dues);
  }

  #lateMs({ deliveredMs = 0 }: CommandRecord): number {
    return deliveredMs + this.#options.strategy.targetTimeoutMs;
  }

  #judgeStop(step: Extract<Step, { kind: 'stop' }> | undefined): void {
    if (this.stop) {
      assert.equal(step, undefined, 'an operation that is stopped is stopped again');
      return;
    }
    const { budget, unreachableBudget } = this.#options.strategy;
    const total = this.machines.length;
    const failed = this.count('FAILED');
    const away =
      this.count('EXPIRED') +
      this.machines.filter((machine) => machine.command.outcome === 'UNKNOWN' && !this.#isUnderWay(machine)).length;
    const tooMany = failed > budgetOf(budget, total);
    const tooFar = away > budgetOf(unreachableBudget, total);
    if (tooMany || tooFar) assert.ok(step, 'a budget is exceeded and nothing stops');
    if (step?.stop.cause !== 'budget') return;
    assert.ok(tooMany || tooFar, 'a budget stops what is within it');
    const said = tooMany ? `${failed} of ${total} targets failed` : `${away} of ${total} targets are out of reach`;
    assert.ok(step.stop.message.startsWith(said), `"${step.stop.message}" where ${said}`);
  }

  #judgeEnd(steps: readonly Step[]): void {
    assert.equal(steps.length, 1, 'something else is done at the end');
    for (const { command } of this.machines) {
      assert.ok(isOver(command.outcome), `ended with ${command.id} ${command.outcome}`);
      const loose = command.outcome === 'UNKNOWN' && !isSettled(command) && command.startedMs === undefined;
      assert.ok(!loose || command.cancelBy !== undefined, `${command.id} may start after the end`);
    }
    if (this.stop) return;
    for (const { command, removed, orders } of this.machines)
      assert.ok(
        command.outcome !== 'CANCELLED' || removed || orders > 0,
        'a target had no turn though nothing stopped',
      );
  }
}

function isOver(outcome: Outcome): boolean {
  return outcome !== 'PENDING' && outcome !== 'QUEUED' && outcome !== 'DELIVERED' && outcome !== 'STARTED';
}
