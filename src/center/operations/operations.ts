import type { Clock } from '../../kit/clock.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { aborted, KeyedMutex } from '../../kit/tasks.js';
import type { CommandKind } from '../../model/instance.js';
import type { LogSearch } from '../../model/log-search.js';
import type { CommandRecord } from '../commands/command.js';
import type { Commands } from '../commands/commands.js';
import type { Table } from '../table.js';
import { Execution } from './execution.js';
import { OperationLedger, type OperationView } from './ledger.js';
import type { OperationRecord, Stop } from './operation.js';
import {
  assertRetriable,
  heldBy,
  nothingToChange,
  nothingToRetry,
  REQUEST_ID_CHARACTERS_MAX,
  requestIdTooLong,
} from './refusals.js';
import { ACTION_STRATEGY, readStrategy, SEARCH_STRATEGY, type StrategyWish } from './strategy.js';
import { chooseTargets, problemOf, type Target, type TargetFleet } from './targets.js';

/** Operations that have not ended; searches, which keep nobody out, are counted by themselves. */
export const OPEN_OPERATIONS_MAX = 200;
export const OPEN_SEARCHES_MAX = 200;
/** After an operation could not begin, for example because the disk is full. */
const AGAIN_MS = 1000;

/** Who wants something, and why. */
export interface Asking {
  readonly by: string;
  /** The address it was asked from. */
  readonly from: string;
  readonly reason: string;
  /** A repeated one answers with the first operation; empty: every call is a new one. */
  readonly requestId: string;
  /** Wait for other operations on the service instead of being refused. */
  readonly wait: boolean;
}

/** What is wanted. */
export interface OperationWish extends Asking {
  readonly action: CommandKind;
  readonly service: string;
  readonly selector: string;
  readonly strategy: StrategyWish;
  readonly search: LogSearch | undefined;
}

export interface PlannedTarget extends Target {
  /** Why it would not run; undefined: it would. */
  readonly problem: string | undefined;
}

export interface OperationsOptions {
  readonly table: Table<OperationRecord>;
  readonly commands: Commands;
  readonly fleet: TargetFleet;
  readonly connected: (machine: string) => boolean;
  readonly patienceMs: () => number;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/**
 * Everything fleet-wide: starts operations, lets one at a time have a service, and sees each to its end. What is decided is durable
 * before it has an effect.
 */
export class Operations {
  readonly ledger: OperationLedger;
  readonly #options: OperationsOptions;
  readonly #mutex = new KeyedMutex();
  #execution: Execution | undefined;
  #signal: AbortSignal | undefined;
  /** Searches that nobody wants to go on, and whose stop could not be stored yet. */
  readonly #unstopped = new Map<string, Stop>();

  constructor(options: OperationsOptions) {
    this.#options = options;
    this.ledger = new OperationLedger(options, (id) => {
      this.#execution?.poke(id);
    });
  }

  /** Makes what an interrupted start left half done whole, and ends searches: whoever waited for their hits is gone. Call before serving. */
  async resume(): Promise<void> {
    await this.#tidy();
    const message = 'the center was restarted: nobody waits for its hits any more';
    for (const { id, action } of this.ledger.open())
      if (action === 'SEARCH') await this.satisfy(id, { cause: 'reader', message });
  }

  /** What it leaves is found again at the next start. */
  async #tidy(): Promise<void> {
    try {
      await this.ledger.removeOrphans();
    } catch (error) {
      if (!isCode(error, 'exhausted')) throw error;
      this.#options.logger.error('what an interrupted start of an operation left could not be removed', { error });
    }
  }

  /** Carries on what has not ended, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    const end = (id: string): Promise<void> => this.#end(id);
    this.#execution = new Execution({ ...this.#options, ledger: this.ledger, end }, signal);
    for (const [id, stop] of this.#unstopped) void this.satisfy(id, stop);
    for (const { id, service, startedMs } of this.ledger.open()) {
      if (startedMs !== undefined) this.#execution.drive(id, true);
      else this.#letNext(service);
    }
    await aborted(signal);
  }

  /** A machine came or went, or an instance of the service changed: what waits for that looks again. */
  poke(service?: string): void {
    for (const record of this.ledger.open()) {
      if (service === undefined || record.service === service) this.#execution?.poke(record.id);
    }
  }

  /** What starting it would do. @throws as start, but for what is under way on the service */
  plan(wish: OperationWish): { readonly record: OperationRecord; readonly targets: readonly PlannedTarget[] } {
    const record = this.#recordOf(wish);
    const targets = chooseTargets(this.#options.fleet, record, this.#options.random);
    return {
      record,
      targets: targets.map((target) => ({ ...target, problem: problemOf(wish.action, target.candidate) })),
    };
  }

  /**
   * Stores an operation with its frozen targets and begins it, or stores that it waits. `before` is told its id before anything is ordered.
   * @throws invalid for a selector or strategy; not_found when nothing matches; conflict when another has the service; exhausted
   */
  start(wish: OperationWish, before: (id: string) => void = () => undefined): Promise<OperationView> {
    return this.#once(wish, () => {
      const record = this.#recordOf(wish);
      // Also for one that is to wait: a mistyped selector is said now.
      chooseTargets(this.#options.fleet, record, this.#options.random);
      before(record.id);
      return this.#enter(record, wish.wait);
    });
  }

