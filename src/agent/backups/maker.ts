import { lstat } from 'node:fs/promises';
import type { Clock } from '../../kit/clock.js';
import { messageOf, MusterError } from '../../kit/errors.js';
import { newSecret } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import type { Slots } from '../../kit/slots.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { BACKUP_PROBLEMS_MAX, type Backup, type BackupTrigger } from '../../model/backup.js';
import type { ManifestBackup } from '../../model/manifest-types.js';
import { inParent, pathIn } from '../system/directory.js';
import { begun, ended, type Progress } from './due.js';
import type { BackupFiles } from './files.js';
import type { BackedUpService, BackedUpServices, Trees } from './ports.js';
import { failedOf, isWhole, type BackupRecord, type BackupRecords } from './records.js';
import { expired } from './retention.js';

export interface BackupMakerOptions {
  readonly records: BackupRecords;
  readonly files: BackupFiles;
  readonly services: BackedUpServices;
  readonly trees: Trees;
  /** Of archives that are written or read at once on this machine. */
  readonly slots: Slots;
  /** The directory that a service's backups are of. */
  readonly sharedDirectory: (service: string) => string;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface BackupRequest {
  readonly service: string;
  readonly trigger: BackupTrigger;
  /** The deploy it is made before; empty: none. */
  readonly deploy: string;
  /** The command that asked for it; empty: none. */
  readonly orderedBy: string;
  /** With SCHEDULE: what is due. It is done when the backup has ended, well or not. */
  readonly progress?: Progress;
  /** Told once it is under way. */
  readonly onBegun?: (record: BackupRecord) => void;
}

/** Of what the archive is to hold, so much more than the last one had is expected at most. */
const GROWTH = 1.2;

/** Makes backups, one per service at a time, reads each back before it counts, and lets go of those that are not kept any more. */
export class BackupMaker {
  readonly #options: BackupMakerOptions;
  readonly #turns = new KeyedMutex();

  constructor(options: BackupMakerOptions) {
    this.#options = options;
  }

  /**
   * Resolves with the backup as it ended; one that failed is an answer, and says why.
   * @throws not_found; precondition when the service's manifest says nothing of backups; as Store.write
   */
  async make(request: BackupRequest, signal: AbortSignal): Promise<BackupRecord> {
    // Said at once, not after waiting.
    policyOf(this.#options.services.get(request.service));
    return this.exclusively(request.service, async () => {
      const service = this.#options.services.get(request.service);
      return this.#make(service, policyOf(service), request, signal);
    });
  }

  /** Work on the archives of a service: not while one is made, and no more at once than the machine may. */
  exclusively<T>(service: string, work: () => Promise<T>): Promise<T> {
    return this.alone(service, async () => {
      const giveBack = await this.#options.slots.take();
      try {
        return await work();
      } finally {
        giveBack();
      }
    });
  }

  /** Not while a backup of the service is made or read. */
  alone<T>(service: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.run(service, work);
  }

  async #make(
    service: BackedUpService,
    policy: ManifestBackup,
    request: BackupRequest,
    signal: AbortSignal,
  ): Promise<BackupRecord> {
    const { records, clock, logger } = this.#options;
    const startedMs = clock.now();
    const startedAt = clock.monotonic();
    const running = this.#newRecord(service, policy, { request, startedMs });
    const timetable = (progress: Progress | undefined) =>
      progress && { kind: 'backup' as const, service: service.service, progress };
    await records.put(running, timetable(request.progress && begun(request.progress)));
    request.onBegun?.(running);
    const done = await this.#archive(running, policy, signal);
    const record = { ...done, backup: { ...done.backup, tookMs: Math.round(clock.monotonic() - startedAt) } };
    // What was cut off by the end of the agent is made up by its next process.
    const progress = request.progress && (signal.aborted ? request.progress : ended(request.progress, startedMs));
    await records.put(record, timetable(progress));
    const { id, status, problems } = record.backup;
    const facts = { service: service.service, backup: id, status, problems };
    if (status === 'ERROR') logger.error('a backup failed', facts);
    else logger.info('a backup was made', facts);
    await this.prune(service.service);
    return record;
  }

  #newRecord(
    { service, version }: BackedUpService,
    policy: ManifestBackup,
    { request, startedMs }: { readonly request: BackupRequest; readonly startedMs: number },
  ): BackupRecord {
    const backup: Backup = {
      id: newBackupId(startedMs),
      service,
      version,
      trigger: request.trigger,
      status: 'RUNNING',
      startedMs,
      tookMs: 0,
      bytes: 0,
      contentBytes: 0,
      files: 0,
      digest: '',
      problems: [],
      verifiedMs: undefined,
      verifyProblem: '',
      copies: [],
      copyProblem: '',
      command: request.deploy,
    };
    const { paths, copy: copiesWanted } = policy;
    return { backup, paths, archive: false, copiesWanted, orderedBy: request.orderedBy };
  }

