import { MusterError } from '../kit/errors.js';
import { silentLogger } from '../kit/logger.js';
import type { Engine, Existing, Final, Room } from './engine.js';
import { EngineStore } from './engine-store.js';
import { compareKeys, inRange } from './keys.js';
import type { Entry, KeyRange, Store } from './port.js';

/** Entries of one chunk of a scan. */
const CHUNK_ENTRIES = 256;

const UNBOUNDED: Room = {
  puts: Infinity,
  deletes: Infinity,
  refusal: () => new MusterError('internal', 'memory is never refused'),
};

function copyOf(entry: Entry): Entry {
  return { ...entry, value: new Uint8Array(entry.value) };
}

class MemoryEngine implements Engine {
  readonly #entries = new Map<string, Entry>();

  get(key: string): Promise<Entry | undefined> {
    const entry = this.#entries.get(key);
    return Promise.resolve(entry && copyOf(entry));
  }

  lookup(keys: readonly string[]): Promise<ReadonlyMap<string, Existing>> {
    const found = new Map<string, Existing>();
    for (const key of keys) {
      const entry = this.#entries.get(key);
      if (entry) found.set(key, { revision: entry.revision, mark: 0 });
    }
    return Promise.resolve(found);
  }

  async *scan(range: KeyRange): AsyncGenerator<readonly Entry[]> {
    const entries = [...this.#entries.values()].filter(({ key }) => inRange(key, range));
    entries.sort((a, b) => compareKeys(a.key, b.key));
    if (range.reverse) entries.reverse();
    const wanted = entries.slice(0, range.limit);
    for (let start = 0; start < wanted.length; start += CHUNK_ENTRIES) {
      yield await Promise.resolve(wanted.slice(start, start + CHUNK_ENTRIES).map(copyOf));
    }
  }

  room(): Promise<Room> {
    return Promise.resolve(UNBOUNDED);
  }

  commit(finals: readonly Final[]): Promise<void> {
    for (const { key, value, revision } of finals) {
      if (value) this.#entries.set(key, { key, value, revision });
      else this.#entries.delete(key);
    }
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#entries.clear();
    return Promise.resolve();
  }
}

/** A store that lives as long as the process: for tests, and for what may be lost. A write resolves once it is visible. */
export function openMemoryStore(): Promise<Store> {
  return Promise.resolve(new EngineStore(new MemoryEngine(), 0, silentLogger));
}
