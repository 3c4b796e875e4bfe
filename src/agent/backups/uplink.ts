import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { isCode } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { Wake } from '../../kit/wake.js';
import type { Backup, BackupNews, BackupPlan } from '../../model/backup.js';
import type { CenterAccess } from '../ports.js';

export interface BackupState {
  readonly backups: readonly Backup[];
  readonly plans: readonly BackupPlan[];
}

export interface BackupUplinkOptions {
  readonly state: () => BackupState;
  /** Calls when the state may have changed. Returns how to stop. */
  readonly onChange: (listener: () => void) => () => void;
  readonly send: (news: BackupNews, signal: AbortSignal) => Promise<void>;
  readonly center: Pick<CenterAccess, 'connected' | 'onConnection'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Backups and plans in one call: with all their problems they stay below the largest message. */
export const REPORT_ITEMS_MAX = 150;
/** Changes go up at most this often. */
const INTERVAL_MS = 500;
const BACKOFF = { initialMs: 500, maxMs: 30_000, multiplier: 2 };

/** What the center was told last, as JSON by id and by service. */
interface Told {
  readonly backups: Map<string, string>;
  readonly plans: Map<string, string>;
}

/** Tells the center of the backups as they are: all of them when a session begins, then what changes; again until it is taken. */
export class BackupUplink {
  readonly #options: BackupUplinkOptions;
  readonly #backoff: Backoff;
  #told: Told | undefined;
  /** Rises with each connection and each loss of one. */
  #session = 0;
  readonly #wake = new Wake();

  constructor(options: BackupUplinkOptions) {
    this.#options = options;
    this.#backoff = new Backoff(BACKOFF, options.random);
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { center, clock, onChange } = this.#options;
    const stops = [
      center.onConnection(() => {
        this.#told = undefined;
        this.#session += 1;
        this.#wake.call();
      }),
      onChange(() => {
        this.#wake.call();
      }),
    ];
    try {
      while (!signal.aborted) {
        this.#wake.arm();
        const failed = center.connected && !(await this.#round(signal));
        if (failed) await sleep(clock, this.#backoff.next(), signal).catch(() => undefined);
        else await this.#wake.rest(signal);
        await sleep(clock, INTERVAL_MS, signal).catch(() => undefined);
      }
    } finally {
      for (const stop of stops) stop();
    }
  }

  /** Whether the center has all of it. */
  async #round(signal: AbortSignal): Promise<boolean> {
    const session = this.#session;
    const state = this.#options.state();
    try {
      for (const news of newsOf(this.#told, state)) await this.#options.send(news, signal);
      // A session that began meanwhile hears all of it.
      if (session === this.#session) this.#told = toldOf(state);
      this.#backoff.reset();
      return true;
    } catch (error) {
      if (signal.aborted) return true;
      // A part of it may have been taken: begin with all.
      this.#told = undefined;
      if (isCode(error, 'unimplemented')) {
        this.#options.logger.info('the center is too old to know backups: it is not told of them', { error });
        return true;
      }
      this.#options.logger.debug('the center could not be told of backups; trying again', { error });
      return false;
    }
  }
}

function toldOf({ backups, plans }: BackupState): Told {
  return {
    backups: new Map(backups.map((backup) => [backup.id, JSON.stringify(backup)])),
    plans: new Map(plans.map((plan) => [plan.service, JSON.stringify(plan)])),
  };
}

/** What is to be told, in calls of at most REPORT_ITEMS_MAX; of all there is where nothing was told yet, the first being the full one. */
export function newsOf(told: Told | undefined, state: BackupState): BackupNews[] {
  const now = toldOf(state);
  const backups = state.backups.filter(({ id }) => told?.backups.get(id) !== now.backups.get(id));
  const plans = state.plans.filter(({ service }) => told?.plans.get(service) !== now.plans.get(service));
  const removed = [...(told?.backups.keys() ?? [])].filter((id) => !now.backups.has(id));
  const removedPlans = [...(told?.plans.keys() ?? [])].filter((service) => !now.plans.has(service));
  const news: BackupNews[] = [];
  const longest = Math.max(backups.length, plans.length, removed.length, removedPlans.length);
  for (let from = 0; from < longest || (from === 0 && !told); from += REPORT_ITEMS_MAX) {
    const slice = <T>(items: readonly T[]): readonly T[] => items.slice(from, from + REPORT_ITEMS_MAX);
    news.push({
      full: !told && from === 0,
      backups: slice(backups),
      removed: slice(removed),
      plans: slice(plans),
      removedPlans: slice(removedPlans),
    });
  }
  return news;
}
