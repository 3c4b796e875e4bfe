import type { Clock } from '../../kit/clock.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { aborted, KeyedMutex } from '../../kit/tasks.js';
import type { CommandKind } from '../../model/instance.js';
import type { ReleaseRef } from '../../model/release.js';
import type { Commands } from '../commands/commands.js';
import type { Table } from '../table.js';
import { Execution } from './execution.js';
import { followUpOf, toPutBack, versionBefore } from './follow-up.js';
import { OperationLedger, type OperationView } from './ledger.js';
import { takesTurn, type OperationRecord, type Stop } from './operation.js';
import { Preview, type PlannedChange } from './planned-changes.js';
import { freshFacts, recordOf, releaseOf, targetRecords, type Asking, type OperationWish } from './records.js';
import {
  assertRetriable,
  heldBy,
  nothingToChange,
  nothingToRetry,
  REQUEST_ID_CHARACTERS_MAX,
  requestIdTooLong,
} from './refusals.js';
import { chooseTargets, problemOf, type Target, type TargetFleet } from './targets.js';
import { assertHeld, sendable, type ReleaseSource } from './work.js';

/** Operations that have not ended; searches, which keep nobody out, are counted by themselves. */
export const OPEN_OPERATIONS_MAX = 200;
export const OPEN_SEARCHES_MAX = 200;
/** After an operation could not begin, for example because the disk is full. */
const AGAIN_MS = 1000;

export interface PlannedTarget extends Target, Omit<PlannedChange, 'problem'> {
  /** Why it would not run; undefined: it would. */
  readonly problem: string | undefined;
}

export interface OperationsOptions {
  readonly table: Table<OperationRecord>;
  readonly commands: Commands;
  readonly fleet: TargetFleet;
  readonly releases: ReleaseSource;
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
    const end = (id: string): Promise<void> => this.#endRollout(id);
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

  /** Releases that operations under way or waiting need, and may need to put targets back: none of them may be removed. */
  releasesInUse(): readonly ReleaseRef[] {
    return this.ledger
      .open()
      .flatMap((record) => [
        ...(record.release ? [record.release] : []),
        ...this.ledger.targetsOf(record.id).flatMap(({ result }) => result?.deploy?.from ?? []),
        ...this.#wantedBack(record),
      ]);
  }

  /** What a rollback goes back to. */
  #wantedBack({ action, service, deploy, rollbackOf }: OperationRecord): readonly ReleaseRef[] {
    if (action !== 'ROLLBACK') return [];
    const before = rollbackOf === undefined ? [] : this.ledger.targetsOf(rollbackOf);
    const version = deploy?.version ?? '';
    const named = version === '' ? undefined : sendable(this.#options.releases, service, version)?.release;
    return [...before.flatMap(({ result }) => result?.deploy?.from ?? []), ...(named ? [named] : [])];
  }

  /** What starting it would do. @throws as start, but for what is under way on the service */
  plan(wish: OperationWish): { readonly record: OperationRecord; readonly targets: readonly PlannedTarget[] } {
    const record = this.#recordOf(wish);
    const preview = new Preview(record, this.#options.releases);
    const targets = this.#chosen(record).map((target) => {
      const change = preview.of(target.candidate);
      return { ...target, ...change, problem: problemOf(wish.action, target.candidate) ?? change.problem };
    });
    return { record, targets };
  }

  /**
   * Stores an operation with its frozen targets and begins it, or stores that it waits. `before` is told its id before anything is ordered.
   * @throws invalid for a selector or strategy; not_found when nothing matches; conflict when another has the service; exhausted
   */
  start(wish: OperationWish, before: (id: string) => void = () => undefined): Promise<OperationView> {
    return this.#once(wish, async () => {
      const record = this.#recordOf(wish);
      // Also for one that is to wait: a mistyped selector is said now.
      this.#chosen(record);
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
      const outcomes: readonly string[] = ['FAILED', 'EXPIRED', 'UNKNOWN', ...(includeCancelled ? ['CANCELLED'] : [])];
      const targets = this.ledger.targetsOf(id);
      const machines = targets.filter(({ outcome }) => outcomes.includes(outcome)).map(({ machine }) => machine);
      if (machines.length === 0) throw nothingToRetry(id, targets);
      const { clock, releases } = this.#options;
      const release = releaseOf(record, releases);
      const again = { ...record, ...freshFacts(asking, clock.now()), release, retryOf: id, machines };
      return this.#enter(again, asking.wait);
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

  #recordOf(wish: OperationWish): OperationRecord {
    return recordOf(wish, this.#options.releases, this.#options.clock.now());
  }

  /** @throws as chooseTargets; not_found for a rollback to a version that is nowhere */
  #chosen(record: OperationRecord): Target[] {
    const { fleet, releases, random } = this.#options;
    const targets = chooseTargets(fleet, record, random);
    const candidates = targets.map(({ candidate }) => candidate);
    if (record.action === 'ROLLBACK') assertHeld(record, candidates, releases);
    return targets;
  }

  /** Only one at a time per service gets in here: two can never both believe that they have it. */
  #enter(record: OperationRecord, wait: boolean): Promise<OperationView> {
    return this.#mutex.run(serviceKey(record.service), async () => {
      this.#assertRoom(record.action);
      const holder = takesTurn(record.action) ? this.ledger.holder(record.service) : undefined;
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
    const { commands, clock } = this.#options;
    const before = this.#versionsBefore(record);
    const place = { nowMs: clock.now(), number: () => commands.nextNumber(), backTo: before };
    await this.ledger.addTargets(record.id, targetRecords(record, targets, place));
    await this.ledger.change(record.id, (stored) => ({ ...stored, startedMs: clock.now() }));
    this.#execution?.drive(record.id);
  }

  /** What ran on each machine before the operation deployed to it that this one puts back. */
  #versionsBefore({ rollbackOf }: OperationRecord): ReadonlyMap<string, string | undefined> {
    const targets = rollbackOf === undefined ? [] : this.ledger.targetsOf(rollbackOf);
    return new Map(targets.map((target) => [target.machine, versionBefore(target)]));
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

  /** Besides the one whose turn it is, what an earlier try left: what takes no turn waits for nobody, nor does what was cancelled. */
  #next(service: string): OperationRecord | undefined {
    const holder = this.ledger.holder(service)?.record.id;
    return this.ledger
      .open()
      .filter((record) => record.service === service && record.startedMs === undefined)
      .find(({ id, action, paused, stop }) => stop ?? (!takesTurn(action) || (id === holder && !paused)));
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

  /** One that has started is at its end: what it is to put back takes its turn over, before anybody else can. */
  #endRollout(id: string): Promise<void> {
    const { record } = this.ledger.require(id);
    const targets = toPutBack(record, this.ledger.targetsOf(id));
    if (targets.length === 0) return this.#end(id);
    return this.#mutex.run(serviceKey(record.service), async () => {
      const nowMs = this.#options.clock.now();
      await this.ledger.endWith(id, nowMs, followUpOf(record, targets, { id: newId('op'), nowMs }));
      this.#ended(id);
    });
  }

  async #end(id: string): Promise<void> {
    const { clock } = this.#options;
    await this.ledger.change(id, (record) => ({ ...record, endedMs: clock.now() }));
    this.#ended(id);
  }

  #ended(id: string): void {
    const { logger } = this.#options;
    const { record, state, counts } = this.ledger.require(id);
    logger.info('an operation ended', { operation: id, service: record.service, state, counts });
    this.#letNext(record.service);
  }
}

function serviceKey(service: string): string {
  return `service ${service}`;
}
