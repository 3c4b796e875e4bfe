import { MusterError } from '../kit/errors.js';
import type { Existing, Final, Room } from './engine.js';
import { assertKey } from './keys.js';
import { BATCH_BYTES_MAX, BATCH_MUTATIONS_MAX, VALUE_BYTES_MAX, type Change, type Mutation } from './port.js';

/** A checked batch with its own copies of the values. */
export interface Batch {
  readonly mutations: readonly Mutation[];
  /** Bytes of keys and values. */
  readonly bytes: number;
  readonly deletesOnly: boolean;
}

export interface BatchLimits {
  readonly mutationsMax: number;
  readonly bytesMax: number;
}

const BATCH_LIMITS: BatchLimits = { mutationsMax: BATCH_MUTATIONS_MAX, bytesMax: BATCH_BYTES_MAX };

function checkMutation(mutation: Mutation): Mutation {
  const { key, expect } = mutation;
  assertKey(key);
  if (expect !== undefined && (!Number.isSafeInteger(expect) || expect < 0)) {
    throw new MusterError('invalid', `expect of "${key}" must be a revision, a whole number from 0, not ${expect}`);
  }
  if (mutation.kind === 'delete') return mutation;
  if (mutation.value.length > VALUE_BYTES_MAX) {
    throw new MusterError(
      'invalid',
      `the value of "${key}" has ${mutation.value.length} bytes; the largest value allowed has ${VALUE_BYTES_MAX}: split it over several keys`,
    );
  }
  return { ...mutation, value: new Uint8Array(mutation.value) };
}

/**
 * Checks a batch and copies its values, so that the caller may reuse its buffers.
 * @throws invalid
 */
export function checkBatch(mutations: readonly Mutation[], limits = BATCH_LIMITS): Batch {
  if (mutations.length > limits.mutationsMax) {
    throw new MusterError(
      'invalid',
      `a batch of ${mutations.length} changes is too long; at most ${limits.mutationsMax}: split it`,
    );
  }
  const keys = new Set<string>();
  const checked: Mutation[] = [];
  let bytes = 0;
  let deletesOnly = true;
  for (const mutation of mutations) {
    const copy = checkMutation(mutation);
    if (keys.has(copy.key))
      throw new MusterError('invalid', `a batch may name a key once; "${copy.key}" is named twice`);
    keys.add(copy.key);
    checked.push(copy);
    bytes += Buffer.byteLength(copy.key);
    if (copy.kind === 'put') {
      bytes += copy.value.length;
      deletesOnly = false;
    }
  }
  if (bytes > limits.bytesMax) {
    throw new MusterError('invalid', `a batch of ${bytes} bytes is too large; at most ${limits.bytesMax}: split it`);
  }
  return { mutations: checked, bytes, deletesOnly };
}

/** The revision a batch got, or why it was refused. */
export type Verdict = { readonly revision: number } | { readonly error: MusterError };

export interface Plan {
  /** One verdict per batch, in order. */
  readonly verdicts: readonly Verdict[];
  /** The last state of every key that changes. */
  readonly finals: readonly Final[];
  /** Every change in order, for watchers. */
  readonly changes: readonly Change[];
  /** Revision after the group; the one before it when no batch was accepted. */
  readonly revision: number;
}

function conflict(key: string, expect: number, actual: number): MusterError {
  const found = actual === 0 ? 'is not there' : `is at revision ${actual}`;
  const wanted = expect === 0 ? 'not to be there' : `revision ${expect}`;
  return new MusterError('conflict', `"${key}" ${found}, but ${wanted} was expected: read it again, then retry`, {
    reason: 'REVISION_MISMATCH',
    metadata: { key, expected: String(expect), actual: String(actual) },
  });
}

/**
 * Decides what a group of batches does. Batches are taken in order, each against the effects of those accepted before it,
 * so the group behaves exactly as if every batch had been committed alone.
 */
class Planner {
  readonly #stored: ReadonlyMap<string, Existing | MusterError>;
  readonly #room: Room;
  readonly #finals = new Map<string, Final>();
  readonly #changes: Change[] = [];
  #revision: number;
  #bytes = 0;

  constructor(stored: ReadonlyMap<string, Existing | MusterError>, revision: number, room: Room) {
    this.#stored = stored;
    this.#revision = revision;
    this.#room = room;
  }

  decide(batch: Batch): Verdict {
    if (batch.mutations.length === 0) return { revision: this.#revision };
    const error = this.#refusal(batch);
    if (error) return { error };
    this.#revision += 1;
    this.#bytes += batch.bytes;
    for (const mutation of batch.mutations) this.#apply(mutation);
    return { revision: this.#revision };
  }

  plan(verdicts: readonly Verdict[]): Plan {
    return { verdicts, finals: [...this.#finals.values()], changes: this.#changes, revision: this.#revision };
  }

  #refusal(batch: Batch): MusterError | undefined {
    for (const { key, expect } of batch.mutations) {
      const stored = this.#stored.get(key);
      if (stored instanceof MusterError) return stored;
      const actual = this.#revisionOf(key);
      if (expect !== undefined && expect !== actual) return conflict(key, expect, actual);
    }
    const allowed = batch.deletesOnly ? this.#room.deletes : this.#room.puts;
    return this.#bytes + batch.bytes > allowed ? this.#room.refusal() : undefined;
  }

  /** The key's revision after the batches accepted so far; 0: not there. */
  #revisionOf(key: string): number {
    const final = this.#finals.get(key);
    if (final) return final.value ? final.revision : 0;
    return this.#existing(key)?.revision ?? 0;
  }

  #existing(key: string): Existing | undefined {
    const stored = this.#stored.get(key);
    return stored instanceof MusterError ? undefined : stored;
  }

  #apply(mutation: Mutation): void {
    const { key } = mutation;
    const value = mutation.kind === 'put' ? mutation.value : undefined;
    if (value === undefined && this.#revisionOf(key) === 0) return;
    this.#finals.set(key, { key, before: this.#existing(key), value, revision: this.#revision });
    this.#changes.push({ revision: this.#revision, key, value });
  }
}

/** Plans `batches`, in order, over what is stored at the keys they name. */
export function planGroup(
  batches: readonly Batch[],
  stored: ReadonlyMap<string, Existing | MusterError>,
  revision: number,
  room: Room,
): Plan {
  const planner = new Planner(stored, revision, room);
  return planner.plan(batches.map((batch) => planner.decide(batch)));
}
