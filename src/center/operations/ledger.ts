import { MusterError } from '../../kit/errors.js';
import type { Clock } from '../../kit/clock.js';
import { Changes } from '../changes.js';
import type { CommandRecord } from '../commands/command.js';
import type { Commands } from '../commands/commands.js';
import type { Table } from '../table.js';
import {
  byTurn,
  countOutcomes,
  holds,
  stateOf,
  type OperationRecord,
  type OperationState,
  type OutcomeCounts,
  type Stop,
} from './operation.js';

/** Ended operations kept, and their targets altogether; the oldest are forgotten first. */
export const OPERATIONS_KEPT = 1000;
export const TARGETS_KEPT = 50_000;

/** An operation as it is now. */
export interface OperationView {
  readonly record: OperationRecord;
  readonly state: OperationState;
  readonly counts: OutcomeCounts;
}

/**
 * What is known of operations: their records, and which commands are their targets. How far an operation is follows from its targets, so
 * there is nothing that a crash could make disagree.
 */
export class OperationLedger {
  /** Ids of operations and of their targets, as each changes. */
  readonly changes: Changes;
  readonly #table: Table<OperationRecord>;
  readonly #commands: Commands;
  /** Ids of an operation's targets, in the order of their turns. */
  readonly #targets = new Map<string, readonly string[]>();
  readonly #byRequest = new Map<string, string>();
  /** Which operation puts back the targets of which. */
  readonly #rolledBackBy = new Map<string, string>();
  #lastNumber = 0;

  /** `changed` is told of each operation that changed, or whose targets did. */
  constructor(
    {
      table,
      commands,
      clock,
    }: { readonly table: Table<OperationRecord>; readonly commands: Commands; readonly clock: Clock },
    changed: (operation: string) => void,
  ) {
    this.#table = table;
    this.#commands = commands;
    this.changes = new Changes(clock);
    for (const record of table.values()) this.#index(record);
    for (const [operation, targets] of targetsByOperation(commands.list())) this.#targets.set(operation, targets);
    table.changes.listen((id) => {
      changed(id);
      this.changes.emit(id);
    });
    commands.changes.listen((id) => {
      const operation = commands.find(id)?.turn?.operation;
      if (operation === undefined) return;
      changed(operation);
      this.changes.emit(id);
    });
  }

  list(): OperationView[] {
    return this.#table.values().map((record) => this.#view(record));
  }

  get(id: string): OperationRecord | undefined {
    return this.#table.get(id);
  }

  find(id: string): OperationView | undefined {
    const record = this.#table.get(id);
    return record && this.#view(record);
  }

  /** @throws not_found */
  require(id: string): OperationView {
    const found = this.find(id);
    if (found) return found;
    throw new MusterError(
      'not_found',
      `there is no operation "${id}": it never was, or it is older than the last ${OPERATIONS_KEPT}. "muster ops" lists them`,
      { reason: 'OPERATION_UNKNOWN' },
    );
  }

