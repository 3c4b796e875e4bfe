import { createHash } from 'node:crypto';
import { isMap, ownValue, type ConfigValue, type ConfigValues } from './values.js';

/**
 * One text per value: JSON without spaces, the keys of maps in order of their UTF-16 units, numbers as ECMAScript writes them.
 * After RFC 8785 (JSON Canonicalization Scheme).
 */
export function canonicalJson(value: ConfigValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (!isMap(value)) return JSON.stringify(value);
  const pairs = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(ownValue(value, key) ?? null)}`);
  return `{${pairs.join(',')}}`;
}

/** SHA-256 of the canonical JSON, hex. */
export function hashValues(values: ConfigValues): string {
  return createHash('sha256').update(canonicalJson(values)).digest('hex');
}
