import { silentLogger } from '../../kit/logger.js';
import { openMemoryRecords } from '../../store/records-memory.js';
import { RecordsQueueLog } from './log.js';
import { LOG_NAMES } from './names.js';
import type { QueueLog } from './port.js';

/** A log that lives as long as the process: for tests, and for what may be lost. */
export function openMemoryQueueLog(): QueueLog {
  return new RecordsQueueLog(openMemoryRecords(LOG_NAMES), silentLogger);
}
