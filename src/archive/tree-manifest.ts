import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import type { TarEntry } from './tar-reader.js';

/** The last entry of a backup: one line of JSON for each entry before it, in the same order, and one for all of them. */
export const MANIFEST_NAME = '.muster-backup.jsonl';

const FORMAT = 1;
const SPOOL_BYTES = 65_536;

/** Of a line's SHA-256 that is kept until the manifest comes. */
const MARK_BYTES = 16;
const MARKS_AT_FIRST = 1024;

export interface TreeCounts {
  readonly entries: number;
  readonly files: number;
  readonly contentBytes: number;
}

/** `sha256` of a file's content; undefined for what has none. */
export function manifestLine(entry: TarEntry, sha256: string | undefined): string {
  const { type, mode, uid, gid, mtimeS, sizeBytes } = entry;
  const path = entry.path.replace(/^\.\/(?=.)/, '').replace(/(?<=.)\/$/, '');
  const common = { path, type, mode, uid, gid, mtime: mtimeS };
  if (type === 'symlink') return JSON.stringify({ ...common, target: entry.target });
  return JSON.stringify(type === 'file' ? { ...common, size: sizeBytes, sha256 } : common);
}

export function summaryLine({ entries, files, contentBytes }: TreeCounts): string {
  return JSON.stringify({ musterBackup: FORMAT, entries, files, bytes: contentBytes });
}

/** The path that a line of a manifest is about, for people; undefined where it says none. */
export function pathIn(line: string): string | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== 'object' || value === null || !('path' in value)) return undefined;
    return typeof value.path === 'string' ? value.path : undefined;
  } catch {
    return undefined;
  }
}

/** A manifest that is being written: in a file until it can be the last entry, so that a backup of any number of files takes no more memory. */
export class ManifestSpool {
  readonly #file: number;
  #waiting = '';
  #sizeBytes = 0;

  constructor(path: string) {
    this.#file = openSync(path, 'w+', 0o600);
  }

  add(line: string): void {
    this.#waiting += `${line}\n`;
    if (this.#waiting.length >= SPOOL_BYTES) this.#write();
  }

  /** Of what was added. */
  get sizeBytes(): number {
    this.#write();
    return this.#sizeBytes;
  }

  *pieces(): Generator<Buffer> {
    this.#write();
    const buffer = Buffer.allocUnsafe(SPOOL_BYTES);
    for (let at = 0; at < this.#sizeBytes;) {
      const read = readSync(this.#file, buffer, 0, SPOOL_BYTES, at);
      if (read === 0) return;
      at += read;
      yield buffer.subarray(0, read);
    }
  }

  close(): void {
    closeSync(this.#file);
  }

  #write(): void {
    const bytes = Buffer.from(this.#waiting);
    this.#waiting = '';
    for (let written = 0; written < bytes.length;) {
      written += writeSync(this.#file, bytes, written, bytes.length - written, this.#sizeBytes + written);
    }
    this.#sizeBytes += bytes.length;
  }
}

/** Lines in their order, each by MARK_BYTES of its hash: millions of them fit into memory, and what a line says can still be compared. */
export class LineMarks {
  #marks = Buffer.alloc(MARKS_AT_FIRST * MARK_BYTES);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(line: string): void {
    if ((this.#count + 1) * MARK_BYTES > this.#marks.length) {
      this.#marks = Buffer.concat([this.#marks, Buffer.alloc(this.#marks.length)]);
    }
    markOf(line).copy(this.#marks, this.#count * MARK_BYTES);
    this.#count += 1;
  }

  /** Whether the line of this place, counted from 0, is this one. */
  is(index: number, line: string): boolean {
    const at = index * MARK_BYTES;
    return index < this.#count && this.#marks.subarray(at, at + MARK_BYTES).equals(markOf(line));
  }
}

function markOf(line: string): Buffer {
  return createHash('sha256').update(line).digest().subarray(0, MARK_BYTES);
}
