import { MusterError } from '../kit/errors.js';
import { readYaml, type Issue } from '../model/manifest-text.js';
import { isMap, type ConfigValue, type ConfigValues } from './values.js';

/** Largest document, in UTF-8 bytes. */
export const DOCUMENT_BYTES_MAX = 256 * 1024;
/** Mistakes named of one document. */
const MISTAKES_MAX = 20;

/**
 * The values of a document as people write it: YAML or JSON, a mapping. An empty text is an empty mapping.
 * @throws invalid with one field violation per mistake, each with line and column
 */
export function parseConfig(text: string): ConfigValues {
  const bytes = Buffer.byteLength(text);
  if (bytes > DOCUMENT_BYTES_MAX) {
    throw new MusterError(
      'invalid',
      `the document has ${bytes} bytes, the limit is ${DOCUMENT_BYTES_MAX}: keep large data in files`,
      { reason: 'DOCUMENT_TOO_LARGE' },
    );
  }
  if (text.trim() === '') return {};
  const read = readYaml(text, 'config');
  const mistakes = read.mistakes.length > 0 ? read.mistakes : read.locate(findIssues(read.value));
  if (mistakes.length > 0) {
    const named = mistakes.slice(0, MISTAKES_MAX);
    throw new MusterError('invalid', `the document cannot be used:\n${named.map((one) => one.text).join('\n')}`, {
      reason: 'DOCUMENT_INVALID',
      fields: named.map((one) => ({ field: one.field, description: one.text })),
    });
  }
  // A document of comments alone reads as null.
  return (read.value ?? {}) as ConfigValues;
}

/** What YAML can say and JSON cannot carry unchanged. */
function findIssues(value: unknown): Issue[] {
  if (value === null || value === undefined) return [];
  if (!isMap(value as ConfigValue)) {
    return [{ path: [], text: 'the document must be a mapping of keys to values, like "greeting: Hello"' }];
  }
  const issues: Issue[] = [];
  checkValue(value, [], issues);
  return issues;
}

function checkValue(value: unknown, path: readonly PropertyKey[], issues: Issue[]): void {
  if (issues.length >= MISTAKES_MAX) return;
  if (Array.isArray(value)) {
    value.forEach((item, index) => {
      checkValue(item, [...path, index], issues);
    });
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, child] of Object.entries(value)) {
      if (!isWellFormed(key)) issues.push({ path: [...path, key], text: 'this key is not valid Unicode', atKey: true });
      checkValue(child, [...path, key], issues);
    }
  } else {
    const text = wrongScalar(value);
    if (text !== undefined) issues.push({ path, text });
  }
}

function wrongScalar(value: unknown): string | undefined {
  if (value === null || typeof value === 'boolean') return undefined;
  if (typeof value === 'string') return isWellFormed(value) ? undefined : 'this text is not valid Unicode';
  if (typeof value !== 'number') return 'expected text, a number, true, false, null, a list or a mapping';
  if (!Number.isFinite(value)) return 'this number is not finite: JSON cannot hold it';
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    return 'this whole number is too large to be held exactly: write it in quotes';
  }
  return undefined;
}

function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}
