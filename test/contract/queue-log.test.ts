import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import { Level } from 'level';
import { openQueueLog } from '../../src/queue/log/leveldb-log.js';
import { openMemoryQueueLog } from '../../src/queue/log/memory-log.js';
import type { QueueLog } from '../../src/queue/log/port.js';
import { queueLogContract, type LogPlace } from './queue-log.js';

async function levelPlace(): Promise<LogPlace> {
  const path = await mkdtemp(join(tmpdir(), 'muster-queue-log-'));
  const opened: QueueLog[] = [];
  return {
    open: async () => {
      const log = await openQueueLog({ path });
      opened.push(log);
      return log;
    },
    breakWrites: () => {
      const broken = {
        put: () => undefined,
        del: () => undefined,
        write: () => Promise.reject(new Error('IO error: injected')),
      };
      mock.method(Level.prototype, 'batch', () => broken, { times: 1 });
    },
    remove: async () => {
      for (const log of opened) await log.close();
      await rm(path, { recursive: true, force: true });
    },
  };
}

function memoryPlace(): Promise<LogPlace> {
  const opened: QueueLog[] = [];
  return Promise.resolve({
    open: () => {
      const log = openMemoryQueueLog();
      opened.push(log);
      return Promise.resolve(log);
    },
    remove: async () => {
      for (const log of opened) await log.close();
    },
  });
}

queueLogContract({ name: 'leveldb', durable: true, place: levelPlace });
queueLogContract({ name: 'memory', durable: false, place: memoryPlace });
