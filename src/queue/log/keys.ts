/**
 * The keys of the queue's log, specified in docs/queue-format.md. The first byte says what is stored. Small things that are read whole at the start
 * have letters, all else digits. Behind batches and dedupe ids, of which there may be many, opening checks everything: nothing that was changed or
 * deleted there can come back by damage. What changes with nearly every commit lies behind the batches, which only ever grow at their own end: a new
 * table of LevelDB then overlaps few older ones, and batches are not written again and again by compaction.
 * Numbers are big-endian, so that keys are ordered as the numbers are.
 */
import type { KeySpan } from '../../store/records.js';
import { FormatError, readU64, writeU64 } from './bytes.js';

export const KINDS = {
  global: 'A',
  topic: 'T',
  bounds: 'B',
  subscription: 'S',
  cursor: 'C',
  dead: 'D',
  delayedSummary: 'W',
  retry: 'R',
  replayed: 'L',
  producer: 'P',
  removal: 'X',
  batch: '0',
  dedupe: '1',
  deadLetter: '2',
  delayed: '3',
} as const;

export type Kind = keyof typeof KINDS;

/** Values of keys from here on are checked on opening. */
export const CHECKED_KEYS = Buffer.from(KINDS.deadLetter);

const U32 = 4;
const U64 = 8;

/** What follows the kind: topic (and subscription) as 32 bits, then numbers of 64 bits, then the rest as it is. */
export interface KeyParts {
  readonly ids?: readonly number[];
  readonly numbers?: readonly number[];
  readonly text?: string;
}

export function keyOf(kind: Kind, { ids = [], numbers = [], text = '' }: KeyParts): Buffer {
  const rest = Buffer.from(text);
  const key = Buffer.allocUnsafe(1 + U32 * ids.length + U64 * numbers.length + rest.length);
  key.write(KINDS[kind], 0, 'latin1');
  let at = 1;
  for (const id of ids) at = key.writeUInt32BE(id, at);
  for (const number of numbers) {
    writeU64(key, number, at);
    at += U64;
  }
  key.set(rest, at);
  return key;
}

export interface KeyShape {
  readonly ids: number;
  readonly numbers: number;
  readonly text?: boolean;
}

export interface ReadKey {
  readonly ids: readonly number[];
  readonly numbers: readonly number[];
  readonly text: string;
}

/** @throws FormatError when the key is not of this shape */
export function readKey(key: Buffer, { ids, numbers, text = false }: KeyShape): ReadKey {
  const length = 1 + U32 * ids + U64 * numbers;
  if (text ? key.length < length : key.length !== length) throw new FormatError('its key has the wrong length');
  return {
    ids: Array.from({ length: ids }, (_, index) => key.readUInt32BE(1 + U32 * index)),
    numbers: Array.from({ length: numbers }, (_, index) => readU64(key, 1 + U32 * ids + U64 * index)),
    text: key.toString('utf8', length),
  };
}

/** The first key behind all that begin with `prefix`. */
function behind(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let at = end.length - 1; at >= 0; at -= 1) {
    const byte = end[at] ?? 0;
    if (byte < 255) {
      end[at] = byte + 1;
      return end.subarray(0, at + 1);
    }
  }
  return end;
}

/** All keys of a kind, of a topic, of a subscription, whichever `ids` name. */
export function spanOf(kind: Kind, ids: readonly number[] = []): KeySpan {
  const from = keyOf(kind, { ids });
  return { from, until: behind(from) };
}

/** A batch lies at its last sequence: the first key at or behind a sequence is then that of the batch which holds it. */
export function batchKey(topicId: number, lastSequence: number): Buffer {
  return keyOf('batch', { ids: [topicId], numbers: [lastSequence] });
}

const DESCRIBED: Readonly<Partial<Record<string, string>>> = {
  A: 'the log itself',
  T: 'the settings',
  B: 'the bounds',
  S: 'a subscription',
  C: 'the position of a subscription',
  D: 'the count of dead letters',
  W: 'the count of delayed messages',
  R: 'a failed attempt',
  L: 'a replayed dead letter',
  P: 'a producer',
  X: 'a removal',
  0: 'messages',
  1: 'a dedupe id',
  2: 'a dead letter',
  3: 'a delayed message',
};

/** A key for people: what is stored there, and of which topic. */
export function describeKey(key: Buffer): string {
  const what = DESCRIBED[key.toString('latin1', 0, 1)];
  if (what === undefined) return key.toString('hex');
  if (key.length < 1 + U32) return what;
  const topic = `${what} of topic ${key.readUInt32BE(1)}`;
  return key[0] === KINDS.batch.charCodeAt(0) && key.length === 1 + U32 + U64
    ? `${topic} up to sequence ${key.readBigUInt64BE(1 + U32)}`
    : `${topic} (key ${key.toString('hex')})`;
}
