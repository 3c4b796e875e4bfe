import type { ArchiveLimits } from './limits.js';
import { checkCharacters, pathParts, refused, refusedArchive, type NameRule } from './names.js';
import type { TarEntry } from './tar-reader.js';

/** A link that leads through more than this many others leads round in a circle. */
const LINK_HOPS_MAX = 40;

/** Set-user-ID, set-group-ID and sticky. */
export const SPECIAL_BITS = 0o7000;

const TARGET_BYTES_MAX = 4095;

/** An entry that may be in a release: its path is clean and its parent is a directory of the archive. */
export type ContentEntry =
  | { readonly kind: 'file'; readonly path: string; readonly sizeBytes: number; readonly executable: boolean }
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string };

export interface Accepted {
  readonly entry: ContentEntry;
  /** Directories above it that the archive has not named, outermost first: to be made before it. */
  readonly missing: readonly string[];
}

/** 'implied': a directory that the archive has named only in the paths of others. */
type Known = 'file' | 'directory' | 'implied' | 'symlink';

export interface ContentsRules {
  readonly limits: ArchiveLimits;
  /** Paths that must not be there, nor anything below them. */
  readonly forbidden?: readonly string[];
  readonly names?: NameRule;
}

/**
 * What a release archive may hold: regular files, directories and symbolic links that stay inside, each path once. Takes the entries in their
 * order; nothing may be believed before finish() has returned, because where links lead is known only then.
 */
export class Contents {
  readonly #limits: ArchiveLimits;
  readonly #forbidden: readonly string[];
  readonly #names: NameRule;
  readonly #known = new Map<string, Known>();
  readonly #links = new Map<string, string>();
  #entries = 0;
  #files = 0;
  #unpackedBytes = 0;

  constructor({ limits, forbidden = [], names = 'readable' }: ContentsRules) {
    this.#limits = limits;
    this.#forbidden = forbidden;
    this.#names = names;
  }

  /** Files, directories and links, those that only paths imply included. */
  get entries(): number {
    return this.#known.size;
  }

  get files(): number {
    return this.#files;
  }

  /** Of the files, uncompressed. */
  get unpackedBytes(): number {
    return this.#unpackedBytes;
  }

  get links(): ReadonlyMap<string, string> {
    return this.#links;
  }

  /** Whether a file, directory or link of this path is there. */
  has(path: string): boolean {
    return this.#known.has(path);
  }

  /** Whether a directory of this path is there, or would be made for what is below it. */
  isDirectory(path: string): boolean {
    const known = this.#known.get(path);
    return known === 'directory' || known === 'implied';
  }

  /** Undefined for the root itself. @throws invalid naming the entry and what is wrong */
  add(raw: TarEntry): Accepted | undefined {
    this.#entries += 1;
    if (this.#entries > this.#limits.entriesMax) {
      throw refusedArchive(`it has more than ${this.#limits.entriesMax} entries`);
    }
    const parts = pathParts(raw.path, this.#limits, this.#names);
    if ((raw.mode & SPECIAL_BITS) !== 0) {
      throw refused(raw.path, 'is set-user-ID, set-group-ID or sticky: take that off with chmod before packing');
    }
    if (parts.length === 0) {
      if (raw.type !== 'directory') throw refused(raw.path, 'is called as the root, and is no directory');
      return undefined;
    }
    const path = parts.join('/');
    this.#checkForbidden(raw.path, path);
    const missing = this.#missing(raw.path, parts);
    const entry = contentEntry(raw, path, this.#names);
    this.#remember(raw.path, entry);
    for (const directory of missing) this.#known.set(directory, 'implied');
    return { entry, missing };
  }

  /** @throws invalid naming the first link that leads outside */
  finish(): void {
    for (const path of this.#links.keys()) this.#followLink(path);
  }

  #checkForbidden(raw: string, path: string): void {
    const hit = this.#forbidden.find((name) => path === name || path.startsWith(`${name}/`));
    if (hit !== undefined) throw refused(raw, `must not be in it: ${hit} is made by the machine`);
  }

  #missing(raw: string, parts: readonly string[]): readonly string[] {
    const missing: string[] = [];
    let path = '';
    for (const part of parts.slice(0, -1)) {
      path = path === '' ? part : `${path}/${part}`;
      const known = this.#known.get(path);
      if (known === undefined) missing.push(path);
      else if (known === 'file') throw refused(raw, 'is below a file');
      else if (known === 'symlink') throw refused(raw, 'is below a symbolic link');
    }
    return missing;
  }

  #remember(raw: string, entry: ContentEntry): void {
    const known = this.#known.get(entry.path);
    const again = known !== undefined && !(known === 'implied' && entry.kind === 'directory');
    if (again) throw refused(raw, known === 'implied' ? 'has others below it, and is no directory' : 'is in it twice');
    this.#known.set(entry.path, entry.kind);
    if (entry.kind === 'symlink') this.#links.set(entry.path, entry.target);
    if (entry.kind !== 'file') return;
    this.#files += 1;
    this.#unpackedBytes += entry.sizeBytes;
    if (this.#unpackedBytes > this.#limits.unpackedBytesMax) {
      throw refusedArchive(`its files are more than ${this.#limits.unpackedBytesMax} bytes`);
    }
  }

  /** Walks a link as the kernel would. A name that is not in the archive may be anything later, so nothing may go up again after one. */
  #followLink(link: string): void {
    const at = link.split('/').slice(0, -1);
    const ahead = partsOf(this.#links.get(link) ?? '');
    let hops = 0;
    let known = true;
    for (let part = ahead.shift(); part !== undefined; part = ahead.shift()) {
      if (part === '..') {
        if (!known) throw refused(link, 'leads up again after a name that is not in the archive');
        if (at.length === 0) throw refused(link, 'is a symbolic link that leads outside');
        at.pop();
        continue;
      }
      at.push(part);
      const path = at.join('/');
      const next = this.#links.get(path);
      if (next === undefined) {
        known &&= this.isDirectory(path);
        continue;
      }
      hops += 1;
      if (hops > LINK_HOPS_MAX) throw refused(link, 'is a symbolic link that leads round in a circle');
      at.pop();
      ahead.unshift(...partsOf(next));
    }
  }
}

function partsOf(target: string): string[] {
  return target.split('/').filter((part) => part !== '' && part !== '.');
}

function contentEntry(raw: TarEntry, path: string, names: NameRule): ContentEntry {
  switch (raw.type) {
    case 'file':
      return { kind: 'file', path, sizeBytes: raw.sizeBytes, executable: (raw.mode & 0o100) !== 0 };
    case 'directory':
      return { kind: 'directory', path };
    case 'symlink':
      checkTarget(raw.path, raw.target, names);
      return { kind: 'symlink', path, target: raw.target };
  }
}

function checkTarget(path: string, target: string, names: NameRule): void {
  if (target === '') throw refused(path, 'is a symbolic link to nothing');
  if (target.startsWith('/')) throw refused(path, 'is a symbolic link to an absolute path');
  if (Buffer.byteLength(target) > TARGET_BYTES_MAX)
    throw refused(path, 'is a symbolic link to a path that is too long');
  checkCharacters(path, target, names);
}