  /**
   * A new operation over the failed, expired and unknown targets of one that has ended; on wish over those that were never ordered too.
   * @throws not_found; precondition when it has not ended, or nothing is left to try again; conflict; invalid for a search
   */
  retry(id: string, asking: Asking, includeCancelled: boolean): Promise<OperationView> {
    return this.#once(asking, async () => {
      const { record } = this.ledger.require(id);
      assertRetriable(record);
      const again: readonly string[] = ['FAILED', 'EXPIRED', 'UNKNOWN', ...(includeCancelled ? ['CANCELLED'] : [])];
      const targets = this.ledger.targetsOf(id);
      const machines = targets.filter(({ outcome }) => again.includes(outcome)).map(({ machine }) => machine);
      if (machines.length === 0) throw nothingToRetry(id, targets);
      return this.#enter({ ...record, ...this.#fresh(asking), retryOf: id, machines }, asking.wait);
    });
  }

  /** @throws not_found; precondition when it has ended or is being stopped */
  async pause(id: string, by: string): Promise<OperationView> {
    const paused = { by, sinceMs: this.#options.clock.now() };
    return this.#decide(id, (record) => (record.paused ? record : { ...record, paused }));
  }

  /** Goes on with one that was paused. @throws as pause */
  async unpause(id: string): Promise<OperationView> {
    const view = await this.#decide(id, (record) => (record.paused ? { ...record, paused: undefined } : record));
    if (view.record.startedMs === undefined) this.#letNext(view.record.service);
    return view;
  }

  /** No more targets are ordered, and what has not started does not start. @throws as pause; cancelling again is fine */
  async cancel(id: string, by: string): Promise<OperationView> {
    const { record } = this.ledger.require(id);
    if (record.stop?.cause === 'cancelled') return this.ledger.require(id);
    await this.#decide(id, (before) => ({ ...before, stop: { cause: 'cancelled', message: `cancelled by ${by}` } }));
    // Not while it begins: one that has started is carried to its end, with its targets.
    await this.#mutex
      .run(serviceKey(record.service), async () => {
        if (this.ledger.get(id)?.startedMs === undefined) await this.#end(id);
      })
      .catch((error: unknown) => {
        this.#letNextLater(record.service);
        throw error;
      });
    return this.ledger.require(id);
  }

  /**
   * A search is to find no more. Nothing happens to one that has ended. Never rejects: what cannot be stored, for example because the disk
   * is full, is tried again until it is.
   */
  async satisfy(id: string, stop: Stop): Promise<void> {
    try {
      await this.ledger.stop(id, stop);
      this.#unstopped.delete(id);
    } catch (error) {
      this.#options.logger.error('a search could not be stopped, trying again', { operation: id, error });
      this.#unstopped.set(id, stop);
      this.#options.clock.after(AGAIN_MS, () => {
        if (this.#signal?.aborted === false && this.#unstopped.has(id)) void this.satisfy(id, stop);
      });
    }
  }

  #once(asking: Asking, make: () => Promise<OperationView>): Promise<OperationView> {
    const { by, requestId } = asking;
    if (requestId === '') return make();
    if (requestId.length > REQUEST_ID_CHARACTERS_MAX) return Promise.reject(requestIdTooLong());
    return this.#mutex.run(`request ${by} ${requestId}`, async () => this.ledger.ofRequest(by, requestId) ?? make());
  }

  #fresh({ by, from, reason, requestId }: Asking): Fresh {
    return {
      id: newId('op'),
      number: 0,
      requestId,
      createdBy: by,
      createdFrom: from,
      reason,
      createdMs: this.#options.clock.now(),
      startedMs: undefined,
      endedMs: undefined,
      paused: undefined,
      stop: undefined,
      bakeUntilMs: undefined,
    };
  }

  #recordOf(wish: OperationWish): OperationRecord {
    const { action, service, selector, search } = wish;
    const strategy = readStrategy(wish.strategy, action === 'SEARCH' ? SEARCH_STRATEGY : ACTION_STRATEGY);
    const what = { action, service, selector, strategy, search };
    return { ...this.#fresh(wish), ...what, retryOf: undefined, machines: undefined };
  }

  /** Only one at a time per service gets in here: two can never both believe that they have it. */
  #enter(record: OperationRecord, wait: boolean): Promise<OperationView> {
    return this.#mutex.run(serviceKey(record.service), async () => {
      this.#assertRoom(record.action);
      const holder = record.action === 'SEARCH' ? undefined : this.ledger.holder(record.service);
      if (holder && !wait) throw heldBy(holder);
      if (!holder) {
        // Found before anything is stored, so that what cannot start leaves nothing behind.
        const targets = this.#freeze(record);
        await this.#beginOrWait(await this.ledger.add(record), targets);
      } else await this.ledger.add(record);
      return this.ledger.require(record.id);
    });
  }

  #assertRoom(action: CommandKind): void {
    const isSearch = action === 'SEARCH';
    const [max, what] = isSearch ? [OPEN_SEARCHES_MAX, 'searches'] : [OPEN_OPERATIONS_MAX, 'operations'];
    const open = this.ledger.open().filter((record) => (record.action === 'SEARCH') === isSearch);
    if (open.length < max) return;
    throw new MusterError('exhausted', `${max} ${what} are under way or waiting: let some end`, {
      reason: isSearch ? 'SEARCHES_OPEN' : 'OPERATIONS_OPEN',
    });
  }

  #freeze(record: OperationRecord): Target[] {
    return chooseTargets(this.#options.fleet, record, this.#options.random);
  }

  /** Once it is stored it is there: what goes wrong then, for example a disk that is full, delays it. */
  async #beginOrWait(record: OperationRecord, targets: readonly Target[]): Promise<void> {
    try {
      await this.#begin(record, targets);
    } catch (error) {
      this.#options.logger.error('an operation could not begin, trying again', { operation: record.id, error });
      this.#letNextLater(record.service);
    }
  }

  /** The targets are durable before the operation says that it has started, and only then is any of them ordered. */
  async #begin(record: OperationRecord, targets: readonly Target[]): Promise<void> {
    await this.ledger.addTargets(
      record.id,
      targets.map((target, position) => this.#targetRecord(record, target, position)),
    );
    await this.ledger.change(record.id, (before) => ({ ...before, startedMs: this.#options.clock.now() }));
    this.#execution?.drive(record.id);
  }

  #targetRecord(operation: OperationRecord, { candidate, canary }: Target, position: number): CommandRecord {
    const { action, service, createdBy, reason } = operation;
    const nowMs = this.#options.clock.now();
    return {
      id: newId('c'),
      number: this.#options.commands.nextNumber(),
      requestId: '',
      machine: candidate.id,
      machineName: candidate.name,
      service,
      action,
      outcome: 'PENDING',
      message: '',
      createdMs: nowMs,
      expiresMs: nowMs,
      deliveredMs: undefined,
      startedMs: undefined,
      endedMs: undefined,
      unknownSinceMs: undefined,
      createdBy,
      reason,
      turn: { operation: operation.id, position, canary },
    };
  }

  /** Whoever waits first for a service that is free begins. */
  #letNext(service: string): void {
    void this.#mutex
      .run(serviceKey(service), async () => {
        for (let next = this.#next(service); next; next = this.#next(service)) await this.#beginWaiting(next);
        await this.ledger.forgetOld();
      })
      .catch((error: unknown) => {
        this.#options.logger.error('an operation that waits could not begin, trying again', { service, error });
        this.#letNextLater(service);
      });
  }

  #letNextLater(service: string): void {
    this.#options.clock.after(AGAIN_MS, () => {
      if (this.#signal?.aborted === false) this.#letNext(service);
    });
  }

  /** Besides the one whose turn it is, what an earlier try left: a search waits for nobody, nor does what was cancelled. */
  #next(service: string): OperationRecord | undefined {
    const holder = this.ledger.holder(service)?.record.id;
    return this.ledger
      .open()
      .filter((record) => record.service === service && record.startedMs === undefined)
      .find(({ id, action, paused, stop }) => stop ?? (action === 'SEARCH' || (id === holder && !paused)));
  }

  /** What matched when it was asked for may match no more. */
  async #beginWaiting(record: OperationRecord): Promise<void> {
    if (record.stop) {
      await this.#end(record.id);
      return;
    }
    let targets: Target[];
    try {
      targets = this.#freeze(record);
    } catch (error) {
      if (!isCode(error, 'not_found', 'invalid')) throw error;
      await this.ledger.stop(record.id, { cause: 'nothing', message: messageOf(error) });
      await this.#end(record.id);
      return;
    }
    await this.#begin(record, targets);
  }

  /** The one place where a person's decision changes an operation. @throws not_found; precondition */
  async #decide(id: string, change: (record: OperationRecord) => OperationRecord): Promise<OperationView> {
    const { record } = this.ledger.require(id);
    if (record.endedMs !== undefined) throw nothingToChange(id, 'has ended');
    await this.ledger.change(id, (before) => {
      if (before.stop) throw nothingToChange(id, 'is being stopped');
      return change(before);
    });
    return this.ledger.require(id);
  }

  async #end(id: string): Promise<void> {
    const { clock, logger } = this.#options;
    await this.ledger.change(id, (record) => ({ ...record, endedMs: clock.now() }));
    const { record, state, counts } = this.ledger.require(id);
    logger.info('an operation ended', { operation: id, service: record.service, state, counts });
    this.#letNext(record.service);
  }
}

function serviceKey(service: string): string {
  return `service ${service}`;
}

type Fresh = Pick<
  OperationRecord,
  | 'id'
  | 'number'
  | 'requestId'
  | 'createdBy'
  | 'createdFrom'
  | 'reason'
  | 'createdMs'
  | 'startedMs'
  | 'endedMs'
  | 'paused'
  | 'stop'
  | 'bakeUntilMs'
>;
