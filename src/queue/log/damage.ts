import { MusterError } from '../../kit/errors.js';
import { FormatError } from './bytes.js';
import { describeKey } from './keys.js';

const RESTORE = 'Nothing was repaired: keep a copy of the data directory, check the disk, and restore a backup';

/** The error for a log that is not what was written. */
export function damagedLog(what: string, cause?: unknown): MusterError {
  return new MusterError('data_loss', `the queue's log is damaged: ${what}. ${RESTORE}`, {
    reason: 'DATA_DAMAGED',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Runs `read` over what is stored at `key`. @throws data_loss for bytes that were never written */
export function reading<T>(key: Buffer, value: Buffer | undefined, read: (value: Buffer) => T): T {
  if (!value) throw damagedLog(`${describeKey(key)} does not match its checksum`);
  try {
    return read(value);
  } catch (error) {
    if (error instanceof FormatError) throw damagedLog(`${describeKey(key)} cannot be read (${error.message})`, error);
    throw error;
  }
}

/** A file that cannot be read where messages of a topic are looked for, from `sequence` on. */
export function unreadable(topic: string, sequence: number, cause: MusterError): MusterError {
  return new MusterError(
    'data_loss',
    `messages of topic ${topic}, from ${sequence} on, cannot be read: ${cause.message}`,
    {
      reason: 'DATA_DAMAGED',
      metadata: { topic, sequence: String(sequence) },
      cause,
    },
  );
}

/** Messages of a topic that are damaged or missing: sequences from `from` up to, not including, `until`. */
export function damagedMessages(topic: string, from: number, until: number, cause?: unknown): MusterError {
  const which = until === from + 1 ? `message ${from}` : `messages ${from} to ${until - 1}`;
  return new MusterError(
    'data_loss',
    `${which} of topic ${topic} cannot be read: stored bytes are damaged or missing. Nothing is skipped by itself: ` +
      `restore a backup, or go on behind them by seeking each subscription of the topic to sequence ${until}`,
    {
      reason: 'DATA_DAMAGED',
      metadata: { topic, sequence: String(from), until: String(until) },
      ...(cause === undefined ? {} : { cause }),
    },
  );
}
