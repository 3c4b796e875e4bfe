import { openMemoryStore } from '../../src/store/memory.js';
import { storeContract } from './store.js';

storeContract({
  name: 'memory',
  durable: false,
  place: () => Promise.resolve({ open: openMemoryStore, remove: () => Promise.resolve() }),
});
