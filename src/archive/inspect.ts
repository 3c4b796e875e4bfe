import { Contents } from './contents.js';
import { uncompressed } from './gunzip.js';
import { RELEASE_LIMITS, type ArchiveLimits } from './limits.js';
import { TarReader, type TarEntry, type TarSink } from './tar-reader.js';
import { Texts } from './texts.js';

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

/**
 * Reads a whole archive, in bounded memory, without writing anything.
 * @throws invalid naming the entry and what is wrong, not_found when there is no such file, the signal's reason
 */
export async function inspectArchive(path: string, options: InspectOptions = {}): Promise<Inspected> {
  const { limits = RELEASE_LIMITS, texts = [], forbidden = [], signal } = options;
  const contents = new Contents({ limits, forbidden });
  const wanted = new Texts(texts);
  const reader = new TarReader(new Looked(contents, wanted));
  for await (const piece of uncompressed(path, limits, { signal })) reader.push(piece);
  reader.end();
  contents.finish();
  return {
    files: contents.files,
    unpackedBytes: contents.unpackedBytes,
    texts: wanted.found,
    has: (name) => contents.has(name),
    isDirectory: (name) => contents.isDirectory(name),
  };
}

/** Checks all entries. */
class Looked implements TarSink {
  readonly #contents: Contents;
  readonly #texts: Texts;

  constructor(contents: Contents, texts: Texts) {
    this.#contents = contents;
    this.#texts = texts;
  }

  entry(raw: TarEntry): void {
    const accepted = this.#contents.add(raw);
    if (accepted) this.#texts.entry(accepted.entry);
  }

  data(bytes: Buffer): void {
    this.#texts.data(bytes);
  }

  fileEnd(): void {
    this.#texts.fileEnd();
  }
}
