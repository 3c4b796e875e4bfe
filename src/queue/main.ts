import { join, resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { explainFullDisk, makeDirectory } from '../kit/files.js';
import { openQueueLog } from './log/leveldb-log.js';
import type * as Party from './membership/party.js';
import type { QueueMainOptions } from './serving.js';

export type { QueueMainOptions, QueueReady } from './serving.js';

const LOG_DIRECTORY = 'log';

/** See membership/party.ts. */
export const joinQueue: typeof Party.joinQueue = async (...args) => {
  const party = await import('./membership/party.js');
  return party.joinQueue(...args);
};

/**
 * Runs a queue until the signal aborts. Without having joined a site it serves its socket alone.
 * @throws precondition when an address or the data directory is taken; data_loss; unavailable, reason LOG_FAILED, when the disk failed: start it again then
 */
export async function runQueue(options: QueueMainOptions): Promise<void> {
  const data = resolve(options.data);
  // The larger part of the program is loaded while the disk is read: a queue that was killed is back the sooner.
  const loading = import('./serving.js');
  loading.catch(() => undefined);
  try {
    await makeDirectory(data, 0o700);
    const log = await openQueueLog({ path: join(data, LOG_DIRECTORY), logger: options.logger, ...options.disk });
    try {
      const { serve } = await loading;
      suitHeapToBuffers();
      await serve({ ...options, data }, log);
    } finally {
      await log.close();
    }
  } catch (error) {
    throw explainFullDisk(error, data);
  }
}

/**
 * A queue's memory is Buffers, not objects. By itself V8 lets the young generation grow to three times 16 MiB that nothing here needs, and then
 * collects everything each time a few MiB of Buffers have come; so its old generation may double first. Of a young generation so small hardly anything
 * survives: threads that help to collect it cost more than they save, and keep those waiting that write to the disk. Read by V8 whenever it sizes a
 * generation, or collects the young one.
 */
function suitHeapToBuffers(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--heap-growing-percent=100');
  setFlagsFromString('--no-parallel-scavenge');
}
