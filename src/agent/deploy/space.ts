import { statfs } from 'node:fs/promises';
import { formatSize } from '../../kit/durations.js';
import { MusterError } from '../../kit/errors.js';

/** Kept free beside what is to be written: services and the agent itself write too. */
export const SPACE_FLOOR_BYTES = 256 * 1024 * 1024;
/** What a file takes beyond its content: half a block on the average, and its inode. */
const FILE_BYTES = 4096;

export interface SpaceOptions {
  readonly floorBytes: number;
  readonly freeBytes: (path: string) => Promise<number>;
}

export async function freeBytesOf(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** The room on the machine's disk, asked before anything large is written. */
export class Space {
  readonly #options: SpaceOptions;

  constructor(options: SpaceOptions) {
    this.#options = options;
  }

  /** @throws exhausted when `bytes` more, in `files` files, do not fit where `path` is */
  async require(path: string, what: string, { bytes, files = 1 }: { bytes: number; files?: number }): Promise<void> {
    const { floorBytes, freeBytes } = this.#options;
    const needed = bytes + files * FILE_BYTES;
    const free = await freeBytes(path);
    if (free - needed >= floorBytes) return;
    throw new MusterError(
      'exhausted',
      `there is no room for ${what}: it needs ${formatSize(needed)}, ${formatSize(free)} are free on the disk of ${path}, and ` +
        `${formatSize(floorBytes)} are kept free. Make room, then deploy again`,
      { reason: 'DISK_FULL' },
    );
  }
}
