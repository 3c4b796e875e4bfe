import { sleep, type Clock } from '../../kit/clock.js';
import { messageOf, MusterError } from '../../kit/errors.js';
import { NAME_PATTERN } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import type { Backup, BackupNews, BackupPlan } from '../../model/backup.js';
import { Changes } from '../changes.js';
import type { Table } from '../table.js';
import type { BackupCopies } from './copies.js';
import { DueTimes, judgeable, judgeUnplanned, type ServiceBackups } from './lateness.js';

/** A backup as its machine told it last. */
export interface BackupRecord {
  readonly machine: string;
  readonly backup: Backup;
}

export interface PlanRecord {
  readonly machine: string;
  readonly plan: BackupPlan;
  /** When this schedule was first told, wall-clock milliseconds: nothing was due before. */
  readonly sinceMs: number;
}

/** Of one machine. Beyond it the oldest are not in the inventory. */
export const BACKUPS_PER_MACHINE_MAX = 5000;
export const PLANS_PER_MACHINE_MAX = 1000;
/** A full report comes in several calls: what none of them has told is gone so long after the first. */
export const FULL_REPORT_MS = 30_000;
/** How often what is gone is looked for. */
const SWEEP_EVERY_MS = 10_000;
/** Copies of backups that nobody knows are looked for every so many sweeps. */
const COLLECT_EVERY_SWEEPS = 60;

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

export interface BackupsOptions {
  readonly backups: Table<BackupRecord>;
  readonly backupPlans: Table<PlanRecord>;
  readonly copies: BackupCopies;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What is doubted of a machine: it was there before a full report began, and has not been told in it so far. */
interface Doubt {
  readonly sinceMs: number;
  readonly backups: Set<string>;
  readonly plans: Set<string>;
}

/** @throws invalid for what is no id of a backup: it becomes the name of a file */
export function assertBackupId(id: string): void {
  if (ID.test(id)) return;
  throw new MusterError('invalid', 'the id of a backup has letters, digits, ".", "_" and "-", at most 100', {
    reason: 'BACKUP_ID',
  });
}

/**
 * The inventory of all machines' backups. Each agent is the truth of its own machine's, tells all of them when its session begins, and then what
 * changes; here they are kept so that they are known while a machine is away. What follows from the clock, that a backup is late, is found here.
 */
export class Backups {
  /** Machines whose backups or plans changed. */
  readonly changes: Changes;
  readonly #options: BackupsOptions;
  /** Keys of the tables, by machine. */
  readonly #backupsOf = new Map<string, Set<string>>();
  readonly #plansOf = new Map<string, Set<string>>();
  readonly #doubts = new Map<string, Doubt>();
  /** Machines that have told in this run. */
  readonly #told = new Set<string>();
  readonly #due = new DueTimes();
  /** By machine, wall-clock: when judging it anew may come to something else without news. */
  readonly #lookAgainMs = new Map<string, number>();
  readonly #startedMs: number;

