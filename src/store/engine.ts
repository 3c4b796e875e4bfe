import type { MusterError } from '../kit/errors.js';
import type { Entry, KeyRange } from './port.js';

/** What is stored at a key now. */
export interface Existing {
  readonly revision: number;
  /** The driver's own fingerprint of the stored bytes; the planner only carries it. */
  readonly mark: number;
}

/** The last state a group of batches gives one key. */
export interface Final {
  readonly key: string;
  /** What is stored before the group; undefined: nothing. */
  readonly before: Existing | undefined;
  /** Undefined: the key is deleted. */
  readonly value: Uint8Array | undefined;
  readonly revision: number;
}

/** Bytes that may be written now. Deletes get more than puts, so that a full store can be made smaller. */
export interface Room {
  readonly puts: number;
  readonly deletes: number;
  /** The error for a batch that does not fit. */
  refusal(): MusterError;
}

/**
 * The narrow port a driver implements. State, validation, ordering, grouping and watches are EngineStore's;
 * an engine is called by one writer at a time, only between its opening and close().
 */
export interface Engine {
  /** @throws data_loss, unavailable */
  get(key: string): Promise<Entry | undefined>;
  /** What is stored at each of `keys` that is there; a damaged key maps to its data_loss error. @throws data_loss, unavailable */
  lookup(keys: readonly string[]): Promise<ReadonlyMap<string, Existing | MusterError>>;
  /** A consistent snapshot taken at the first step, in chunks of bounded size. @throws data_loss, unavailable */
  scan(range: KeyRange): AsyncIterable<readonly Entry[]>;
  room(): Promise<Room>;
  /** Resolves once all of `finals` and `revision` are durable together. Any rejection means: outcome unknown, the engine must be closed. */
  commit(finals: readonly Final[], revision: number): Promise<void>;
  close(): Promise<void>;
}
