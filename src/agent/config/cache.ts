import { appliedAfter } from '../../config/applied.js';
import { hashValues } from '../../config/canonical.js';
import type { ConfigSnapshot } from '../../config/wire.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { ConfigPins } from '../ports.js';
import { KeptConfigs } from './kept.js';

/** What a service said last of its configuration, as stored. */
export interface StoredReport {
  readonly revision: number;
  /** Empty: it runs with it. */
  readonly error: string;
  /** Newest revision it ran with. */
  readonly applied: number;
  /** Whether the center has it. */
  readonly sent: boolean;
}

/** What the center wants a service to have. */
export interface Wanted {
  readonly revision: number;
  readonly hash: string;
}

const NOTHING: ConfigSnapshot = { revision: 0, hash: '', values: {}, provenance: {} };
const ERROR_MAX = 2_000;
/** How long a service that asks waits for a revision that is under way, milliseconds. */
const PENDING_WAIT_MS = 2_000;

/**
 * The configurations of this machine's services, on disk: `config/held/SERVICE` and `config/report/SERVICE`. A snapshot is stored
 * before it is offered, and revisions of a service only rise, so that a service sees whole configurations in order, whatever ends. Only a
 * rollback goes back: to what was kept with the release, until the center has a higher revision than it had then.
 */
export class ConfigCache {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #snapshots: Documents<ConfigSnapshot>;
  readonly #stored: Documents<StoredReport>;
  readonly #held = new Map<string, ConfigSnapshot>();
  readonly #reports = new Map<string, StoredReport>();
  readonly #wanted = new Map<string, Wanted>();
  readonly #listeners = new Set<(service: string) => void>();
  readonly #kept: KeptConfigs;
  /** What is held of a service is changed by one at a time. */
  readonly #turns = new KeyedMutex();
  #work: () => void = () => undefined;

  private constructor(store: Store, { kept, clock, logger }: { kept: KeptConfigs; clock: Clock; logger: Logger }) {
    this.#kept = kept;
    this.#clock = clock;
    this.#logger = logger;
    this.#snapshots = new Documents<ConfigSnapshot>(store, 'config/held/');
    this.#stored = new Documents<StoredReport>(store, 'config/report/');
  }

