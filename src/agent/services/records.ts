import { KeyedMutex } from '../../kit/tasks.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';

/** What the agent must remember of an instance across its own restarts. */
export interface InstanceRecord {
  readonly wanted: boolean;
  /** The manifest it was last run by, to be able to stop it when its manifest is gone. */
  readonly manifestText: string;
  /** Absolute directory of a manifest file in a folder of its own; empty otherwise. */
  readonly folder: string;
  /** Set for a service assigned by the center. */
  readonly assigned?: { readonly generation: number };
  /** It ended, or was stopped by others, and is not to be started again by itself during this boot. */
  readonly rest?: { readonly state: 'EXITED' | 'STOPPED'; readonly reason: string; readonly bootId: string };
  /** The last start by the process driver. */
  readonly start?: StartRecord;
}

/**
 * A start, written and synced before the process exists. It carries `id` in its environment, so that a process whose agent died before
 * writing `process` can still be found. pid alone is never believed: it is reused.
 */
export interface StartRecord {
  readonly id: string;
  readonly bootId: string;
  /** Wall-clock milliseconds. */
  readonly atMs: number;
  readonly process?: { readonly pid: number; readonly startTicks: number };
}

/** The record without a start that came to nothing. */
export function withoutStart(record: InstanceRecord): InstanceRecord {
  const { wanted, manifestText, folder, assigned, rest } = record;
  return { wanted, manifestText, folder, ...(assigned ? { assigned } : {}), ...(rest ? { rest } : {}) };
}

/** The record of one that somebody asked to run or to stop: whatever rested before is over. */
export function asked(record: InstanceRecord, wanted: boolean): InstanceRecord {
  const { manifestText, folder, assigned, start } = record;
  return { wanted, manifestText, folder, ...(assigned ? { assigned } : {}), ...(start ? { start } : {}) };
}

/** The records, in memory and on disk. A change is seen by get() only once it is durable. */
export class InstanceRecords {
  readonly #documents: Documents<InstanceRecord>;
  readonly #records = new Map<string, InstanceRecord>();
  readonly #writing = new KeyedMutex();

  constructor(store: Store) {
    this.#documents = new Documents<InstanceRecord>(store, 'instance/');
  }

  /** Reads all; call once before anything else. @throws as Documents.list */
  async load(): Promise<void> {
    for await (const { id, value } of this.#documents.list()) this.#records.set(id, value);
  }

  get(service: string): InstanceRecord | undefined {
    return this.#records.get(service);
  }

  all(): ReadonlyMap<string, InstanceRecord> {
    return this.#records;
  }

  /**
   * Changes a record, in the order asked; resolves once durable. Without a change nothing is written.
   * @throws as Store.write; the record is then as it was
   */
  async update(
    service: string,
    change: (current: InstanceRecord | undefined) => InstanceRecord | undefined,
  ): Promise<void> {
    await this.#writing.run(service, async () => {
      const current = this.#records.get(service);
      const next = change(current);
      if (next === current) return;
      if (next) {
        await this.#documents.put(service, next);
        this.#records.set(service, next);
      } else {
        await this.#documents.delete(service);
        this.#records.delete(service);
      }
    });
  }

  /** Changes a record that must be there; where it is not, nothing happens. */
  async amend(service: string, change: (current: InstanceRecord) => InstanceRecord): Promise<void> {
    await this.update(service, (current) => current && change(current));
  }
}
