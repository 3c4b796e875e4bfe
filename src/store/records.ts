/**
 * Records: an ordered map of byte keys to byte values with atomic durable commits, for parts of Muster that lay out their own bytes. Cheaper than
 * the document store (src/store/port.ts): no revisions, no compare-and-set, no watches, and opening does not read every value.
 * Keys have at least one byte, and the first one is not 255.
 */
import type { MusterError } from '../kit/errors.js';
import type { Room } from './engine.js';

export type { Room } from './engine.js';

/** One thing to store; without a value it is deleted. The value is the pieces one after another. */
export interface RecordChange {
  readonly key: Buffer;
  readonly value: readonly Uint8Array[] | undefined;
}

export interface StoredRecord {
  readonly key: Buffer;
  /** Undefined: what is stored there does not match its checksum. */
  readonly value: Buffer | undefined;
}

/** Keys from `from` up to, not including, `until`. */
export interface KeySpan {
  readonly from: Buffer;
  readonly until: Buffer;
}

export interface Scan extends KeySpan {
  /** Default: from the lowest key up. */
  readonly reverse?: boolean;
  /** Records at most. Default: all. */
  readonly limit?: number;
  /** Values are read in pieces of about so many bytes; a larger value comes alone. Default 256 KiB. */
  readonly pieceBytes?: number;
}

/** The narrow port a driver of records implements: called only between its opening and its close. */
export interface RecordEngine {
  /** Values of the keys, in their order; undefined where there is none. @throws data_loss naming the key; unavailable */
  getMany(keys: readonly Buffer[]): Promise<readonly (Buffer | undefined)[]>;
  /** @throws data_loss, unavailable */
  has(keys: readonly Buffer[]): Promise<readonly boolean[]>;
  /** The first piece of a scan; empty when there is nothing. @throws data_loss, unavailable */
  piece(scan: Scan): Promise<readonly StoredRecord[]>;
  /** A consistent snapshot taken at the first step, a piece at a time. @throws data_loss, unavailable */
  scan(scan: Scan): AsyncIterable<readonly StoredRecord[]>;
  /** Bytes that may be written now. @throws unavailable */
  room(): Promise<Room>;
  /** Resolves once all changes are durable together. Any rejection means: outcome unknown, the engine must be closed. */
  commit(changes: readonly RecordChange[]): Promise<void>;
  /** The first keys of a span, in order. @throws data_loss, unavailable */
  keys(span: KeySpan, limit: number): Promise<readonly Buffer[]>;
  /**
   * Gives the space of what was deleted in the span back. Answers with keys of the span that hold nothing and are to be deleted once more where
   * only a second compaction frees all of it.
   */
  compact(span: KeySpan): Promise<readonly Buffer[]>;
  /** Bytes in files. */
  diskBytes(): Promise<number>;
  /** Reads all files, a piece at a time, and says what is damaged. Ends early when `signal` aborts. */
  scrub(signal: AbortSignal): AsyncIterable<string>;
  close(): Promise<void>;
}

/**
 * An engine with a life: open until close() or the first failed write. After a failed write every call rejects with `unavailable` (the owner's
 * reason for it), and the engine is closed.
 */
export interface Records extends Omit<RecordEngine, 'compact'> {
  /**
   * Deletes all keys of the span, piece by piece, while commits go on: after a crash some may still be there. Costs a sync for
   * each piece. Ends early, rejecting with `unavailable`, at close(). Answers with how many there were.
   */
  clear(span: KeySpan): Promise<number>;
  /** Gives the space of what was deleted in the span back. */
  compact(span: KeySpan): Promise<void>;
  /** @throws unavailable unless it is open */
  assertOpen(): void;
  /** Resolves with the reason when a write failed, after the engine is closed; pending for as long as none did. */
  readonly failed: Promise<MusterError>;
}
