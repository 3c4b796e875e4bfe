import { crc32 } from 'node:zlib';
import { MusterError } from '../../kit/errors.js';
import { unreadablePosition } from '../../model/log-position.js';

/**
 * Where reading of a log file goes on. `offset` counts the bytes the service wrote to the file with this inode, whether they are in it, in
 * a rotated file or gone; marks do not count. The check tells bytes that are not the ones that were read: see docs/logs.md.
 */
export interface FilePlace {
  readonly inode: number;
  readonly offset: number;
  readonly check: Check;
}

/** So many bytes before a place, and their sum; of no bytes where nothing is known of them. */
export interface Check {
  readonly bytes: number;
  readonly sum: number;
}

export const CHECK_BYTES_MAX = 64;
export const NO_CHECK: Check = { bytes: 0, sum: 0 };
const FILE_POSITION = /^f1:([0-9a-f]{1,8}):(\d{1,16}):(\d{1,16}):(\d{1,2}):([0-9a-f]{1,8})$/;

/** Of the last CHECK_BYTES_MAX of these bytes. */
export function checkOf(bytes: Buffer): Check {
  const last = bytes.subarray(Math.max(0, bytes.length - CHECK_BYTES_MAX));
  return { bytes: last.length, sum: crc32(last) };
}

/** Whether these bytes, which stand right before a place, are those of the check; true where there are too few to tell. */
export function fits(check: Check, before: Buffer): boolean {
  if (before.length < check.bytes) return true;
  return crc32(before.subarray(before.length - check.bytes)) === check.sum;
}

export function formatPosition(name: string, { inode, offset, check }: FilePlace): string {
  return `f1:${nameSum(name)}:${inode}:${offset}:${check.bytes}:${check.sum.toString(16)}`;
}

/** Reads back what formatPosition made for the log of this name. @throws invalid */
export function parsePosition(name: string, text: string): FilePlace {
  const [, sum, inode, offset, bytes, check] = FILE_POSITION.exec(text) ?? [];
  if (sum === undefined) throw unreadablePosition(text);
  if (sum !== nameSum(name)) {
    throw new MusterError(
      'invalid',
      `this is a position in another log than ${name}: name that log, or give no position`,
      {
        reason: 'POSITION',
      },
    );
  }
  const place = {
    inode: Number(inode),
    offset: Number(offset),
    check: { bytes: Number(bytes), sum: parseInt(check ?? '', 16) },
  };
  if (!Number.isSafeInteger(place.offset) || place.check.bytes > CHECK_BYTES_MAX) throw unreadablePosition(text);
  return place;
}

function nameSum(name: string): string {
  return crc32(name).toString(16);
}
