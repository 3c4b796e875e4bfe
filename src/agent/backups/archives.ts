import { digestFile } from '../../archive/digest.js';
import type { Clock } from '../../kit/clock.js';
import { messageOf, MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { BackupFiles } from './files.js';
import type { BackupMaker } from './maker.js';
import type { CopyPlace, Trees } from './ports.js';
import type { BackupRecord, BackupRecords } from './records.js';

export interface ArchivesOptions {
  readonly records: BackupRecords;
  readonly files: BackupFiles;
  readonly maker: Pick<BackupMaker, 'exclusively'>;
  readonly trees: Trees;
  /** In the order they are asked. */
  readonly places: readonly CopyPlace[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The archives of backups that are there: read, verified, and fetched back where only a copy is left. */
export class Archives {
  readonly #options: ArchivesOptions;

  constructor(options: ArchivesOptions) {
    this.#options = options;
  }

  /** The archive's path; a copy of it is fetched where it is gone. @throws not_found when there is none anywhere; why it could not be fetched */
  async path(record: BackupRecord, signal: AbortSignal): Promise<string> {
    const { files, records } = this.#options;
    const { service, id, status } = record.backup;
    if (status === 'RUNNING')
      throw new MusterError('precondition', `backup ${id} is still being made: try again later`);
    if (await files.has(service, id)) return files.path(service, id);
    await this.#fetch(record, signal);
    await records.amend(id, (current) => ({ ...current, archive: true }));
    return files.path(service, id);
  }

  /** The archive is not what it was: it is removed, and so fetched anew by path(). */
  async damaged({ backup }: BackupRecord, problem: string): Promise<void> {
    this.#options.logger.error('the archive of a backup is damaged; its copy is used', { backup: backup.id, problem });
    await this.#options.files.remove(backup.service, backup.id);
    await this.#options.records.amend(backup.id, (current) => ({ ...current, archive: false }));
  }

  /** Reads the archive back and remembers what was found; damage is an answer. @throws not_found; why it cannot be read */
  async verify(record: BackupRecord, signal: AbortSignal): Promise<BackupRecord> {
    const { maker, trees, records, clock, logger } = this.#options;
    const { service, id, digest } = record.backup;
    return maker.exclusively(service, async () => {
      const path = await this.path(record, signal);
      const { problems } = await trees.verifyTree(path, { digest, signal });
      const verifyProblem = problems[0] ?? '';
      await records.amend(id, ({ backup, ...current }) => ({
        ...current,
        backup: { ...backup, verifyProblem, verifiedMs: verifyProblem === '' ? clock.now() : backup.verifiedMs },
      }));
      if (verifyProblem !== '') logger.error('a backup is damaged', { service, backup: id, problems });
      return records.require(service, id);
    });
  }

  async #fetch(record: BackupRecord, signal: AbortSignal): Promise<void> {
    const { places, files } = this.#options;
    const { service, id, bytes, digest, copies } = record.backup;
    const failures: string[] = [];
    for (const place of places.filter((one) => copies.some((copy) => one.has(copy)))) {
      try {
        await files.make({ service, id, expectedBytes: bytes }, signal, async (path, ending) => {
          await place.fetch(record, path, ending);
          const fetched = await digestFile(path, ending);
          if (fetched.digest !== digest) throw new MusterError('data_loss', 'the copy is not what was copied');
        });
        return;
      } catch (error) {
        signal.throwIfAborted();
        failures.push(`${place.kind}: ${messageOf(error)}`);
      }
    }
    const why = failures.length > 0 ? `its copies cannot be had: ${failures.join('; ')}` : 'there is no copy of it';
    throw new MusterError('not_found', `the archive of backup ${id} is gone from this machine, and ${why}`);
  }
}
