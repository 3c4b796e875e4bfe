import type { Clock } from '../../kit/clock.js';
import type { Logger } from '../../kit/logger.js';
import { isSettled, type CommandRecord } from '../commands/command.js';
import type { Commands } from '../commands/commands.js';
import { Driver } from './driver.js';
import type { OperationLedger } from './ledger.js';
import type { OperationRecord } from './operation.js';
import type { Rollout, RolloutTarget, Step } from './rollout.js';
import { illnessOf, problemOf, type TargetFleet } from './targets.js';

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

/** Carries operations on: shows each to the decision as it is, and takes the steps that are decided. */
export class Execution {
  readonly #options: ExecutionOptions;
  readonly #drivers = new Map<string, Driver>();
  /** The wall clock of the start, carried on by the monotonic one: a jump of the wall clock hurries and delays nothing. */
  readonly #anchorMs: number;
  readonly #signal: AbortSignal;

  constructor(options: ExecutionOptions, signal: AbortSignal) {
    this.#options = options;
    this.#anchorMs = options.clock.now() - options.clock.monotonic();
    this.#signal = signal;
  }

  /** Carries an operation on that has started, until it has ended. */
  drive(id: string): void {
    if (this.#drivers.has(id)) return;
    const { clock, logger } = this.#options;
    const driver = new Driver({
      rollout: () => this.#rollout(id),
      take: (step) => this.#take(id, step),
      now: () => this.#anchorMs + clock.monotonic(),
      clock,
      logger,
    });
    this.#drivers.set(id, driver);
    void driver.run(this.#signal).finally(() => this.#drivers.delete(id));
  }

  /** Something that the operation depends on has changed. */
  poke(id: string): void {
    this.#drivers.get(id)?.poke();
  }

  #rollout(id: string): Rollout | undefined {
    const { ledger, patienceMs } = this.#options;
    const record = ledger.get(id);
    if (record?.startedMs === undefined || record.endedMs !== undefined) return undefined;
    const { strategy, startedMs, stop, bakeUntilMs, paused } = record;
    const targets = ledger.targetsOf(id).map((target) => this.#target(record, target));
    return { strategy, startedMs, stop, bakeUntilMs, paused: paused !== undefined, targets, patienceMs: patienceMs() };
  }

  #target({ action, service, bakeUntilMs }: OperationRecord, target: CommandRecord): RolloutTarget {
    const { fleet, connected } = this.#options;
    const { id, machine, outcome } = target;
    const held = outcome === 'PENDING' || outcome === 'QUEUED';
    const canary = target.turn?.canary ?? false;
    const baking = canary && bakeUntilMs !== undefined;
    const candidate = held || baking ? fleet.candidate(machine, service) : undefined;
    return {
      id,
      name: target.machineName,
      outcome,
      canary,
      connected: held && connected(machine),
      settled: isSettled(target),
      orderedMs: target.deliveredMs,
      queuedUntilMs: target.expiresMs,
      unknownSinceMs: target.unknownSinceMs,
      cancelling: target.cancelBy !== undefined,
      problem: candidate && problemOf(action, candidate),
      illness: baking ? illnessOf(action, candidate) : undefined,
    };
  }

  async #take(id: string, step: Step): Promise<void> {
    const { commands, ledger, end } = this.#options;
    switch (step.kind) {
      case 'order':
        return commands.orderTarget(step.target, ledger.require(id).record.strategy.targetTimeoutMs);
      case 'queue':
        return commands.queueTarget(step.target, step.untilMs);
      case 'expire':
        return commands.expireTarget(step.target);
      case 'refuse':
        return commands.refuseTarget(step.target, step.why);
      case 'give up':
        return commands.giveUpTarget(step.target, step.why);
      case 'cancel':
        return commands.cancelTarget(step.target, step.why);
      case 'bake':
        await ledger.change(id, (record) => ({ ...record, bakeUntilMs: step.untilMs }));
        return;
      case 'stop':
        return ledger.stop(id, step.stop);
      case 'end':
        return end(id);
    }
  }
}
