import { statfs } from 'node:fs/promises';
import type { Clock } from '../kit/clock.js';
import { formatSize } from '../kit/durations.js';
import { MusterError, messageOf } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import type { Room } from './engine.js';

const RETRY_AFTER_MS = 5000;
/** With this many times the floor free, the file system is asked again only after ASK_EVERY_MS: no disk fills the difference in that time. */
const PLENTY_FLOORS = 4;
const ASK_EVERY_MS = 100;

/** Bytes that this process may still write to the file system of `path`. */
export async function freeBytesOf(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

export interface FloorOptions {
  readonly path: string;
  /** Bytes kept free. Recovery after a crash writes up to one write buffer before it frees anything, so keep at least two of them. */
  readonly floorBytes: number;
  readonly freeBytes: (path: string) => Promise<number>;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Refuses writes before the disk is full, because a LevelDB whose write failed with ENOSPC acknowledges later writes and loses them. */
export class FreeSpaceFloor {
  readonly #options: FloorOptions;
  #refusing = false;
  #asked = { atMs: -Infinity, free: 0 };

  constructor(options: FloorOptions) {
    this.#options = options;
  }

  /** @throws unavailable when the file system cannot be asked */
  async room(): Promise<Room> {
    const { path, floorBytes, logger } = this.#options;
    if (floorBytes === 0) return { puts: Infinity, deletes: Infinity, refusal: () => this.#refusal(Infinity) };
    const free = await this.#free();
    if (this.#refusing && free > floorBytes) {
      this.#refusing = false;
      logger.info('there is disk space again, writes are accepted', { path, freeBytes: free, floorBytes });
    }
    return { puts: free - floorBytes, deletes: free - floorBytes / 2, refusal: () => this.#refusal(free) };
  }

  async #free(): Promise<number> {
    const { floorBytes, clock } = this.#options;
    const { atMs, free } = this.#asked;
    if (free < PLENTY_FLOORS * floorBytes) await this.#refresh();
    else if (clock.monotonic() - atMs > ASK_EVERY_MS) this.#refreshBeside();
    return this.#asked.free;
  }

  async #refresh(): Promise<void> {
    const atMs = this.#options.clock.monotonic();
    this.#asked = { atMs, free: await this.#ask() };
  }

  /** Nobody waits for the answer; one that cannot be had is asked for again by whoever writes next. */
  #refreshBeside(): void {
    this.#asked = { ...this.#asked, atMs: this.#options.clock.monotonic() };
    this.#refresh().catch(() => {
      this.#asked = { atMs: -Infinity, free: 0 };
    });
  }

  async #ask(): Promise<number> {
    const { path, freeBytes } = this.#options;
    try {
      return await freeBytes(path);
    } catch (error) {
      throw new MusterError(
        'unavailable',
        `the disk of ${path} does not say its free space (${messageOf(error)}): check the disk, then retry`,
        {
          cause: error,
        },
      );
    }
  }

  #refusal(free: number): MusterError {
    const { path, floorBytes, logger } = this.#options;
    if (!this.#refusing) {
      this.#refusing = true;
      logger.error('the disk is almost full, writes are refused', { path, freeBytes: free, floorBytes });
    }
    return new MusterError(
      'exhausted',
      `the disk of ${path} has ${formatSize(free)} free, and ${formatSize(floorBytes)} are kept free for recovery: ` +
        'free some space, writes then work again by themselves',
      {
        reason: 'DISK_ALMOST_FULL',
        retryAfterMs: RETRY_AFTER_MS,
        metadata: { freeBytes: String(free), floorBytes: String(floorBytes) },
      },
    );
  }
}
