/** Reads stored batches, and misses those that are not there. */
import { isCode } from '../../kit/errors.js';
import type { Records, StoredRecord } from '../../store/records.js';
import { FormatError } from './bytes.js';
import { damagedMessages, unreadable } from './damage.js';
import { batchKey, readKey, spanOf } from './keys.js';
import type { StoredBatch } from './port.js';
import { decodeBatch } from './records.js';
import type { TopicState } from './state.js';

/** A batch that is what was written at its key, or why it is not. */
type Read = { readonly batch: StoredBatch } | { readonly lastSequence: number | undefined; readonly cause: unknown };

function readBatch({ key, value }: StoredRecord): Read {
  let lastSequence: number | undefined;
  try {
    lastSequence = readKey(key, { ids: 1, numbers: 1 }).numbers[0] ?? 0;
    if (!value) throw new FormatError('it does not match its checksum');
    return { batch: decodeBatch(lastSequence, value) };
  } catch (cause) {
    if (cause instanceof FormatError) return { lastSequence, cause };
    throw cause;
  }
}

/** Whether a batch is the one wanted: the first one read holds the sequence, the others begin with it. */
function fits({ firstSequence, count }: StoredBatch, sequence: number, isFirst: boolean): boolean {
  return isFirst ? firstSequence <= sequence && firstSequence + count > sequence : firstSequence === sequence;
}

/** Sequence behind a damage that begins at `from`: what is known of where good messages begin again. */
function endOfDamage(found: Read | undefined, from: number, { bounds: { next } }: TopicState): number {
  if (!found) return next;
  const until = 'batch' in found ? found.batch.firstSequence : (found.lastSequence ?? from) + 1;
  return until > from ? Math.min(until, next) : from + 1;
}

/**
 * Whole batches from that which holds `from`, for as long as each begins where the one before it ended.
 * @throws data_loss when the first of them is damaged or missing
 */
function consecutive(found: readonly StoredRecord[], from: number, topic: TopicState): readonly StoredBatch[] {
  const batches: StoredBatch[] = [];
  let wanted = from;
  for (const record of found) {
    const read = readBatch(record);
    if (!('batch' in read) || !fits(read.batch, wanted, batches.length === 0)) {
      if (batches.length > 0) return batches;
      throw damagedMessages(topic.name, from, endOfDamage(read, from, topic), 'cause' in read ? read.cause : undefined);
    }
    batches.push(read.batch);
    wanted = read.batch.firstSequence + read.batch.count;
  }
  return batches;
}

/** @throws data_loss, unavailable */
export async function readBatches(
  records: Records,
  topicId: number,
  topic: TopicState,
  { from, bytesMax }: { from: number; bytesMax: number },
): Promise<readonly StoredBatch[]> {
  const { head, next } = topic.bounds;
  const start = Math.max(from, head);
  if (start >= next) return [];
  const span = { from: batchKey(topicId, start), until: spanOf('batch', [topicId]).until };
  // The last one may overshoot by a batch: LevelDB ends a piece behind the value that fills it.
  let found: readonly StoredRecord[];
  try {
    found = await records.piece({ ...span, pieceBytes: bytesMax - 1 });
  } catch (error) {
    if (isCode(error, 'data_loss')) throw unreadable(topic.name, start, error);
    throw error;
  }
  if (found.length === 0) throw damagedMessages(topic.name, start, next);
  return consecutive(found, start, topic);
}

/** The first message stored at or after `timeMs`, by bisection. @throws data_loss, unavailable */
export async function findTime(
  records: Records,
  topicId: number,
  topic: TopicState,
  timeMs: number,
): Promise<number | undefined> {
  const { head, next, newestMs } = topic.bounds;
  if (head >= next || newestMs < timeMs) return undefined;
  // All before `low` are older; `high` begins a batch which is not, or is the end.
  let low = head;
  let high = next;
  while (low < high) {
    const middle = low + Math.floor((high - low) / 2);
    const [batch] = await readBatches(records, topicId, topic, { from: middle, bytesMax: 1 });
    if (!batch) break;
    if (batch.publishedMs < timeMs) low = batch.firstSequence + batch.count;
    else high = Math.min(high, Math.max(batch.firstSequence, low));
  }
  return low < next ? low : undefined;
}
