import { sleep, type Clock } from '../../kit/clock.js';
import { newId } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Changes } from '../changes.js';
import type { Table } from '../table.js';
import { keyText, type AlertKey, type Finding, type Severity, type Verdict } from './rules.js';

/** An alert as it is stored. Times are wall-clock milliseconds. */
export interface AlertRecord extends AlertKey {
  readonly id: string;
  readonly machineName: string;
  readonly severity: Severity;
  readonly message: string;
  readonly raisedMs: number;
  /** Undefined while it lasts. */
  readonly clearedMs: number | undefined;
  /** Nobody can say since then whether it still holds. */
  readonly unknownSinceMs: number | undefined;
}

/** A machine's name, and since when there is no contact with it (undefined while there is), with all verdicts on it. */
export interface Judgement {
  readonly machineName: string;
  readonly awaySinceMs: number | undefined;
  readonly verdicts: readonly Verdict[];
}

export const CLEARED_KEPT_MS = 30 * 24 * 3_600_000;
export const CLEARED_KEPT_MAX = 10_000;
/** Time passes into alerts (offline, duplicates over) this often; changes are judged at once. */
const TICK_MS = 1000;

/** What becomes of a machine's alerts by a new judgement: pure, and nothing where nothing changed. */
export function planAlerts(open: readonly AlertRecord[], judgement: Judgement, nowMs: number): AlertRecord[] {
  const wrong = new Map<string, Finding>();
  const unsure = new Set<string>();
  const unchecked = new Set<string>();
  for (const verdict of judgement.verdicts) {
    if (verdict.is === 'wrong') wrong.set(keyText(verdict.finding), verdict.finding);
    else if (verdict.is === 'unsure') unsure.add(keyText(verdict.key));
    else unchecked.add(verdict.service);
  }
  const kept = open.flatMap((alert) => continued(alert, { wrong, unsure, unchecked, judgement, nowMs }));
  const known = new Set(open.map(keyText));
  const raised = [...wrong]
    .filter(([key]) => !known.has(key))
    .map(([, finding]) => raise(finding, judgement.machineName, nowMs));
  return [...kept, ...raised];
}

interface Look {
  readonly wrong: ReadonlyMap<string, Finding>;
  readonly unsure: ReadonlySet<string>;
  /** Services without results of checks. */
  readonly unchecked: ReadonlySet<string>;
  readonly judgement: Judgement;
  readonly nowMs: number;
}

/** An open alert after another look; empty when nothing about it changed. */
function continued(alert: AlertRecord, look: Look): AlertRecord[] {
  const { wrong, judgement, nowMs } = look;
  const finding = wrong.get(keyText(alert));
  if (!finding && !isUnsure(alert, look)) return [{ ...alert, clearedMs: nowMs, unknownSinceMs: undefined }];
  const unknownSinceMs = finding ? undefined : doubtedSince(alert, judgement);
  const message = finding?.message ?? alert.message;
  if (unknownSinceMs === alert.unknownSinceMs && message === alert.message) return [];
  return [{ ...alert, message, unknownSinceMs }];
}

/** The last contact that a center was left after its end may be older than what it has stored itself: the machine told of the alert. */
function doubtedSince({ raisedMs, unknownSinceMs }: AlertRecord, { awaySinceMs }: Judgement): number | undefined {
  return awaySinceMs === undefined ? unknownSinceMs : Math.max(awaySinceMs, raisedMs);
}

function isUnsure(alert: AlertRecord, { unsure, unchecked }: Look): boolean {
  return unsure.has(keyText(alert)) || (alert.check !== '' && unchecked.has(alert.service));
}

function raise(finding: Finding, machineName: string, nowMs: number): AlertRecord {
  return { id: newId('al'), ...finding, machineName, raisedMs: nowMs, clearedMs: undefined, unknownSinceMs: undefined };
}

export interface AlertsOptions {
  readonly table: Table<AlertRecord>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** All that is known of a machine now; undefined when it was removed. */
  readonly judge: (machine: string) => Judgement | undefined;
  /** Machines on which the judgement may change by the mere passing of time. */
  readonly ripening: () => Iterable<string>;
}

