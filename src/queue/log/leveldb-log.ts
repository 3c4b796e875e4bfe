import type { Clock } from '../../kit/clock.js';
import { silentLogger, type Logger } from '../../kit/logger.js';
import { openLevelRecords } from '../../store/leveldb-byte-records.js';
import { CHECKED_KEYS, describeKey } from './keys.js';
import { RecordsQueueLog } from './log.js';
import { LOG_NAMES } from './names.js';
import type { QueueLog } from './port.js';

/** The version of the bytes in docs/queue-format.md. */
const FORMAT = 1;

export interface QueueLogOptions {
  /** The directory of the log; made when it is not there. One process at a time. */
  readonly path: string;
  readonly logger?: Logger;
  readonly clock?: Clock;
  /** Publishing is refused while the disk has less free than this; 0 turns the floor off. Default 128 MiB. */
  readonly freeSpaceFloorBytes?: number;
  /** Asks a path's file system for its free bytes; given by tests. */
  readonly freeBytes?: (path: string) => Promise<number>;
  /** Bytes LevelDB gathers in memory, and in its log, before it writes a table. Default 16 MiB. */
  readonly writeBufferBytes?: number;
  /** Whether commits are synced. Only for tests which show what is lost otherwise. Default true. */
  readonly sync?: boolean;
}

/**
 * Opens the queue's log in `options.path`, alone. Call load() before anything else.
 * @throws precondition when another process uses the directory, a newer Muster wrote it or it is not a queue's; data_loss when stored bytes are
 *   damaged or acknowledged commits are missing; unavailable when the disk fails; invalid on impossible options
 */
export async function openQueueLog(options: QueueLogOptions): Promise<QueueLog> {
  const records = await openLevelRecords({
    ...options,
    owner: 'queue',
    format: FORMAT,
    names: LOG_NAMES,
    describeKey,
    checkedFrom: CHECKED_KEYS,
  });
  return new RecordsQueueLog(records, options.logger ?? silentLogger);
}
