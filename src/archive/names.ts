import { MusterError } from '../kit/errors.js';
import { NAME_BYTES_MAX, type ArchiveLimits } from './limits.js';

/** Names in archives come from strangers: what they may be, and how they are shown. */

const SHOWN_CHARACTERS_MAX = 200;

/** Control characters, what turns the direction of text, line separators, and what stands for bytes that are not UTF-8. */
const UNPRINTABLE = /[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffd]/u;

/** A name for a message: quoted, on one line, with nothing a terminal would act on. */
export function shown(name: string): string {
  const clipped = name.length > SHOWN_CHARACTERS_MAX ? `${name.slice(0, SHOWN_CHARACTERS_MAX)}...` : name;
  return `"${clipped.replace(/["\\]|[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, escaped)}"`;
}

function escaped(character: string): string {
  if (character === '"' || character === '\\') return `\\${character}`;
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

/** What is wrong with an archive as a whole. */
export function refusedArchive(what: string): MusterError {
  return new MusterError('invalid', `the archive is refused: ${what}`, { reason: 'ARCHIVE' });
}

/** What is wrong with one of its entries. */
export function refused(path: string, what: string): MusterError {
  return new MusterError('invalid', `the archive is refused: its entry ${shown(path)} ${what}`, {
    reason: 'ARCHIVE',
    metadata: { entry: shown(path) },
  });
}

/** Whose names are read: a stranger's must be such as people can read; a machine's own files are called as they are. */
export type NameRule = 'readable' | 'any';

/**
 * The components of an entry's path, none for the root itself (`./`). A leading `./` and trailing slashes are left off.
 * @throws invalid naming the path
 */
export function pathParts(raw: string, limits: ArchiveLimits, rule: NameRule = 'readable'): readonly string[] {
  const path = raw.replace(/^(\.\/+)+/, '').replace(/\/+$/, '');
  if (raw.startsWith('/')) throw refused(raw, 'has an absolute path');
  if (raw === '') throw refusedArchive('an entry of it has no name');
  if (path === '' || path === '.') return [];
  checkCharacters(raw, path, rule);
  if (Buffer.byteLength(path) > limits.pathBytesMax) {
    throw refused(raw, `has a path of more than ${limits.pathBytesMax} bytes`);
  }
  const parts = path.split('/');
  if (parts.length > limits.depthMax) throw refused(raw, `is more than ${limits.depthMax} directories deep`);
  for (const part of parts) checkPart(raw, part);
  return parts;
}

/** @throws invalid for a link's target with characters that names may not have */
export function checkCharacters(entry: string, text: string, rule: NameRule): void {
  if (text.includes('\0')) throw refused(entry, 'has a NUL in its name');
  if (text.includes('\ufffd') && rule === 'any') throw refused(entry, 'has a name that is not UTF-8');
  if (rule === 'readable' && UNPRINTABLE.test(text)) {
    throw refused(
      entry,
      'has control characters, characters that turn the direction of text, or bytes that are not UTF-8 in its name',
    );
  }
}

function checkPart(raw: string, part: string): void {
  if (part === '..') throw refused(raw, 'leads outside with ".."');
  if (part === '' || part === '.') throw refused(raw, 'has an empty or "." component in its path');
  if (Buffer.byteLength(part) > NAME_BYTES_MAX) throw refused(raw, `has a name of more than ${NAME_BYTES_MAX} bytes`);
}