  /** The one that a request of that person made before. */
  ofRequest(by: string, requestId: string): OperationView | undefined {
    return this.find(this.#byRequest.get(requestKey(by, requestId)) ?? '');
  }

  /** In the order of their turns. */
  targetsOf(id: string): CommandRecord[] {
    return (this.#targets.get(id) ?? []).flatMap((target) => this.#commands.find(target) ?? []);
  }

  target(id: string): CommandRecord | undefined {
    return this.#commands.find(id);
  }

  /** Those that have not ended, in the order of their turns: as they came, and what puts back another in place of that. */
  open(): OperationRecord[] {
    return this.#table
      .values()
      .filter(({ endedMs }) => endedMs === undefined)
      .sort(byTurn);
  }

  /** The operation whose turn it is on the service: it keeps all others out. */
  holder(service: string): OperationView | undefined {
    const record = this.open().find((one) => holds(one) && one.service === service);
    return record && this.#view(record);
  }

  /** Stores a new operation, the last in order. Resolves once durable. */
  async add(record: OperationRecord): Promise<OperationRecord> {
    const numbered = { ...record, number: this.#lastNumber + 1 };
    this.#lastNumber = numbered.number;
    await this.#table.put(numbered.id, numbered);
    this.#index(numbered);
    return numbered;
  }

  /** The targets of an operation that is about to start, in place of any that a start which failed left. Resolves once durable. */
  async addTargets(id: string, targets: readonly CommandRecord[]): Promise<void> {
    const left = this.#targets.get(id);
    if (left) await this.#commands.removeTargets(left);
    this.#targets.set(
      id,
      targets.map((target) => target.id),
    );
    await this.#commands.addTargets(targets);
  }

  /**
   * Ends an operation, and stores another with that, in one write: either both are on the disk or neither, so whoever starts after a crash finds
   * the other once. Nobody else may end it meanwhile. Resolves once durable.
   */
  async endWith(id: string, endedMs: number, other: OperationRecord): Promise<void> {
    if (this.#table.get(id)?.endedMs !== undefined) return;
    const numbered = { ...other, number: this.#lastNumber + 1 };
    // Known before anybody can hear of the end.
    this.#index(numbered);
    try {
      const also = [this.#table.putting(numbered.id, numbered)];
      await this.#table.save(id, (record) => record && { ...record, endedMs }, also);
    } catch (error) {
      this.#unindex(numbered);
      throw error;
    }
    this.#table.applied(numbered.id, numbered, this.#table.row(id)?.revision ?? 0);
  }

  /** The operation that puts back its targets. */
  rolledBackBy(id: string): string | undefined {
    return this.#rolledBackBy.get(id);
  }

  /** Changes an operation that has not ended. Resolves once durable, with what it is then. */
  async change(id: string, change: (record: OperationRecord) => OperationRecord): Promise<OperationRecord | undefined> {
    return this.#table.save(id, (record) => (record?.endedMs === undefined ? record && change(record) : record));
  }

  /** No more of its targets are ordered. The first reason stays. */
  async stop(id: string, stop: Stop): Promise<void> {
    await this.change(id, (record) => (record.stop ? record : { ...record, stop }));
  }

  /** Removes targets that an interrupted start left: nothing of them was ordered. */
  async removeOrphans(): Promise<void> {
    for (const [id, targets] of [...this.#targets]) {
      if (this.#table.get(id)?.startedMs !== undefined) continue;
      await this.#commands.removeTargets(targets);
      this.#targets.delete(id);
    }
  }

  /** Forgets the oldest that have ended beyond OPERATIONS_KEPT and TARGETS_KEPT; the newest always stays. */
  async forgetOld(): Promise<void> {
    const ended = this.#table.values().filter(({ endedMs }) => endedMs !== undefined);
    let targets = 0;
    const old = ended
      .sort((a, b) => b.number - a.number)
      .filter(({ id }, index) => {
        targets += this.#targets.get(id)?.length ?? 0;
        return index > 0 && (index >= OPERATIONS_KEPT || targets > TARGETS_KEPT);
      });
    for (const record of old) {
      const { id } = record;
      // First the operation: targets that nothing refers to are removed at the next start, if this is cut off.
      await this.#table.remove([id]);
      await this.#commands.removeTargets(this.#targets.get(id) ?? []);
      this.#targets.delete(id);
      this.#unindex(record);
    }
  }

  #view(record: OperationRecord): OperationView {
    const counts = countOutcomes(this.targetsOf(record.id).map(({ outcome }) => outcome));
    return { record, counts, state: stateOf(record, counts) };
  }

  #index({ id, number, createdBy, requestId, rollbackOf, retryOf }: OperationRecord): void {
    this.#lastNumber = Math.max(this.#lastNumber, number);
    if (rollbackOf !== undefined && retryOf === undefined) this.#rolledBackBy.set(rollbackOf, id);
    if (requestId !== '') this.#byRequest.set(requestKey(createdBy, requestId), id);
  }

  #unindex({ id, createdBy, requestId, rollbackOf }: OperationRecord): void {
    this.#byRequest.delete(requestKey(createdBy, requestId));
    if (rollbackOf !== undefined && this.#rolledBackBy.get(rollbackOf) === id) this.#rolledBackBy.delete(rollbackOf);
  }
}

function requestKey(by: string, requestId: string): string {
  return `${by}\n${requestId}`;
}

function targetsByOperation(commands: readonly CommandRecord[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const position = ({ turn }: CommandRecord): number => turn?.position ?? 0;
  for (const { id, turn } of [...commands].sort((a, b) => position(a) - position(b))) {
    if (!turn) continue;
    const targets = found.get(turn.operation) ?? [];
    targets.push(id);
    found.set(turn.operation, targets);
  }
  return found;
}
