import { join, dirname } from 'node:path';
import type { Clock } from '../../kit/clock.js';
import { counted } from '../../kit/counted.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { BackupOrder } from '../../model/backup.js';
import type { InstanceReport } from '../../model/instance.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { DeployableServices, Hold } from '../ports.js';
import type { Archives } from './archives.js';
import type { BackupMaker } from './maker.js';
import type { Trees } from './ports.js';
import type { BackupRecord } from './records.js';
import {
  abandon,
  checkSwitch,
  finish,
  placeOf,
  prepare,
  putAside,
  restoredOf,
  switchAll,
  type RestorePlace,
} from './switching.js';

/**
 * A restore, as it is on disk. staging: nothing of the service has changed. switching: it goes on, whatever happens. switched: what was there
 * before is still to be put away. done, failed: it has ended, as `message` says, and its command may not know yet.
 */
interface Journal {
  readonly service: string;
  readonly backup: string;
  readonly command: string;
  readonly phase: 'staging' | 'switching' | 'switched' | 'done' | 'failed';
  readonly paths: readonly string[];
  readonly place: RestorePlace;
  readonly message: string;
}

export interface RestoresOptions {
  readonly store: Store;
  readonly archives: Archives;
  readonly trees: Trees;
  readonly maker: Pick<BackupMaker, 'alone'>;
  readonly services: DeployableServices & { get(service: string): InstanceReport };
  readonly sharedDirectory: (service: string) => string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What an earlier process left, as it ended. */
export type Left = { readonly ok: boolean; readonly backup: string; readonly message: string };

/** Of a command that left no entry, too: it had not begun. */
const NOTHING_CHANGED = 'the agent ended while it restored; nothing of the service was changed: order it again';

/** Restores backups: aside first, whole and fsynced, and then to their place by renames that are completed whatever happens. */
export class Restores {
  readonly #options: RestoresOptions;
  readonly #journal: Documents<Journal>;
  readonly #turns = new KeyedMutex();
  /** By command. */
  readonly #left = new Map<string, Left>();

  private constructor(options: RestoresOptions) {
    this.#options = options;
    this.#journal = new Documents<Journal>(options.store, 'restore/');
  }

  /** Completes what an earlier process was switching, and forgets what it had not begun to: call before services are started. */
  static async open(options: RestoresOptions): Promise<Restores> {
    const restores = new Restores(options);
    for (const { id, value } of await restores.#journal.all()) {
      try {
        await restores.#complete(id, value);
      } catch (error) {
        options.logger.error(
          'a restore that was cut off could not be completed; the next start of the agent tries again',
          {
            service: value.service,
            backup: value.backup,
            error,
          },
        );
        const message = `the agent ended while it restored, and what is left could not be completed: ${messageOf(error)}. Start the agent again when that is mended`;
        restores.#left.set(value.command, { ok: false, backup: value.backup, message });
      }
    }
    return restores;
  }

  /** How a command's restore ended that an earlier process had begun. */
  left(command: string): Left {
    return this.#left.get(command) ?? { ok: false, backup: '', message: NOTHING_CHANGED };
  }

  /** Forgets restores whose commands have their outcome on the disk; `claimed`: commands that may not. Call once, at the start. */
  async forgetOthers(claimed: ReadonlySet<string>): Promise<void> {
    for (const { id, value } of await this.#journal.all()) {
      if (hasEnded(value) && !claimed.has(value.command)) await this.#journal.delete(id);
    }
  }

  /** Resolves with what was done, for people. @throws why nothing was; not_found; precondition while the service runs and `stop` is not said */
  async restore(record: BackupRecord, order: BackupOrder, command: string, signal: AbortSignal): Promise<string> {
    const { service } = record.backup;
    return this.#turns.run(service, async () => {
      await this.#forgetEnded(service);
      if (!order.aside) this.#checkRunning(service, order);
      const id = newId('r');
      const place = placeOf(this.#options.sharedDirectory(service), id);
      const journal: Journal = {
        service,
        backup: record.backup.id,
        command,
        phase: 'staging',
        paths: [],
        place,
        message: '',
      };
      await this.#journal.put(id, journal);
      try {
        await prepare(place);
        const files = await this.#stage(record, order, { place, signal });
        if (!order.aside) return await this.#toPlace({ id, journal, record, order, files });
        const into = join(dirname(place.staging), `restored-${record.backup.id}-${id.slice(2, 6)}`);
        await putAside(place, into);
        const message = `${counted(files, 'file')} restored into ${into}`;
        await this.#end(id, journal, { phase: 'done', message });
        return message;
      } catch (error) {
        const now = await this.#journal.get(id);
        if (now?.value.phase === 'staging')
          await this.#end(id, journal, { phase: 'failed', message: messageOf(error) });
        throw error;
      }
    });
  }

