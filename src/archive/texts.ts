import type { ContentEntry } from './contents.js';
import { refused } from './names.js';

export const TEXT_BYTES_MAX = 1_048_576;

/** Keeps the content of some files of an archive, at most TEXT_BYTES_MAX each. Told of everything that is accepted, in the archive's order. */
export class Texts {
  /** By path, those of the files wanted that are there. */
  readonly found = new Map<string, string>();
  readonly #paths: ReadonlySet<string>;
  #now: { readonly path: string; readonly pieces: Buffer[] } | undefined;

  constructor(paths: readonly string[]) {
    this.#paths = new Set(paths);
  }

  /** @throws invalid for a wanted file that is too large */
  entry(entry: ContentEntry): void {
    this.#now = undefined;
    if (entry.kind !== 'file' || !this.#paths.has(entry.path)) return;
    if (entry.sizeBytes > TEXT_BYTES_MAX) throw refused(entry.path, `is larger than ${TEXT_BYTES_MAX} bytes`);
    this.#now = { path: entry.path, pieces: [] };
  }

  data(bytes: Buffer): void {
    this.#now?.pieces.push(Buffer.from(bytes));
  }

  fileEnd(): void {
    if (this.#now) this.found.set(this.#now.path, Buffer.concat(this.#now.pieces).toString('utf8'));
    this.#now = undefined;
  }
}
