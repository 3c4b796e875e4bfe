import { Contents } from './contents.js';
import { uncompressed } from './gunzip.js';
import { RELEASE_LIMITS, type ArchiveLimits } from './limits.js';
import { refused } from './names.js';
import { TarReader, type TarSink } from './tar-reader.js';

export interface Inspected {
  readonly files: number;
  readonly unpackedBytes: number;
  /** By path, those of the files asked for that are there. */
  readonly texts: ReadonlyMap<string, string>;
  /** Whether a file, directory or link of this path is in the archive. */
  has(path: string): boolean;
  isDirectory(path: string): boolean;
}

export interface InspectOptions {
  readonly limits?: ArchiveLimits | undefined;
  /** Files whose content is wanted, at most TEXT_BYTES_MAX each. */
  readonly texts?: readonly string[];
  /** Paths that must not be in the archive, nor anything below them. */
  readonly forbidden?: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

export const TEXT_BYTES_MAX = 1_048_576;

/**
 * Reads a whole archive, in bounded memory, without writing anything.
 * @throws invalid naming the entry and what is wrong, not_found when there is no such file, the signal's reason
 */
export async function inspectArchive(path: string, options: InspectOptions = {}): Promise<Inspected> {
  const { limits = RELEASE_LIMITS, texts = [], forbidden = [], signal } = options;
  const contents = new Contents({ limits, forbidden });
  const wanted = new WantedTexts(contents, texts);
  const reader = new TarReader(wanted);
  for await (const piece of uncompressed(path, limits, { signal })) reader.push(piece);
  reader.end();
  contents.finish();
  return {
    files: contents.files,
    unpackedBytes: contents.unpackedBytes,
    texts: wanted.texts,
    has: (name) => contents.has(name),
    isDirectory: (name) => contents.isDirectory(name),
  };
}

/** Keeps the content of some files, and checks all entries. */
class WantedTexts implements TarSink {
  readonly texts = new Map<string, string>();
  readonly #contents: Contents;
  readonly #paths: ReadonlySet<string>;
  #now: { readonly path: string; readonly pieces: Buffer[] } | undefined;

  constructor(contents: Contents, paths: readonly string[]) {
    this.#contents = contents;
    this.#paths = new Set(paths);
  }

  entry(raw: Parameters<TarSink['entry']>[0]): void {
    const entry = this.#contents.add(raw)?.entry;
    this.#now = undefined;
    if (entry?.kind !== 'file' || !this.#paths.has(entry.path)) return;
    if (entry.sizeBytes > TEXT_BYTES_MAX) throw refused(raw.path, `is larger than ${TEXT_BYTES_MAX} bytes`);
    this.#now = { path: entry.path, pieces: [] };
  }

  data(bytes: Buffer): void {
    this.#now?.pieces.push(Buffer.from(bytes));
  }

  fileEnd(): void {
    if (this.#now) this.texts.set(this.#now.path, Buffer.concat(this.#now.pieces).toString('utf8'));
  }
}