  constructor(options: BackupsOptions) {
    this.#options = options;
    this.changes = new Changes(options.clock);
    this.#startedMs = options.clock.monotonic();
    for (const { machine, backup } of options.backups.values()) put(this.#backupsOf, machine, backup.id);
    for (const { machine, plan } of options.backupPlans.values()) put(this.#plansOf, machine, plan.service);
  }

  list(): BackupRecord[] {
    return this.#options.backups.values();
  }

  plans(): PlanRecord[] {
    return this.#options.backupPlans.values();
  }

  get(machine: string, id: string): BackupRecord | undefined {
    return this.#options.backups.get(keyOf(machine, id));
  }

  /** Every service that has backups or a plan. */
  serviceNames(): readonly string[] {
    const names = [...this.list().map(({ backup }) => backup.service), ...this.plans().map(({ plan }) => plan.service)];
    return [...new Set(names)];
  }

  /** Takes what an agent tells; it is durable soon after, and told anew after a crash. @throws invalid, and nothing is taken then */
  async report(machine: string, news: BackupNews): Promise<void> {
    checkNews(news);
    this.#told.add(machine);
    if (news.full) this.#doubt(machine);
    const doubt = this.#doubts.get(machine);
    for (const backup of news.backups) {
      this.#options.backups.set(keyOf(machine, backup.id), { machine, backup });
      put(this.#backupsOf, machine, backup.id);
      doubt?.backups.delete(backup.id);
    }
    for (const plan of news.plans) {
      this.#setPlan(machine, plan);
      doubt?.plans.delete(plan.service);
    }
    for (const service of news.removedPlans) this.#dropPlan(machine, service);
    for (const id of news.removed) {
      this.#forget(machine, id);
      await this.#options.copies.remove(machine, id);
    }
    this.#bound(machine);
    this.changes.emit(machine);
  }

  /**
   * What a command that ended left of the backup that it made or read back: known with the end of the command, and not only when the agent's report
   * comes. Says nothing against what was reported, and is gone like all that a full report does not tell.
   */
  learned(machine: string, backup: Backup): void {
    if (!ID.test(backup.id) || !NAME_PATTERN.test(backup.service)) return;
    const known = this.get(machine, backup.id)?.backup;
    if (known && !verifiedSince(known, backup)) return;
    const { status, verifiedMs, verifyProblem } = backup;
    const learned = known ? { ...known, status, verifiedMs, verifyProblem } : backup;
    this.#options.backups.set(keyOf(machine, backup.id), { machine, backup: learned });
    if (!known) this.#doubts.get(machine)?.backups.add(backup.id);
    put(this.#backupsOf, machine, backup.id);
    this.#bound(machine);
    this.changes.emit(machine);
  }

  /** The services with a plan or with backups on this machine, as far as alerts are concerned. */
  judge(machine: string): readonly ServiceBackups[] {
    const { clock, backupPlans } = this.#options;
    const backups = byService(this.#ofMachine(machine));
    const heard = this.#told.has(machine);
    const now = { nowMs: clock.now(), runMs: clock.monotonic() - this.#startedMs, heard };
    const services = new Set([...(this.#plansOf.get(machine) ?? []), ...backups.keys()]);
    const judged = [...services].map((service) => {
      const record = backupPlans.get(keyOf(machine, service));
      const own = backups.get(service) ?? [];
      return record ? judgeable(record, own, { ...now, due: this.#due }) : judgeUnplanned(service, own);
    });
    const changes = judged.map(({ unsure, changesMs }) => (unsure ? now.nowMs : (changesMs ?? Infinity)));
    this.#lookAgainMs.set(machine, Math.min(...changes));
    return judged;
  }

  /** Machines that time alone may have changed since they were judged last. */
  ripening(): string[] {
    const nowMs = this.#options.clock.now();
    return [...this.#plansOf.keys()].filter((machine) => (this.#lookAgainMs.get(machine) ?? 0) <= nowMs);
  }

  /** Its inventory goes; copies that the center has of its backups are kept aside for a while. */
  async machineRemoved(machine: string): Promise<void> {
    for (const id of this.#backupsOf.get(machine) ?? []) this.#options.backups.set(keyOf(machine, id), undefined);
    for (const service of this.#plansOf.get(machine) ?? []) this.#dropPlan(machine, service);
    this.#backupsOf.delete(machine);
    this.#doubts.delete(machine);
    this.#told.delete(machine);
    this.#lookAgainMs.delete(machine);
    await this.#options.copies.machineRemoved(machine);
  }

  /** Resolves once all that was told is durable. */
  async flushed(): Promise<void> {
    await this.#options.backups.flushed();
    await this.#options.backupPlans.flushed();
  }

  /** Removes by and by what is gone. Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger, copies } = this.#options;
    for (let sweeps = 1; ; sweeps += 1) {
      await sleep(clock, SWEEP_EVERY_MS, signal);
      await this.#sweep().catch((error: unknown) => {
        logger.error('backups that are gone could not be cleared; it is tried again', { error: messageOf(error) });
      });
      if (sweeps % COLLECT_EVERY_SWEEPS !== 0) continue;
      await copies
        .collect((machine, id) => this.get(machine, id) !== undefined)
        .catch((error: unknown) => {
          logger.error('copies of backups that are gone could not be removed; it is tried again', {
            error: messageOf(error),
          });
        });
    }
  }

  #ofMachine(machine: string): Backup[] {
    return [...(this.#backupsOf.get(machine) ?? [])].flatMap((id) => this.get(machine, id)?.backup ?? []);
  }

  #setPlan(machine: string, plan: BackupPlan): void {
    const key = keyOf(machine, plan.service);
    const before = this.#options.backupPlans.get(key);
    const same = before?.plan.schedule === plan.schedule && before.plan.timeZone === plan.timeZone;
    const sinceMs = same ? before.sinceMs : this.#options.clock.now();
    this.#options.backupPlans.set(key, { machine, plan, sinceMs });
    put(this.#plansOf, machine, plan.service);
  }

  #doubt(machine: string): void {
    this.#doubts.set(machine, {
      sinceMs: this.#options.clock.monotonic(),
      backups: new Set(this.#backupsOf.get(machine)),
      plans: new Set(this.#plansOf.get(machine)),
    });
  }

  async #sweep(): Promise<void> {
    const now = this.#options.clock.monotonic();
    for (const [machine, { sinceMs, backups, plans }] of this.#doubts) {
      if (now - sinceMs < FULL_REPORT_MS) continue;
      this.#doubts.delete(machine);
      for (const service of plans) this.#dropPlan(machine, service);
      for (const id of backups) {
        this.#forget(machine, id);
        await this.#options.copies.setAside(machine, id);
      }
      this.changes.emit(machine);
    }
  }

  #dropPlan(machine: string, service: string): void {
    this.#options.backupPlans.set(keyOf(machine, service), undefined);
    drop(this.#plansOf, machine, service);
    this.#due.forget(machine, service);
  }

  #forget(machine: string, id: string): void {
    this.#options.backups.set(keyOf(machine, id), undefined);
    drop(this.#backupsOf, machine, id);
  }

  #bound(machine: string): void {
    const ids = this.#backupsOf.get(machine);
    if (!ids || ids.size <= BACKUPS_PER_MACHINE_MAX) return;
    const oldest = this.#ofMachine(machine).sort((a, b) => a.startedMs - b.startedMs);
    for (const { id } of oldest.slice(0, ids.size - BACKUPS_PER_MACHINE_MAX)) this.#forget(machine, id);
    this.#options.logger.warn('a machine has more backups than the inventory takes: the oldest are left out', {
      machine,
    });
  }
}

function verifiedSince(known: Backup, now: Backup): boolean {
  return now.verifiedMs !== undefined && now.verifiedMs > (known.verifiedMs ?? 0);
}

function byService(backups: readonly Backup[]): Map<string, Backup[]> {
  const found = new Map<string, Backup[]>();
  for (const backup of backups) {
    const own = found.get(backup.service);
    if (own) own.push(backup);
    else found.set(backup.service, [backup]);
  }
  return found;
}

function keyOf(machine: string, rest: string): string {
  return `${machine}/${rest}`;
}

function put(index: Map<string, Set<string>>, machine: string, value: string): void {
  const values = index.get(machine) ?? new Set();
  index.set(machine, values.add(value));
}

function drop(index: Map<string, Set<string>>, machine: string, value: string): void {
  const values = index.get(machine);
  values?.delete(value);
  if (values?.size === 0) index.delete(machine);
}

/** @throws invalid */
function checkNews({ backups, removed, plans, removedPlans }: BackupNews): void {
  for (const id of [...removed, ...backups.map((backup) => backup.id)]) assertBackupId(id);
  const services = [...backups, ...plans].map(({ service }) => service);
  const wrong = [...services, ...removedPlans].find((service) => !NAME_PATTERN.test(service));
  if (wrong !== undefined) throw new MusterError('invalid', 'a backup names a service that cannot be one');
  if (plans.length <= PLANS_PER_MACHINE_MAX && backups.length <= BACKUPS_PER_MACHINE_MAX) return;
  throw new MusterError(
    'exhausted',
    `a report has at most ${BACKUPS_PER_MACHINE_MAX} backups and ${PLANS_PER_MACHINE_MAX} plans`,
  );
}
