import { Header } from 'tar/header';
import { BLOCK_BYTES, paddingOf, type TarEntry } from './tar-reader.js';

/** What one header of tar takes; longer, and names that are not ASCII, are said in pax records before it. */
const NAME_BYTES_MAX = 99;

const LETTERS = { file: '0', symlink: '2', directory: '5' } as const;

/** The blocks that precede an entry's content. */
export function headerOf(entry: TarEntry): Buffer {
  const path = entry.type === 'directory' ? `${entry.path}/` : entry.path;
  const records = [...record('linkpath', entry.target), ...record('path', path)].join('');
  const header = block(entry, path);
  if (records === '') return header;
  const body = Buffer.from(records);
  const about = { ...entry, type: 'file', target: '', sizeBytes: body.length, mode: 0o644 } as const;
  return Buffer.concat([block(about, 'PaxHeader', 'x'), body, padding(body.length), header]);
}

/** What follows content of so many bytes. */
export function padding(sizeBytes: number): Buffer {
  return Buffer.alloc(paddingOf(sizeBytes));
}

function block(entry: TarEntry, path: string, letter: '0' | '2' | '5' | 'x' = LETTERS[entry.type]): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  const { mode, uid, gid } = entry;
  const header = new Header({
    path,
    mode,
    uid,
    gid,
    size: entry.sizeBytes,
    linkpath: entry.target,
    mtime: new Date(entry.mtimeS * 1000),
  });
  header.type = letter;
  header.encode(bytes);
  return bytes;
}

/** One pax record, its own length included, where a header does not hold the value. */
function record(key: string, value: string): string[] {
  const bytes = Buffer.byteLength(value);
  if (bytes <= NAME_BYTES_MAX && bytes === value.length) return [];
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length = rest + String(length).length;
  return [`${length} ${key}=${value}\n`];
}
