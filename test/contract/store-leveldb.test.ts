import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import { Level } from 'level';
import { openLevelStore } from '../../src/store/leveldb.js';
import type { Store } from '../../src/store/port.js';
import type { Place } from './store-driver.js';
import { storeContract } from './store.js';

async function place(): Promise<Place> {
  const path = await mkdtemp(join(tmpdir(), 'muster-store-'));
  const open: Store[] = [];
  return {
    open: async () => {
      const store = await openLevelStore({ path });
      open.push(store);
      return store;
    },
    breakWrites: () => {
      mock.method(Level.prototype, 'batch', () => Promise.reject(new Error('IO error: injected')), { times: 1 });
    },
    remove: async () => {
      for (const store of open) await store.close();
      await rm(path, { recursive: true, force: true });
    },
  };
}

storeContract({ name: 'leveldb', durable: true, place });
