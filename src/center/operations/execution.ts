import type { Clock } from '../../kit/clock.js';
import type { Logger } from '../../kit/logger.js';
import { isHeld, isSettled, type CommandRecord } from '../commands/command.js';
import type { Commands } from '../commands/commands.js';
import { Driver } from './driver.js';
import type { OperationLedger } from './ledger.js';
import { takesTurn, type OperationRecord } from './operation.js';
import type { Rollout, RolloutTarget, Step } from './rollout.js';
import { SteadyTimes } from './steady-times.js';
import { illnessOf, isSeen, problemOf, type Candidate, type TargetFleet } from './targets.js';
import { noWayBack } from './work.js';

export interface ExecutionOptions {
  readonly ledger: OperationLedger;
  readonly commands: Commands;
  readonly fleet: TargetFleet;
  /** Whether the machine has a live session. */
  readonly connected: (machine: string) => boolean;
  /** How long a lost contact is waited for before its target counts as out of reach, milliseconds. */
  readonly patienceMs: () => number;
  /** Nothing is left to do for the operation. Resolves once its end is durable. */
  readonly end: (id: string) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What is remembered of an operation that is carried on: nothing that a restart of the center may not forget. */
interface Driven {
  readonly driver: Driver;
  readonly times: SteadyTimes;
  /** Since when canaries that are looked at cannot be seen, by target. */
  readonly away: Map<string, number>;
}

/** Carries operations on: shows each to the decision as it is, and takes the steps that are decided. */
export class Execution {
  readonly #options: ExecutionOptions;
  readonly #driven = new Map<string, Driven>();
  readonly #signal: AbortSignal;

  constructor(options: ExecutionOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
  }

  /**
   * Carries an operation on that has started, until it has ended. One that is taken up again at a start of the center gives its machines
   * time to come back before their time to wait counts.
   */
  drive(id: string, takenUp = false): void {
    if (this.#driven.has(id)) return;
    const { clock, logger, patienceMs } = this.#options;
    const times = new SteadyTimes(clock);
    const backByMs = takenUp ? times.now() + patienceMs() : 0;
    const away = new Map<string, number>();
    const driver = new Driver({
      rollout: () => this.#rollout(id, times, away),
      take: (step) =>
        this.#take(id, step.kind === 'queue' ? { ...step, untilMs: Math.max(step.untilMs, backByMs) } : step, times),
      now: () => times.now(),
      clock,
      logger,
    });
    this.#driven.set(id, { driver, times, away });
    void driver.run(this.#signal).finally(() => this.#driven.delete(id));
  }

  /** Something that the operation depends on has changed. */
  poke(id: string): void {
    this.#driven.get(id)?.driver.poke();
  }

  #rollout(id: string, times: SteadyTimes, away: Map<string, number>): Rollout | undefined {
    const { ledger, patienceMs } = this.#options;
    const record = ledger.get(id);
    if (record?.startedMs === undefined || record.endedMs !== undefined) return undefined;
    const { strategy, stop, paused } = record;
    const targets = ledger.targetsOf(id).map((target): RolloutTarget => {
      const { outcome, deliveredMs, expiresMs, unknownSinceMs } = target;
      return {
        ...this.#target(record, target),
        awaySinceMs: this.#awaySince(record, target, { times, away }),
        orderedMs: times.of(`${target.id} ordered`, deliveredMs),
        queuedUntilMs: outcome === 'QUEUED' ? times.of(`${target.id} queued`, expiresMs) : undefined,
        unknownSinceMs: times.of(`${target.id} unknown`, unknownSinceMs),
      };
    });
    return {
      strategy,
      stop,
      startedMs: times.of('started', record.startedMs) ?? times.now(),
      bakeUntilMs: times.of('bake', record.bakeUntilMs),
      paused: paused !== undefined,
      targets,
      patienceMs: patienceMs(),
    };
  }

  #target(record: OperationRecord, target: CommandRecord): Timeless {
    const { action, service, bakeUntilMs } = record;
    const { fleet, connected } = this.#options;
    const { id, machine, outcome } = target;
    const held = isHeld(target);
    const canary = target.turn?.canary ?? false;
    const baking = canary && bakeUntilMs !== undefined;
    const candidate = baking ? fleet.candidate(machine, service) : undefined;
    return {
      id,
      name: target.machineName,
      outcome,
      canary,
      connected: held && connected(machine),
      settled: isSettled(target),
      cancelling: target.cancelBy !== undefined,
      recallable: target.startedMs === undefined || action === 'SEARCH',
      problem: held ? this.#problem(record, target) : undefined,
      illness: baking ? illnessOf(action, candidate) : undefined,
    };
  }

  #problem(record: OperationRecord, target: CommandRecord): string | undefined {
    const { fleet } = this.#options;
    const { action, service } = record;
    const candidate: Candidate | undefined =
      action === 'DEPLOY' ? fleet.somewhere(target.machine, service) : fleet.candidate(target.machine, service);
    return (candidate && problemOf(action, candidate)) ?? noWayBack(record, target);
  }

  /** A session alone shows nothing: what its agent says of the instance does. */
  #awaySince(
    { bakeUntilMs, action, service }: OperationRecord,
    { id, machine, turn }: CommandRecord,
    { times, away }: { readonly times: SteadyTimes; readonly away: Map<string, number> },
  ): number | undefined {
    if (bakeUntilMs === undefined || turn?.canary !== true) return undefined;
    const { fleet, connected } = this.#options;
    const candidate = fleet.candidate(machine, service);
    const seen = !takesTurn(action) || (connected(machine) && isSeen(action, candidate));
    if (seen) away.delete(id);
    else if (!away.has(id)) away.set(id, times.now());
    return away.get(id);
  }

  /** Somebody may have paused or stopped the operation since this was decided. */
  async #order(id: string, target: string): Promise<void> {
    const record = this.#options.ledger.get(id);
    if (!record || record.paused || record.stop) return;
    await this.#options.commands.orderTarget(target, record.strategy.targetTimeoutMs);
  }

  async #take(id: string, step: Step, times: SteadyTimes): Promise<void> {
    const { commands, ledger, end } = this.#options;
    switch (step.kind) {
      case 'order':
        return this.#order(id, step.target);
      case 'queue':
        return commands.queueTarget(step.target, times.toWall(step.untilMs));
      case 'expire':
        return commands.expireTarget(step.target);
      case 'refuse':
        return commands.refuseTarget(step.target, step.why);
      case 'give up':
        return commands.giveUpTarget(step.target, step.why);
      case 'cancel':
        return commands.cancelTarget(step.target, step.why);
      case 'bake':
        await ledger.change(id, (record) => ({ ...record, bakeUntilMs: times.toWall(step.untilMs) }));
        return;
      case 'stop':
        return ledger.stop(id, step.stop);
      case 'end':
        return end(id);
    }
  }
}

type Timeless = Omit<RolloutTarget, 'orderedMs' | 'queuedUntilMs' | 'unknownSinceMs' | 'awaySinceMs'>;