/** Raises and clears alerts as the facts change. An alert is seen once it is durable. */
export class Alerts {
  readonly #options: AlertsOptions;
  /** Ids of alerts that last, by machine. */
  readonly #open = new Map<string, Set<string>>();
  /** Ids of cleared alerts, in the order they were cleared. */
  readonly #cleared: string[];
  readonly #looks = new KeyedMutex();
  /** Machines whose alerts could not be stored. */
  readonly #unstored = new Set<string>();

  constructor(options: AlertsOptions) {
    this.#options = options;
    const all = options.table.values();
    for (const alert of all) if (alert.clearedMs === undefined) this.#openOf(alert.machine).add(alert.id);
    this.#cleared = all
      .filter(({ clearedMs }) => clearedMs !== undefined)
      .sort((a, b) => (a.clearedMs ?? 0) - (b.clearedMs ?? 0))
      .map(({ id }) => id);
  }

  get changes(): Changes {
    return this.#options.table.changes;
  }

  ids(): string[] {
    return this.#options.table.ids();
  }

  get(id: string): AlertRecord | undefined {
    return this.#options.table.get(id);
  }

  list(): AlertRecord[] {
    return this.#options.table.values();
  }

  /** Alerts that last, oldest first. */
  open(): AlertRecord[] {
    const ids = [...this.#open.values()].flatMap((set) => [...set]);
    return ids.flatMap((id) => this.get(id) ?? []).sort((a, b) => a.raisedMs - b.raisedMs);
  }

  /** Judges each machine named by `dirty` at once and all of them every second, until the signal aborts. */
  async run(dirty: AsyncIterable<readonly string[]>, signal: AbortSignal): Promise<void> {
    await Promise.all([this.#follow(dirty), this.#tick(signal)]);
  }

  /** Judges one machine. Resolves once what changed is durable; what could not be stored is tried again within a second. */
  async look(machine: string): Promise<void> {
    try {
      await this.#looks.run(machine, () => this.#look(machine));
      this.#unstored.delete(machine);
    } catch (error) {
      this.#unstored.add(machine);
      this.#options.logger.error('could not store alerts, trying again', { machine, error });
    }
  }

  async #look(machine: string): Promise<void> {
    const { clock, judge, logger } = this.#options;
    const open = [...(this.#open.get(machine) ?? [])].flatMap((id) => this.get(id) ?? []);
    const judgement = judge(machine) ?? { machineName: '', awaySinceMs: undefined, verdicts: [] };
    const changed = planAlerts(open, judgement, clock.now());
    if (changed.length === 0) return;
    await this.#options.table.putAll(changed.map((alert) => [alert.id, alert]));
    for (const alert of changed) {
      this.#index(alert);
      const word = alert.clearedMs === undefined ? 'alert' : 'alert cleared';
      logger.info(word, {
        kind: alert.kind,
        machine: alert.machineName,
        service: alert.service,
        message: alert.message,
      });
    }
    await this.#forgetOld();
  }

  async #follow(dirty: AsyncIterable<readonly string[]>): Promise<void> {
    for await (const machines of dirty) {
      for (const machine of new Set(machines)) await this.look(machine);
    }
  }

  async #tick(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#options.clock, TICK_MS, signal);
      const due = [...this.#options.ripening(), ...this.#open.keys(), ...this.#unstored];
      for (const machine of new Set(due)) await this.look(machine);
    }
  }

  #index(alert: AlertRecord): void {
    if (alert.clearedMs === undefined) {
      this.#openOf(alert.machine).add(alert.id);
      return;
    }
    const open = this.#open.get(alert.machine);
    open?.delete(alert.id);
    if (open?.size === 0) this.#open.delete(alert.machine);
    this.#cleared.push(alert.id);
  }

  #openOf(machine: string): Set<string> {
    const open = this.#open.get(machine) ?? new Set();
    this.#open.set(machine, open);
    return open;
  }

  async #forgetOld(): Promise<void> {
    const beforeMs = this.#options.clock.now() - CLEARED_KEPT_MS;
    let count = Math.max(0, this.#cleared.length - CLEARED_KEPT_MAX);
    while (count < this.#cleared.length && (this.get(this.#cleared[count] ?? '')?.clearedMs ?? 0) < beforeMs)
      count += 1;
    if (count > 0) await this.#options.table.remove(this.#cleared.splice(0, count));
  }
}
