/**
 * The bytes in LevelDB, specified in docs/store-format.md:
 *   "d" + key  ->  crc32 (u32 LE) | revision (u64 LE) | value       crc32 over key | revision | value
 *   "m"        ->  crc32 (u32 LE) | JSON of Meta                    crc32 over "m" | JSON
 */
import { crc32 } from 'node:zlib';
import { MusterError, messageOf } from '../kit/errors.js';
import type { Existing, Final } from './engine.js';
import type { Entry } from './port.js';
import { newerData } from './schema.js';

/** The format of the bytes; the schema's version is the owner's, this one is ours. */
export const FORMAT = 1;
export const DATA_PREFIX = Buffer.from('d');
export const META_KEY = Buffer.from('m');

const CRC_BYTES = 4;
const HEADER_BYTES = 12;
const RESTORE = 'stop this process and restore the data directory from a backup';

/** Written in every batch: what the whole store must look like. */
export interface Meta {
  readonly format: number;
  readonly schema: string;
  readonly version: number;
  /** Of the newest batch. */
  readonly revision: number;
  readonly digest: Digest;
}

/**
 * A fingerprint of all live records that can be kept up to date record by record. It shows what checksums alone cannot:
 * a record that vanished, or an older one that came back.
 */
export interface Digest {
  readonly entries: number;
  /** Sum over all records of (crc32 * 2^20 + revision mod 2^20), modulo 2^52. */
  readonly sum: number;
}

export const EMPTY_DIGEST: Digest = { entries: 0, sum: 0 };

const REVISION_MODULUS = 2 ** 20;
const SUM_MODULUS = 2 ** 52;

function termOf({ revision, mark }: Existing): number {
  return mark * REVISION_MODULUS + (revision % REVISION_MODULUS);
}

export function withRecord(digest: Digest, record: Existing): Digest {
  return { entries: digest.entries + 1, sum: (digest.sum + termOf(record)) % SUM_MODULUS };
}

export function withoutRecord(digest: Digest, record: Existing): Digest {
  return { entries: digest.entries - 1, sum: (digest.sum - termOf(record) + SUM_MODULUS) % SUM_MODULUS };
}

export function dataKey(key: string): Buffer {
  return Buffer.concat([DATA_PREFIX, Buffer.from(key)]);
}

export interface EncodedRecord {
  readonly bytes: Buffer;
  readonly mark: number;
}

export function encodeRecord({ key, value, revision }: Final & { readonly value: Uint8Array }): EncodedRecord {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + value.length);
  bytes.writeBigUInt64LE(BigInt(revision), CRC_BYTES);
  bytes.set(value, HEADER_BYTES);
  const mark = crc32(bytes.subarray(CRC_BYTES), crc32(key));
  bytes.writeUInt32LE(mark, 0);
  return { bytes, mark };
}

/** A LevelDB key for people: our key where it is one. */
export function describeKey(stored: Buffer): string {
  return stored[0] === DATA_PREFIX[0]
    ? JSON.stringify(stored.toString('utf8', DATA_PREFIX.length))
    : stored.toString('latin1');
}

/** The error for stored bytes that are not what was written. Never repaired silently. */
export function damaged(path: string, what: string, cause?: unknown): MusterError {
  return new MusterError('data_loss', `${path} is damaged: ${what}. Nothing was repaired; ${RESTORE}`, {
    reason: 'DATA_DAMAGED',
    ...(cause === undefined ? {} : { cause }),
  });
}

function damagedKey(path: string, key: string, what: string): MusterError {
  return new MusterError(
    'data_loss',
    `${path} is damaged: the value of key ${JSON.stringify(key)} ${what}. Nothing was repaired; ${RESTORE}`,
    {
      reason: 'DATA_DAMAGED',
      metadata: { key },
    },
  );
}

/** @throws data_loss when the checksum does not hold */
export function decodeRecord(path: string, key: string, bytes: Uint8Array): Entry & Existing {
  if (bytes.length < HEADER_BYTES) throw damagedKey(path, key, `has only ${bytes.length} bytes`);
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const mark = view.readUInt32LE(0);
  if (mark !== crc32(view.subarray(CRC_BYTES), crc32(key))) throw damagedKey(path, key, 'does not match its checksum');
  const revision = Number(view.readBigUInt64LE(CRC_BYTES));
  return {
    key,
    value: new Uint8Array(bytes.buffer, bytes.byteOffset + HEADER_BYTES, bytes.length - HEADER_BYTES),
    revision,
    mark,
  };
}

/** The key inside a LevelDB key. @throws data_loss when it is not one we can have written */
export function keyOf(path: string, stored: Buffer): string {
  const key = stored.toString('utf8', DATA_PREFIX.length);
  if (stored[0] !== DATA_PREFIX[0] || !dataKey(key).equals(stored)) {
    throw damaged(path, `it holds a key that was never written (${stored.toString('hex')})`);
  }
  return key;
}

export function encodeMeta(meta: Meta): Buffer {
  const json = Buffer.from(JSON.stringify(meta));
  const bytes = Buffer.allocUnsafe(CRC_BYTES + json.length);
  bytes.set(json, CRC_BYTES);
  bytes.writeUInt32LE(crc32(json, crc32(META_KEY)), 0);
  return bytes;
}

/** @throws data_loss; precondition when a newer version wrote it */
export function decodeMeta(path: string, bytes: Uint8Array): Meta {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const json = view.subarray(CRC_BYTES);
  if (view.length < CRC_BYTES || view.readUInt32LE(0) !== crc32(json, crc32(META_KEY))) {
    throw damaged(path, 'its own record ("m") does not match its checksum');
  }
  let meta: Meta;
  try {
    meta = JSON.parse(json.toString()) as Meta;
  } catch (error) {
    throw damaged(path, `its own record ("m") is not JSON (${messageOf(error)})`);
  }
  if (meta.format > FORMAT) throw newerData(path, `format ${meta.format}`, FORMAT);
  return meta;
}
