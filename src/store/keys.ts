import { MusterError } from '../kit/errors.js';
import { KEY_BYTES_MAX, type KeyRange } from './port.js';

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}

/**
 * Orders keys by their UTF-8 bytes. JavaScript's own `<` orders by UTF-16 units, which puts U+10000 and above (surrogate pairs)
 * before U+E000 to U+FFFF; the bytes put them after.
 */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index += 1) {
    const left = a.charCodeAt(index);
    const right = b.charCodeAt(index);
    if (left !== right) {
      if (isSurrogate(left) !== isSurrogate(right)) return isSurrogate(left) ? 1 : -1;
      return left - right;
    }
  }
  return a.length - b.length;
}

/** Lone surrogates would all be stored as U+FFFD, so that two different keys would be one. */
function assertWellFormed(text: string, what: string): void {
  if (/\p{Surrogate}/u.test(text)) {
    throw new MusterError(
      'invalid',
      `${what} ${JSON.stringify(text)} has half of a surrogate pair: use well-formed Unicode text`,
    );
  }
}

/** @throws invalid when `key` is empty, longer than KEY_BYTES_MAX or not well-formed */
export function assertKey(key: string): void {
  if (key === '') throw new MusterError('invalid', 'a key must not be empty');
  const bytes = Buffer.byteLength(key);
  if (bytes > KEY_BYTES_MAX) {
    throw new MusterError(
      'invalid',
      `key "${key.slice(0, 40)}..." has ${bytes} bytes; the longest key allowed has ${KEY_BYTES_MAX}`,
    );
  }
  assertWellFormed(key, 'key');
}

/** @throws invalid */
export function assertPrefix(prefix: string): void {
  assertWellFormed(prefix, 'prefix');
}

/** @throws invalid */
export function assertRange(range: KeyRange): void {
  for (const bound of [range.prefix, range.after, range.before]) {
    if (bound !== undefined) assertWellFormed(bound, 'bound');
  }
  const { limit } = range;
  if (limit !== undefined && (!Number.isSafeInteger(limit) || limit < 0)) {
    throw new MusterError('invalid', `limit must be a whole number from 0, not ${limit}`);
  }
}

/** Whether `key` is within every bound of `range`; `limit` is not looked at. */
export function inRange(key: string, range: KeyRange): boolean {
  return (
    (range.prefix === undefined || key.startsWith(range.prefix)) &&
    (range.after === undefined || compareKeys(key, range.after) > 0) &&
    (range.before === undefined || compareKeys(key, range.before) < 0)
  );
}