  /** Whether it has no data yet: nothing of what its policy names is there, and nothing ever was in a backup. @throws not_found */
  async hasNothingYet(service: string): Promise<boolean> {
    const { services, records, sharedDirectory } = this.#options;
    const { paths = [] } = services.get(service).policy ?? {};
    return !records.of(service).some(isWhole) && !(await isSomethingThere(sharedDirectory(service), paths));
  }

  /** Writes the archive and reads it back. Never rejects. */
  async #archive(running: BackupRecord, policy: ManifestBackup, signal: AbortSignal): Promise<BackupRecord> {
    const { files, trees, clock, records } = this.#options;
    const { service, id } = running.backup;
    const root = this.#options.sharedDirectory(service);
    try {
      signal.throwIfAborted();
      if (!(await isSomethingThere(root, policy.paths))) throw nothingThere(root, policy.paths);
      const last = records.of(service).find(isWhole)?.backup.bytes ?? 0;
      const { written, verified } = await files.make(
        { service, id, expectedBytes: Math.ceil(last * GROWTH) },
        signal,
        async (path, ending) => {
          const source = { root, paths: policy.paths, exclude: policy.exclude };
          const tree = await trees.writeTree(source, path, { signal: ending });
          return { written: tree, verified: await trees.verifyTree(path, { digest: tree.digest, signal: ending }) };
        },
      );
      const [damage] = verified.problems;
      if (damage !== undefined) {
        await files.remove(service, id);
        throw new MusterError('data_loss', `what was written could not be read back: ${damage}. Look at the disk`);
      }
      const { digest, bytes, contentBytes, problems: seen } = written;
      const problems = seen.slice(0, BACKUP_PROBLEMS_MAX);
      const status = problems.length > 0 ? 'WARNING' : 'OK';
      const facts = { status, bytes, contentBytes, files: written.files, digest, problems } as const;
      return { ...running, archive: true, backup: { ...running.backup, ...facts, verifiedMs: clock.now() } };
    } catch (error) {
      return failedOf(running, signal.aborted ? 'the agent was stopped while it was made' : messageOf(error));
    }
  }

  /** Removes what the service's policy keeps no more. Without a policy everything stays. */
  async prune(service: string): Promise<void> {
    const found = this.#options.services.list().find((one) => one.service === service);
    if (!found?.policy) return;
    const { keep, timeZone } = found.policy;
    const records = this.#options.records.of(service);
    const pinned = pinnedOf(records, [found.version, ...found.heldVersions]);
    const keepable = records.map((record) => ({
      id: record.backup.id,
      startedMs: record.backup.startedMs,
      is:
        record.backup.status === 'RUNNING'
          ? ('running' as const)
          : isWhole(record)
            ? ('whole' as const)
            : ('bad' as const),
      pinned: pinned.has(record.backup.id),
    }));
    for (const id of expired(keepable, keep, timeZone)) {
      await this.#options.records.amend(id, (record) => ({ ...record, removing: true }));
    }
  }
}

/** For each version that can still be gone back to: the last whole backup that was made of it before a deploy. */
export function pinnedOf(newestFirst: readonly BackupRecord[], versions: readonly string[]): ReadonlySet<string> {
  const pinned = new Set<string>();
  for (const version of versions) {
    const last = newestFirst.find(
      (record) => isWhole(record) && record.backup.trigger === 'DEPLOY' && record.backup.version === version,
    );
    if (last) pinned.add(last.backup.id);
  }
  return pinned;
}

/** @throws precondition */
function policyOf({ service, policy }: BackedUpService): ManifestBackup {
  if (policy) return policy;
  throw new MusterError(
    'precondition',
    `the manifest of ${service} does not say what to back up: give it a backup section with paths`,
    { reason: 'NO_BACKUP_POLICY' },
  );
}

async function isSomethingThere(root: string, paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    const there = await inParent(root, path, (parent, base) => lstat(pathIn(parent, base))).catch(() => undefined);
    if (there) return true;
  }
  return false;
}

/** Of a service that is backed up: more likely a disk that is not mounted than one without data. */
function nothingThere(root: string, paths: readonly string[]): MusterError {
  return new MusterError('precondition', `none of its paths is there: ${paths.join(', ')} below ${root}`);
}

const ID_CHARACTERS = 6;

/** `20261123T030000Z-7f3kq0`. */
export function newBackupId(nowMs: number): string {
  const time = new Date(nowMs).toISOString().replace(/[-:]|\.\d+/g, '');
  return `${time}-${newSecret().slice(0, ID_CHARACTERS)}`;
}
