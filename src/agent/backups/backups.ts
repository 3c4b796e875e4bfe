import { join } from 'node:path';
import { restoreTree, verifyTree, writeTree } from '../../archive/tree.js';
import type { Clock } from '../../kit/clock.js';
import { counted } from '../../kit/counted.js';
import { messageOf, MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { Slots } from '../../kit/slots.js';
import { onAbort, runTasks, stopped } from '../../kit/tasks.js';
import type { Backup, BackupPlan } from '../../model/backup.js';
import type { Store } from '../../store/port.js';
import type { CenterAccess } from '../ports.js';
import { Archives } from './archives.js';
import { Copier } from './copier.js';
import { BackupFiles } from './files.js';
import { BackupMaker } from './maker.js';
import { backupPerformers, type BackupPerformers } from './performer.js';
import type { BackedUpServices, CopyPlace, Trees } from './ports.js';
import { BackupRecords, shownOf } from './records.js';
import { Restores, type RestoresOptions } from './restores.js';
import { S3Copies } from './s3.js';
import { readS3Settings, s3SettingsFile } from './s3-settings.js';
import { Scheduler } from './scheduler.js';
import { BackupUplink } from './uplink.js';
import { CenterCopies, reportBackups } from './wire.js';

export interface AgentBackupsOptions {
  /** Absolute. */
  readonly dataDirectory: string;
  readonly store: Store;
  readonly services: BackedUpServices;
  readonly holding: RestoresOptions['services'];
  readonly sharedDirectory: (service: string) => string;
  readonly center: CenterAccess;
  /** Id of this machine; empty before it has joined. */
  readonly machine: () => string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** For tests. */
  readonly trees?: Trees;
  readonly freeBytes?: (path: string) => Promise<number>;
}

/** Archives that are written or read at once on this machine. */
const ARCHIVES_AT_ONCE_MAX = 2;

/** The agent's part in backups, as its composition root needs it. */
export class AgentBackups {
  /** Of the center's orders. */
  readonly performers: BackupPerformers;
  readonly #options: AgentBackupsOptions;
  readonly #records: BackupRecords;
  readonly #maker: BackupMaker;
  readonly #restores: Restores;
  readonly #scheduler: Scheduler;
  readonly #copier: Copier;
  readonly #uplink: BackupUplink;
  /** Aborts when the agent ends: of what is not a part of run(). */
  readonly #ending: AbortController;

  private constructor(parts: {
    readonly options: AgentBackupsOptions;
    readonly records: BackupRecords;
    readonly maker: BackupMaker;
    readonly archives: Archives;
    readonly restores: Restores;
    readonly copier: Copier;
    readonly performers: BackupPerformers;
    readonly ending: AbortController;
  }) {
    const { options, records, maker, archives, restores, copier, performers, ending } = parts;
    this.performers = performers;
    this.#options = options;
    this.#records = records;
    this.#maker = maker;
    this.#restores = restores;
    this.#copier = copier;
    this.#ending = ending;
    this.#scheduler = new Scheduler({ ...options, records, maker, archives });
    this.#uplink = new BackupUplink({
      ...options,
      state: () => ({ backups: this.list(), plans: this.plans() }),
      onChange: (listener) => {
        const stops = [records.onChange(listener), options.services.onChange(listener)];
        return () => {
          for (const stop of stops) stop();
        };
      },
      send: (news, signal) => reportBackups(options.center.channel(), news, signal),
    });
  }

  /** Ends what an earlier process had under way: call before services are started. @throws as Store.range; a system error of `backups/` */
  static async open(options: AgentBackupsOptions): Promise<AgentBackups> {
    const { store, dataDirectory } = options;
    const trees = options.trees ?? { writeTree, verifyTree, restoreTree };
    const records = await BackupRecords.open(store);
    const files = new BackupFiles(options);
    await compare(records, files, options.logger);
    const slots = new Slots(ARCHIVES_AT_ONCE_MAX);
    const maker = new BackupMaker({ ...options, records, files, trees, slots });
    const places: CopyPlace[] = [
      new CenterCopies(() => options.center.channel()),
      new S3Copies({
        settings: () => readS3Settings(s3SettingsFile(dataDirectory)),
        machine: () => options.machine() || 'not-joined',
      }),
    ];
    const archives = new Archives({ ...options, records, files, maker, trees, places });
    const restores = await Restores.open({ ...options, services: options.holding, archives, trees, maker });
    const copier = new Copier({ ...options, records, files, places });
    const ending = new AbortController();
    const performers = await backupPerformers({ store, records, maker, archives, restores, signal: ending.signal });
    return new AgentBackups({ options, records, maker, archives, restores, copier, performers, ending });
  }

  /** Forgets what was kept of commands that have ended; `claimed`: those that may not have. Call once, at the start. */
  forgetOthers(claimed: ReadonlySet<string>): Promise<void> {
    return this.#restores.forgetOthers(claimed);
  }

  /** Newest first. */
  list(service?: string): readonly Backup[] {
    const found = service === undefined ? this.#records.all() : this.#records.of(service);
    return found.filter(({ removing }) => removing !== true).map(shownOf);
  }

  plans(): readonly BackupPlan[] {
    return this.#scheduler.plans();
  }

  /** Makes a backup and resolves with it as it ended, well or not. @throws not_found; precondition without a policy */
  async now(service: string): Promise<Backup> {
    const request = { service, trigger: 'MANUAL', deploy: '', orderedBy: '' } as const;
    return shownOf(await this.#maker.make(request, this.#ending.signal));
  }

  /**
   * The backup before a deploy, once for each command however often it is asked. Undefined: the service is not there, has no policy, or no data yet.
   * @throws precondition when it cannot be made
   */
  async backupBefore(service: string, command: string): Promise<{ backup: string; message: string } | undefined> {
    const found = this.#options.services.list().find((one) => one.service === service);
    if (!found?.policy || (await this.#maker.hasNothingYet(service))) return undefined;
    const before = this.list(service).find((backup) => backup.command === command && isMade(backup));
    const request = { service, trigger: 'DEPLOY', deploy: command, orderedBy: '' } as const;
    const backup = before ?? (await this.#maker.make(request, this.#ending.signal)).backup;
    if (isMade(backup)) return { backup: backup.id, message: messageFor(backup) };
    throw new MusterError(
      'precondition',
      `the backup before the deploy failed, as what runs now asks for it: ${backup.problems[0] ?? ''}. Mend that on the machine, or go back to a release that asks for another: a rollback makes no backup`,
      { reason: 'BACKUP_FAILED' },
    );
  }

  /** Schedules, copies and reports, until the signal aborts. `ready` resolves when services are known. */
  async run(ready: Promise<void>, signal: AbortSignal): Promise<void> {
    const release = onAbort(signal, () => {
      this.#ending.abort(stopped('the agent'));
    });
    try {
      await Promise.race([ready, new Promise<void>((resolve) => onAbort(signal, resolve))]);
      await runTasks(signal, [(s) => this.#scheduler.run(s), (s) => this.#copier.run(s), (s) => this.#uplink.run(s)]);
    } catch (error) {
      this.#options.logger.error('backups have stopped', { error: messageOf(error) });
      throw error;
    } finally {
      release();
    }
  }
}

function isMade({ status }: Backup): boolean {
  return status === 'OK' || status === 'WARNING';
}

function messageFor({ files, problems }: Backup): string {
  return problems.length === 0
    ? counted(files, 'file')
    : `${counted(files, 'file')}; to be known: ${problems.join('; ')}`;
}

/** What is known of archives against what is on the disk. */
async function compare(records: BackupRecords, files: BackupFiles, logger: Logger): Promise<void> {
  const found = await files.clean();
  for (const { backup, archive } of records.all()) {
    const there = found.get(backup.service)?.has(backup.id) ?? false;
    // Put in its place, and then the agent ended before it was known to be whole.
    if (there && !archive) await files.remove(backup.service, backup.id);
    if (!there && archive) await gone(records, backup, logger);
  }
  for (const [service, ids] of found) {
    for (const id of [...ids].filter((one) => !records.find(one))) {
      logger.warn('there is an archive that this agent has not made: it is left as it is', {
        file: join('backups', service, `${id}.tar.gz`),
      });
    }
  }
}

async function gone(records: BackupRecords, { service, id, copies }: Backup, logger: Logger): Promise<void> {
  logger.warn('the archive of a backup is gone', { service, backup: id, copies });
  await records.amend(id, ({ backup, ...others }) => ({
    ...others,
    archive: false,
    backup: copies.length > 0 ? backup : { ...backup, verifyProblem: 'the archive is gone from this machine' },
  }));
}
