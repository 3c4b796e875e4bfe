import {
  chmodSync,
  closeSync,
  fchmodSync,
  fchownSync,
  futimesSync,
  lchownSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Owner } from './jobs.js';
import type { TarEntry } from './tar-reader.js';
import type { TreeTarget } from './tree-read.js';
import { Selection } from './tree-selection.js';

/**
 * Writes what a backup holds below a directory that is there, empty, and closed to all others until its own end is told. Every path is below
 * directories that this made itself, so that no link of the archive is ever followed.
 */
export class Restored implements TreeTarget {
  readonly #into: string;
  readonly #owner: Owner | undefined;
  readonly #selection: Selection;
  readonly #named: Map<string, boolean>;
  #file: { readonly descriptor: number; readonly entry: TarEntry } | undefined;
  #files = 0;
  #contentBytes = 0;

  /** `paths` are clean, relative to the root; none: all. */
  constructor(
    into: string,
    { paths, owner }: { readonly paths: readonly string[]; readonly owner: Owner | undefined },
  ) {
    this.#into = into;
    this.#owner = owner;
    this.#selection = paths.length === 0 ? Selection.everything() : Selection.of(paths);
    this.#named = new Map(paths.map((path) => [path, false]));
  }

  get files(): number {
    return this.#files;
  }

  get contentBytes(): number {
    return this.#contentBytes;
  }

  /** Of the paths that were asked for. */
  get missing(): readonly string[] {
    return [...this.#named].filter(([, found]) => !found).map(([path]) => path);
  }

  entry(entry: TarEntry, parts: readonly string[]): void {
    const path = parts.join('/');
    if (this.#named.has(path)) this.#named.set(path, true);
    const selection = this.#selection.at(parts);
    if (!selection || parts.length === 0) return;
    const at = join(this.#into, path);
    if (entry.type === 'directory') mkdirSync(at, { mode: 0o700 });
    else if (!selection.all) return;
    else if (entry.type === 'symlink') this.#link(entry, at);
    else this.#file = { descriptor: openSync(at, 'wx', 0o600), entry };
  }

  data(bytes: Buffer): void {
    if (!this.#file) return;
    for (let written = 0; written < bytes.length;) written += writeSync(this.#file.descriptor, bytes, written);
  }

  fileEnd(): void {
    if (!this.#file) return;
    const { descriptor, entry } = this.#file;
    const owner = this.#ownerOf(entry);
    if (owner) fchownSync(descriptor, owner.uid, owner.gid);
    // After the owner: a change of owner takes set-user-ID away.
    fchmodSync(descriptor, entry.mode);
    futimesSync(descriptor, entry.mtimeS, entry.mtimeS);
    this.close();
    this.#files += 1;
    this.#contentBytes += entry.sizeBytes;
  }

  leave(entry: TarEntry, parts: readonly string[]): void {
    if (!this.#selection.at(parts)) return;
    const at = join(this.#into, parts.join('/'));
    const owner = this.#ownerOf(entry);
    if (owner) lchownSync(at, owner.uid, owner.gid);
    chmodSync(at, entry.mode);
    utimesSync(at, entry.mtimeS, entry.mtimeS);
  }

  /** Nothing where no file is open. */
  close(): void {
    if (this.#file) closeSync(this.#file.descriptor);
    this.#file = undefined;
  }

  #link(entry: TarEntry, at: string): void {
    symlinkSync(entry.target, at);
    const owner = this.#ownerOf(entry);
    if (owner) lchownSync(at, owner.uid, owner.gid);
    lutimesSync(at, entry.mtimeS, entry.mtimeS);
  }

  /** Undefined: who runs this owns it. */
  #ownerOf({ uid, gid }: TarEntry): Owner | undefined {
    return this.#owner ?? (process.geteuid?.() === 0 ? { uid, gid } : undefined);
  }
}