  #checkRunning(service: string, { stop }: BackupOrder): void {
    const { state } = this.#options.services.get(service);
    if (stop === true || !runs(state)) return;
    throw new MusterError(
      'precondition',
      `${service} is ${state}, and its files would be changed below it: stop it first, say that it is to be stopped for the restore, or restore aside`,
      { reason: 'SERVICE_RUNS' },
    );
  }

  /** How many files. An archive that is damaged or gone is replaced by its copy, where there is one. */
  async #stage(
    record: BackupRecord,
    { paths }: BackupOrder,
    { place, signal }: { readonly place: RestorePlace; readonly signal: AbortSignal },
  ): Promise<number> {
    const { archives, trees } = this.#options;
    const into = join(place.staging, 'new');
    const restore = async (): Promise<number> => {
      const path = await archives.path(record, signal);
      const { files } = await trees.restoreTree(path, into, { signal, ...(paths.length > 0 ? { paths } : {}) });
      return files;
    };
    try {
      return await restore();
    } catch (error) {
      if (!isCode(error, 'data_loss') || record.backup.copies.length === 0) throw error;
      await archives.damaged(record, messageOf(error));
      return restore();
    }
  }

  async #toPlace(work: {
    readonly id: string;
    readonly journal: Journal;
    readonly record: BackupRecord;
    readonly order: BackupOrder;
    readonly files: number;
  }): Promise<string> {
    const { id, journal, record, order, files } = work;
    const { place, service } = journal;
    const paths = await restoredOf(place, topmost(order.paths.length > 0 ? order.paths : record.paths));
    // No backup is made of what is switched only in part.
    return this.#options.maker.alone(service, async () => {
      const hold = await this.#options.services.hold(service, `backup ${record.backup.id} is being restored`);
      try {
        // Before a service is stopped for nothing, and again when nothing changes any more.
        await checkSwitch(place, paths);
        await this.#stopped(hold, service, order);
        await checkSwitch(place, paths);
        const message = `${counted(files, 'file')} restored to ${paths.join(', ')}; what was there before is in ${place.replaced} until the next restore`;
        const switching: Journal = { ...journal, phase: 'switching', paths, message };
        await this.#journal.put(id, switching);
        await this.#finish(id, switching, message);
        return `${message}${await this.#started(hold)}`;
      } finally {
        hold.letGo();
      }
    });
  }

  async #stopped(hold: Hold, service: string, order: BackupOrder): Promise<void> {
    const state = hold.report()?.state;
    if (state === undefined || !runs(state)) return;
    this.#checkRunning(service, order);
    await hold.stop();
  }

  /** The restore is done, whether the service starts or not; but that is to be known. */
  async #started(hold: Hold): Promise<string> {
    if (!hold.wanted || !hold.report()) return '';
    try {
      await hold.start();
      return '; the service was started again';
    } catch (error) {
      throw new MusterError(
        'precondition',
        `the backup was restored, but the service does not start: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  async #complete(id: string, journal: Journal): Promise<void> {
    const { service, backup, command } = journal;
    const ended = hasEnded(journal) ? journal : await this.#completed(id, journal);
    this.#left.set(command, { ok: ended.phase === 'done', backup, message: ended.message });
    if (!hasEnded(journal) && ended.phase === 'done') {
      this.#options.logger.warn('a restore that was cut off has been completed', { service, backup });
    }
  }

  #completed(id: string, journal: Journal): Promise<Journal> {
    if (journal.phase === 'staging') return this.#end(id, journal, { phase: 'failed', message: NOTHING_CHANGED });
    const message = `${journal.message}. The agent ended meanwhile, and completed it when it was started again`;
    return this.#finish(id, journal, message);
  }

  async #finish(id: string, journal: Journal, message: string): Promise<Journal> {
    if (journal.phase === 'switching') {
      await switchAll(journal.place, journal.paths);
      await this.#journal.put(id, { ...journal, phase: 'switched' });
    }
    await finish(journal.place);
    const done: Journal = { ...journal, phase: 'done', message };
    await this.#journal.put(id, done);
    return done;
  }

  /** Its entry stays: the agent may end before the command has its outcome on the disk. */
  async #end(id: string, journal: Journal, end: Pick<Journal, 'phase' | 'message'>): Promise<Journal> {
    await abandon(journal.place);
    const ended = { ...journal, ...end };
    await this.#journal.put(id, ended);
    return ended;
  }

  /** A service's restores come one behind the other, each when the outcome of the one before is on the disk. */
  async #forgetEnded(service: string): Promise<void> {
    for (const { id, value } of await this.#journal.all()) {
      if (value.service === service && hasEnded(value)) await this.#journal.delete(id);
    }
  }
}

function hasEnded({ phase }: Journal): boolean {
  return phase === 'done' || phase === 'failed';
}

function runs(state: InstanceReport['state']): boolean {
  return state !== 'STOPPED' && state !== 'EXITED' && state !== 'FATAL';
}

/** Without those that are in others; clean. */
function topmost(paths: readonly string[]): string[] {
  const clean = [...new Set(paths.map((path) => path.replace(/\/+$/, '')))];
  return clean.filter((path) => !clean.some((other) => other !== path && path.startsWith(`${other}/`)));
}
