import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { aborted } from '../../kit/tasks.js';
import type { CenterAccess } from '../ports.js';
import type { BackupFiles } from './files.js';
import type { CopyPlace } from './ports.js';
import { isWhole, type BackupRecord, type BackupRecords } from './records.js';

export interface CopierOptions {
  readonly records: BackupRecords;
  readonly files: BackupFiles;
  readonly places: readonly CopyPlace[];
  readonly center: Pick<CenterAccess, 'onConnection'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

const BACKOFF = { initialMs: 2_000, maxMs: 600_000, multiplier: 2 };
/** A copy that cannot be removed so often is left where it is, and that is said. */
const REMOVE_TRIES_MAX = 20;

/** Makes the copies that are wanted, and removes backups that go, one at a time, again until it is done. */
export class Copier {
  readonly #options: CopierOptions;
  readonly #backoff: Backoff;
  readonly #removeTries = new Map<string, number>();
  #wake = new AbortController();

  constructor(options: CopierOptions) {
    this.#options = options;
    this.#backoff = new Backoff(BACKOFF, options.random);
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { records, center, clock, logger } = this.#options;
    const wake = (): void => {
      this.#wake.abort();
    };
    const stops = [
      center.onConnection((connected) => {
        if (connected) wake();
      }),
      records.onChange(wake),
    ];
    try {
      while (!signal.aborted) {
        const round = await this.#round(signal).catch((error: unknown): 'failed' => {
          if (!signal.aborted) logger.warn('what became of copies of backups could not be recorded', { error });
          return 'failed';
        });
        // A round changes records itself: only what changes from here on wakes it.
        this.#wake = new AbortController();
        const woken = AbortSignal.any([signal, this.#wake.signal]);
        if (round !== 'failed' && this.#hasNew()) continue;
        if (round === 'whole') await aborted(woken);
        else await sleep(clock, this.#backoff.next(), woken).catch(() => undefined);
      }
    } finally {
      for (const stop of stops) stop();
    }
  }

  /** What was never tried came while a round ran. */
  #hasNew(): boolean {
    return this.#options.records
      .all()
      .some((record) => (record.removing ? !this.#removeTries.has(record.backup.id) : this.#isUntried(record)));
  }

  #isUntried(record: BackupRecord): boolean {
    return record.backup.copyProblem === '' && this.#missing(record).length > 0;
  }

  /** Whether all of it worked. @throws as Store.write */
  async #round(signal: AbortSignal): Promise<'whole' | 'part'> {
    let failures = 0;
    for (const record of this.#options.records.all()) {
      if (signal.aborted) return 'part';
      const ok = record.removing ? await this.#remove(record, signal) : await this.#copy(record, signal);
      if (!ok) failures += 1;
    }
    if (failures === 0) this.#backoff.reset();
    return failures === 0 ? 'whole' : 'part';
  }

  #missing(record: BackupRecord): readonly CopyPlace[] {
    if (!record.archive || !isWhole(record)) return [];
    const { copies } = record.backup;
    return this.#options.places.filter(
      (place) => record.copiesWanted.includes(place.kind) && !copies.some((copy) => place.has(copy)),
    );
  }

  async #copy(record: BackupRecord, signal: AbortSignal): Promise<boolean> {
    const { records, files, logger } = this.#options;
    const { service, id } = record.backup;
    const missing = this.#missing(record);
    if (missing.length === 0) return true;
    const problems: string[] = [];
    for (const place of missing) {
      try {
        const name = await place.store(record, files.path(service, id), signal);
        await records.amend(id, ({ backup, ...others }) => ({
          ...others,
          backup: { ...backup, copies: [...backup.copies, name] },
        }));
        logger.info('a backup was copied', { service, backup: id, copy: name });
      } catch (error) {
        if (signal.aborted) return false;
        problems.push(`${place.kind}: ${messageOf(error)}`);
      }
    }
    const copyProblem = problems.join('; ');
    if (records.find(id)?.backup.copyProblem !== copyProblem) {
      if (copyProblem !== '')
        logger.warn('a backup could not be copied; trying again', { service, backup: id, copyProblem });
      await records.amend(id, ({ backup, ...others }) => ({ ...others, backup: { ...backup, copyProblem } }));
    }
    return problems.length === 0;
  }

  /** The archive, then its copies, then what is known of it. */
  async #remove(record: BackupRecord, signal: AbortSignal): Promise<boolean> {
    const { records, files, places, logger } = this.#options;
    const { service, id, copies } = record.backup;
    const tries = (this.#removeTries.get(id) ?? 0) + 1;
    this.#removeTries.set(id, tries);
    try {
      await files.remove(service, id);
      for (const place of places.filter((one) => copies.some((copy) => one.has(copy))))
        await place.remove(record, signal);
    } catch (error) {
      if (signal.aborted) return false;
      if (tries < REMOVE_TRIES_MAX) return false;
      logger.warn('a copy of a backup that is not kept any more could not be removed: it stays where it is', {
        service,
        backup: id,
        copies,
        error,
      });
    }
    await records.delete(id);
    this.#removeTries.delete(id);
    return true;
  }
}
