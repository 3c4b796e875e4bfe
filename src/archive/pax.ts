import { refusedArchive, shown } from './names.js';

/** What pax records say of an entry that matters here. */
export interface PaxFields {
  readonly path?: string;
  readonly target?: string;
  readonly sizeBytes?: number;
}

const SPACE = 0x20;
const NEWLINE = 0x0a;
const LENGTH_DIGITS_MAX = 10;

/**
 * Reads the records of a pax extended header, `LENGTH KEY=VALUE\n` each (POSIX pax). Keys that change nothing of what is unpacked here, times and
 * owners and extended attributes among them, are passed over.
 * @throws invalid for records that are not such, for sparse files, and for a path, link or size that is said twice
 */
export function readPax(bytes: Buffer): PaxFields {
  const fields = new Map<string, string>();
  for (let at = 0; at < bytes.length;) {
    const record = recordAt(bytes, at);
    const equals = record.indexOf('=');
    if (equals < 1) throw damaged();
    remember(fields, record.toString('utf8', 0, equals), record.toString('utf8', equals + 1, record.length - 1));
    at += record.length + lengthText(bytes, at).length + 1;
  }
  const path = fields.get('path');
  const target = fields.get('linkpath');
  const size = fields.get('size');
  if (size !== undefined && !/^\d{1,16}$/.test(size)) throw damaged();
  return {
    ...(path === undefined ? {} : { path }),
    ...(target === undefined ? {} : { target }),
    ...(size === undefined ? {} : { sizeBytes: Number(size) }),
  };
}

function remember(fields: Map<string, string>, key: string, value: string): void {
  if (key.startsWith('GNU.sparse')) throw refusedArchive('it holds a sparse file: pack without --sparse');
  if (key === 'hdrcharset') throw refusedArchive('its names are not in UTF-8');
  if (!['path', 'linkpath', 'size'].includes(key)) return;
  if (fields.has(key)) throw refusedArchive(`it says the ${shown(key)} of an entry twice`);
  if (value === '' || value.includes('\0')) throw refusedArchive(`it says a ${shown(key)} that is none`);
  fields.set(key, value);
}

function lengthText(bytes: Buffer, at: number): string {
  const space = bytes.indexOf(SPACE, at);
  if (space < 0 || space - at > LENGTH_DIGITS_MAX) throw damaged();
  return bytes.toString('latin1', at, space);
}

/** From behind the length's space to the newline, that included. */
function recordAt(bytes: Buffer, at: number): Buffer {
  const digits = lengthText(bytes, at);
  const end = at + Number.parseInt(digits, 10);
  const start = at + digits.length + 1;
  if (!/^[1-9]\d*$/.test(digits) || end <= start || end > bytes.length || bytes[end - 1] !== NEWLINE) throw damaged();
  return bytes.subarray(start, end);
}

function damaged(): Error {
  return refusedArchive('it holds pax records that are none: it is damaged. Make it again');
}