  /** @throws as Store.range */
  static async open(store: Store, clock: Clock, logger: Logger): Promise<ConfigCache> {
    const cache = new ConfigCache(store, { kept: await KeptConfigs.open(store), clock, logger });
    for await (const { id, value } of cache.#snapshots.list()) cache.#held.set(id, value);
    for await (const { id, value } of cache.#stored.list()) cache.#reports.set(id, value);
    return cache;
  }

  /** Revision held of a service; 0 for none. */
  held(service: string): number {
    return this.snapshot(service).revision;
  }

  /** Newest revision the service said it runs with; 0 for none. */
  applied(service: string): number {
    return this.#reports.get(service)?.applied ?? 0;
  }

  /** What is held of a service; empty at revision 0. */
  snapshot(service: string): ConfigSnapshot {
    return this.#held.get(service) ?? NOTHING;
  }

  /** Notes what the center wants the service to have; fetched in the background. */
  refresh(service: string, wanted: Wanted): void {
    if (wanted.revision === 0) return;
    this.#wanted.set(service, wanted);
    this.#work();
  }

  /** Services whose wanted revision is not held and is to be, with what is wanted. */
  missing(): [string, Wanted][] {
    return [...this.#wanted].filter(([service, { revision, hash }]) => {
      const held = this.snapshot(service);
      if (this.#isPinned(service)) return revision > this.#kept.pinnedUntil(service);
      return revision > held.revision || (revision === held.revision && hash !== held.hash);
    });
  }

  /** Reports the center does not have. */
  unsent(): [string, StoredReport][] {
    return [...this.#reports].filter(([, { sent }]) => !sent);
  }

  /** Calls `listener` when there is something missing or unsent. One listener. */
  onWork(listener: () => void): void {
    this.#work = listener;
  }

  /** Calls `listener` with the service after what is held of it, or said by it, changed. Returns how to stop. */
  onChange(listener: (service: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Takes a snapshot the center gave; resolves once it is durable and offered. An older one than is held is left alone, as is one that is not
   * to be taken after a rollback.
   * @throws data_loss when its hash is not that of its values; as Store.write
   */
  take(service: string, snapshot: ConfigSnapshot): Promise<void> {
    return this.#turns.run(service, () => this.#take(service, snapshot));
  }

  async #take(service: string, snapshot: ConfigSnapshot): Promise<void> {
    const held = this.snapshot(service);
    if (snapshot.revision > 0 && hashValues(snapshot.values) !== snapshot.hash) {
      throw new MusterError('data_loss', `the configuration of ${service} that came is not what its hash says`);
    }
    if (this.#isPinned(service) && snapshot.revision <= this.#kept.pinnedUntil(service)) return;
    if (snapshot.revision < held.revision) {
      const revisions = { service, held: held.revision, offered: snapshot.revision };
      this.#logger.warn('the center has an older configuration than is held here; publish a newer one', revisions);
      this.#wanted.delete(service);
      return;
    }
    await this.#snapshots.put(service, snapshot);
    this.#held.set(service, snapshot);
    // Where this is lost, the pin is seen to be below what is held, and means nothing.
    await this.#kept.unpin(service);
    if (snapshot.hash === held.hash) await this.#carryReport(service, held.revision, snapshot.revision);
    this.#emit(service);
  }

  /** The same values under a new number: what the service said of them holds, and it will not be asked again. */
  async #carryReport(service: string, from: number, to: number): Promise<void> {
    const report = this.#reports.get(service);
    if (report?.revision !== from || from === to) return;
    const applied = appliedAfter(report.applied, { revision: to, error: report.error });
    await this.#putReport(service, { revision: to, error: report.error, applied, sent: false });
    this.#work();
  }

  /** Waits a little while a newer revision is under way. */
  async settled(service: string, signal: AbortSignal): Promise<void> {
    if (!this.missing().some(([one]) => one === service)) return;
    const arrived = new AbortController();
    const unsubscribe = this.onChange((one) => {
      if (one === service) arrived.abort();
    });
    await sleep(this.#clock, PENDING_WAIT_MS, AbortSignal.any([signal, arrived.signal])).catch(() => undefined);
    unsubscribe();
  }

  /**
   * Notes what a service said; resolves once it is durable.
   * @throws invalid when the revision was never offered
   */
  async report(service: string, revision: number, error: string): Promise<void> {
    if (!Number.isInteger(revision) || revision < 1 || revision > this.held(service)) {
      throw new MusterError(
        'invalid',
        `revision ${revision} was never offered to ${service}: the newest is ${this.held(service)}`,
      );
    }
    const applied = appliedAfter(this.applied(service), { revision, error });
    await this.#putReport(service, { revision, error: error.slice(0, ERROR_MAX), applied, sent: false });
    this.#work();
  }

  /** The center has this report. */
  async sent(service: string, report: StoredReport): Promise<void> {
    if (this.#reports.get(service) === report) await this.#putReport(service, { ...report, sent: true });
  }

  /** Configurations kept with releases. */
  readonly pins: ConfigPins = {
    keep: (service, digest) =>
      this.#turns.run(service, async () => {
        const snapshot = this.snapshot(service);
        await this.#kept.keep(service, digest, snapshot);
        return snapshot.revision;
      }),
    restore: (service, digest) => this.#turns.run(service, () => this.#restore(service, digest)),
    unpin: (service) =>
      this.#turns.run(service, async () => {
        await this.#kept.unpin(service);
        this.#work();
      }),
    forget: (service, digest) => this.#turns.run(service, () => this.#kept.drop(service, digest)),
  };

  async #restore(service: string, digest: string): Promise<number> {
    const snapshot = await this.#kept.find(service, digest);
    if (!snapshot) return 0;
    const { revision: wanted = 0 } = this.#wanted.get(service) ?? {};
    // First the pin: what the center told before must not come back over what is put back.
    const pinned = this.#kept.pinnedUntil(service);
    await this.#kept.pin(service, Math.max(pinned, this.held(service), wanted, snapshot.revision));
    if (snapshot.hash === this.snapshot(service).hash && snapshot.revision === this.held(service)) {
      return snapshot.revision;
    }
    await this.#snapshots.put(service, snapshot);
    this.#held.set(service, snapshot);
    // What the service said was of another one.
    this.#reports.delete(service);
    await this.#stored.delete(service);
    this.#emit(service);
    return snapshot.revision;
  }

  #isPinned(service: string): boolean {
    const until = this.#kept.pinnedUntil(service);
    return until > 0 && this.held(service) <= until;
  }

  /** Forgets a service that is no more. */
  forget(service: string): Promise<void> {
    return this.#turns.run(service, () => this.#forget(service));
  }

  async #forget(service: string): Promise<void> {
    this.#wanted.delete(service);
    this.#held.delete(service);
    this.#reports.delete(service);
    await this.#snapshots.delete(service);
    await this.#stored.delete(service);
    await this.#kept.forget(service);
  }

  async #putReport(service: string, report: StoredReport): Promise<void> {
    // In memory first: of two reports at once the later one stays, here and on disk.
    this.#reports.set(service, report);
    await this.#stored.put(service, report);
    this.#emit(service);
  }

  #emit(service: string): void {
    for (const listener of this.#listeners) listener(service);
  }
}
