import { sleep, type Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { BackupPlan } from '../../model/backup.js';
import type { Archives } from './archives.js';
import { begun, dueOf, ended, reviewed, type Progress, type Timetable } from './due.js';
import type { BackupMaker } from './maker.js';
import type { BackedUpService, BackedUpServices } from './ports.js';
import { isWhole, type BackupRecords, type TimetableKind } from './records.js';

export interface SchedulerOptions {
  readonly records: BackupRecords;
  readonly services: BackedUpServices;
  readonly maker: BackupMaker;
  readonly archives: Archives;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A wall clock that is set is noticed so soon. */
const LOOK_EVERY_MS = 15_000;
const KINDS: readonly TimetableKind[] = ['backup', 'drill'];

/** Starts what is due by the services' timetables: backups, and drills that read the latest one back. Needs no center. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  /** `KIND/SERVICE` of what is under way. */
  readonly #running = new Map<string, Promise<void>>();
  #wake = new AbortController();

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /** Runs until the signal aborts; then until what is under way has ended. Call when services are ready. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, services } = this.#options;
    const stop = services.onChange(() => {
      this.#wake.abort();
    });
    try {
      while (!signal.aborted) {
        this.#wake = new AbortController();
        const nextMs = await this.#start(signal);
        const waitMs = Math.min(Math.max(nextMs - clock.now(), 0), LOOK_EVERY_MS);
        await sleep(clock, waitMs, AbortSignal.any([signal, this.#wake.signal])).catch(() => undefined);
      }
    } finally {
      stop();
      await Promise.all(this.#running.values());
    }
  }

  /** When the backups of each service with a policy are due. */
  plans(): readonly BackupPlan[] {
    return this.#options.services.list().flatMap((service) => {
      const { policy } = service;
      if (!policy) return [];
      const progress = this.#progressOf('backup', service);
      return [
        {
          service: service.service,
          schedule: policy.schedule ?? '',
          timeZone: policy.timeZone,
          nextDueMs: progress && dueOf(progress),
        },
      ];
    });
  }

  #progressOf(kind: TimetableKind, service: BackedUpService): Progress | undefined {
    const timetable = timetableOf(kind, service);
    if (!timetable) return undefined;
    return reviewed(this.#options.records.progress(kind, service.service), timetable, this.#options.clock.now());
  }

  /** Starts everything that is due; answers with when the next is, wall-clock milliseconds. */
  async #start(signal: AbortSignal): Promise<number> {
    const { clock, services, records, logger } = this.#options;
    let nextMs = Infinity;
    for (const service of services.list()) {
      for (const kind of KINDS) {
        const progress = this.#progressOf(kind, service);
        if (!progress || this.#running.has(`${kind}/${service.service}`)) continue;
        try {
          await records.plan({ kind, service: service.service, progress });
        } catch (error) {
          logger.warn('a timetable of backups could not be recorded; trying again', {
            service: service.service,
            error,
          });
          continue;
        }
        const dueMs = dueOf(progress) ?? Infinity;
        if (dueMs <= clock.now()) this.#begin(kind, service.service, { progress, signal });
        else nextMs = Math.min(nextMs, dueMs);
      }
    }
    return nextMs;
  }

  #begin(kind: TimetableKind, service: string, due: { progress: Progress; signal: AbortSignal }): void {
    const work = kind === 'backup' ? this.#backUp(service, due) : this.#drill(service, due);
    const tracked = work
      .catch(async (error: unknown) => {
        this.#options.logger.error(`a scheduled ${kind} failed`, { service, error: messageOf(error) });
        // It may still be due: not at once again.
        await sleep(this.#options.clock, LOOK_EVERY_MS, due.signal).catch(() => undefined);
      })
      .finally(() => {
        this.#running.delete(`${kind}/${service}`);
        this.#wake.abort();
      });
    this.#running.set(`${kind}/${service}`, tracked);
  }

  async #backUp(service: string, { progress, signal }: { progress: Progress; signal: AbortSignal }): Promise<void> {
    await this.#options.maker.make({ service, trigger: 'SCHEDULE', deploy: '', orderedBy: '', progress }, signal);
  }

  /** Reads the latest whole backup back. Without one there is nothing to drill: that it is missing is told by the plan. */
  async #drill(service: string, { progress, signal }: { progress: Progress; signal: AbortSignal }): Promise<void> {
    const { records, archives, clock, logger } = this.#options;
    const beganMs = clock.now();
    await records.plan({ kind: 'drill', service, progress: begun(progress) });
    const latest = records.of(service).find(isWhole);
    try {
      if (latest) {
        const { backup } = await archives.verify(latest, signal);
        if (backup.verifyProblem === '') logger.info('a backup was read back', { service, backup: backup.id });
      }
    } finally {
      await records.plan({ kind: 'drill', service, progress: signal.aborted ? progress : ended(progress, beganMs) });
    }
  }
}

function timetableOf(kind: TimetableKind, { policy }: BackedUpService): Timetable | undefined {
  const schedule = kind === 'backup' ? policy?.schedule : policy?.verify;
  return policy && schedule !== undefined ? { schedule, timeZone: policy.timeZone } : undefined;
}
