import { statfs } from 'node:fs/promises';
import { formatSize } from '../../kit/durations.js';
import { MusterError } from '../../kit/errors.js';

/** Archives on their way that are kept on the disk. Beyond it the one that has waited longest makes room. */
export const PARTS_MAX = 32;
/** Uploads being written at once. More are refused. */
export const UPLOADS_MAX = 16;
/** Kept free on the disk: the center's other state needs some to go on. */
export const ARCHIVES_FLOOR_BYTES = 128 * 1024 * 1024;
const RETRY_AFTER_MS = 10_000;

export interface RoomOptions {
  /** Where the archives are. */
  readonly directory: string;
  /** Default: what the file system says. */
  readonly freeBytes?: (path: string) => Promise<number>;
}

async function freeBytesOf(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** How much may be uploaded at once, and onto which rest of the disk. */
export class ArchiveRoom {
  readonly #directory: string;
  readonly #freeBytes: (path: string) => Promise<number>;
  /** Bytes that uploads under way still bring, by digest. */
  readonly #expected = new Map<string, number>();

  constructor({ directory, freeBytes = freeBytesOf }: RoomOptions) {
    this.#directory = directory;
    this.#freeBytes = freeBytes;
  }

  /**
   * Keeps room for the rest of an upload until the function it resolves with is called.
   * @throws exhausted when the disk has not so much to spare, or too many uploads are under way
   */
  async reserve(digest: string, bytes: number): Promise<() => void> {
    if (this.#expected.size >= UPLOADS_MAX) {
      const message = `${UPLOADS_MAX} uploads are under way: try again in a moment`;
      throw new MusterError('exhausted', message, { reason: 'UPLOADS_MAX', retryAfterMs: RETRY_AFTER_MS });
    }
    const others = [...this.#expected.values()].reduce((sum, expected) => sum + expected, 0);
    this.#expected.set(digest, bytes);
    const leave = (): void => {
      this.#expected.delete(digest);
    };
    try {
      const free = (await this.#freeBytes(this.#directory)) - others;
      if (free - bytes < ARCHIVES_FLOOR_BYTES) throw this.#full(free, bytes);
      return leave;
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** Which part must go so that there are no more than PARTS_MAX with that of `digest`; undefined: none. Those being written stay. */
  partToDrop(digest: string, parts: ReadonlyMap<string, { readonly sinceMs: number }>): string | undefined {
    if (parts.has(digest) || parts.size < PARTS_MAX) return undefined;
    return [...parts]
      .filter(([other]) => !this.#expected.has(other))
      .sort(([, a], [, b]) => a.sinceMs - b.sinceMs)
      .at(0)?.[0];
  }

  #full(free: number, bytes: number): MusterError {
    return new MusterError(
      'exhausted',
      `the disk of ${this.#directory} has ${formatSize(Math.max(free, 0))} free, of which ${formatSize(ARCHIVES_FLOOR_BYTES)} stay free, and ` +
        `${formatSize(bytes)} are to come: remove releases that are not needed or free some space, then push again`,
      { reason: 'DISK_ALMOST_FULL', retryAfterMs: RETRY_AFTER_MS },
    );
  }
}
