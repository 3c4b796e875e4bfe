import { MusterError } from '../../kit/errors.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { BACKUP_PROBLEMS_MAX, type Backup, type BackupCopy } from '../../model/backup.js';
import { Documents } from '../../store/documents.js';
import type { Mutation, Store } from '../../store/port.js';
import type { Progress } from './due.js';

/** A backup as it is on this machine's disk. */
export interface BackupRecord {
  /** Its status is that of the archive alone as it was made: see shownOf(). */
  readonly backup: Backup;
  /** What it holds, relative to the service's shared directory. */
  readonly paths: readonly string[];
  /** The archive is on this machine. */
  readonly archive: boolean;
  /** Where copies are to be. */
  readonly copiesWanted: readonly BackupCopy[];
  /** The command that asked for it; empty: none. */
  readonly orderedBy: string;
  /** It is being removed: the archive may be gone. */
  readonly removing?: true;
}

/** The backup with what became of it since: damage found by a verify, copies that could not be made. */
export function shownOf({ backup }: BackupRecord): Backup {
  if (backup.verifyProblem !== '') return { ...backup, status: 'ERROR' };
  if (backup.copyProblem !== '' && backup.status === 'OK') return { ...backup, status: 'WARNING' };
  return backup;
}

/** Whether it can be restored, from here or from a copy. */
export function isWhole(record: BackupRecord): boolean {
  const { status, copies } = record.backup;
  if (record.removing || (status !== 'OK' && status !== 'WARNING')) return false;
  return record.backup.verifyProblem === '' && (record.archive || copies.length > 0);
}

export type TimetableKind = 'backup' | 'drill';

interface TimetableChange {
  readonly kind: TimetableKind;
  readonly service: string;
  readonly progress: Progress;
}

const CUT_OFF = 'the agent ended while it was made';

/** The backups and timetables of this machine, in memory and on disk. A change is seen only once it is durable. */
export class BackupRecords {
  readonly #store: Store;
  readonly #documents: Documents<BackupRecord>;
  readonly #timetables: Documents<Progress>;
  readonly #records = new Map<string, BackupRecord>();
  readonly #progress = new Map<string, Progress>();
  readonly #amending = new KeyedMutex();
  readonly #listeners = new Set<() => void>();

  private constructor(store: Store) {
    this.#store = store;
    this.#documents = new Documents<BackupRecord>(store, 'backup/');
    this.#timetables = new Documents<Progress>(store, 'backup-timetable/');
  }

  /** Reads all; those that an earlier process was making have failed. @throws as Store.range and write */
  static async open(store: Store): Promise<BackupRecords> {
    const records = new BackupRecords(store);
    for await (const { id, value } of records.#timetables.list()) records.#progress.set(id, value);
    for (const { id, value } of await records.#documents.all()) {
      records.#records.set(id, value);
      if (value.backup.status === 'RUNNING') await records.put(failedOf(value, CUT_OFF));
    }
    return records;
  }

  /** Calls `listener` after each change. Returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  find(id: string): BackupRecord | undefined {
    return this.#records.get(id);
  }

  /** Newest first. */
  all(): readonly BackupRecord[] {
    return [...this.#records.values()].sort(
      ({ backup: a }, { backup: b }) => b.startedMs - a.startedMs || (a.id < b.id ? 1 : -1),
    );
  }

  /** Newest first. */
  of(service: string): readonly BackupRecord[] {
    return this.all().filter(({ backup }) => backup.service === service);
  }

  /** @throws not_found */
  require(service: string, id: string): BackupRecord {
    const record = this.#records.get(id);
    if (record?.backup.service === service && !record.removing) return record;
    throw new MusterError('not_found', `there is no backup "${id}" of ${service} on this machine: see backup ls`);
  }

  /** The newest that can be restored. @throws not_found */
  latest(service: string): BackupRecord {
    const found = this.of(service).find(isWhole);
    if (found) return found;
    throw new MusterError('not_found', `${service} has no whole backup on this machine: make one with backup now`);
  }

  progress(kind: TimetableKind, service: string): Progress | undefined {
    return this.#progress.get(`${kind}/${service}`);
  }

  /** Resolves once both are durable, together. @throws as Store.write */
  async put(record: BackupRecord, timetable?: TimetableChange): Promise<void> {
    await this.#write([this.#documents.putting(record.backup.id, record)], timetable);
    this.#records.set(record.backup.id, record);
    this.#changed();
  }

  /** Changes one that is there; where it is not, nothing happens. */
  async amend(id: string, change: (current: BackupRecord) => BackupRecord): Promise<void> {
    await this.#amending.run(id, async () => {
      const current = this.#records.get(id);
      if (current) await this.put(change(current));
    });
  }

  async delete(id: string): Promise<void> {
    await this.#documents.delete(id);
    this.#records.delete(id);
    this.#changed();
  }

  /** Resolves once durable. Without a change nothing is written. */
  async plan(timetable: TimetableChange): Promise<void> {
    if (this.progress(timetable.kind, timetable.service) === timetable.progress) return;
    await this.#write([], timetable);
    this.#changed();
  }

  async #write(mutations: readonly Mutation[], timetable: TimetableChange | undefined): Promise<void> {
    const key = timetable && `${timetable.kind}/${timetable.service}`;
    const more = timetable && key !== undefined ? [this.#timetables.putting(key, timetable.progress)] : [];
    await this.#store.write([...mutations, ...more]);
    if (timetable && key !== undefined) this.#progress.set(key, timetable.progress);
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Why a backup is no backup, and nothing else: there is no archive. */
export function failedOf(record: BackupRecord, problem: string): BackupRecord {
  const problems = [problem, ...record.backup.problems].slice(0, BACKUP_PROBLEMS_MAX);
  return { ...record, archive: false, backup: { ...record.backup, status: 'ERROR', problems } };
}
