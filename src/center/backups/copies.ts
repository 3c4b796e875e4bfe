import { createHash } from 'node:crypto';
import { open, readdir, rename, rm, stat, statfs, utimes, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../../kit/clock.js';
import { formatSize } from '../../kit/durations.js';
import { errnoOf, MusterError } from '../../kit/errors.js';
import { explainFullDisk, makeDirectory, syncDirectory } from '../../kit/files.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';

/** Largest copy. */
export const COPY_BYTES_MAX = 256 * 1024 * 1024 * 1024;
/** Copies being taken at once. More are refused, and come again. */
export const COPY_UPLOADS_MAX = 4;
/** Kept free on the disk: the center's other state needs some to go on. */
export const COPIES_FLOOR_BYTES = 512 * 1024 * 1024;
/** Of a message of a fetch. */
export const FETCH_CHUNK_BYTES = 64 * 1024;
/** Copies of which nobody knows the backup any more, as those of a machine that was removed, are kept so long, for people: it may be broken. */
export const ASIDE_KEPT_MS = 30 * 24 * 3_600_000;

const RETRY_AFTER_MS = 30_000;
const WHOLE = '.tar.gz';
const PART = '.part';
const ASIDE = 'removed';

export interface CopiesOptions {
  /** Absolute; made where it is missing. */
  readonly directory: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default: what the file system says. */
  readonly freeBytes?: (path: string) => Promise<number>;
}

export interface CopyOrder {
  readonly machine: string;
  readonly backup: string;
  /** SHA-256, 64 hexadecimal digits. */
  readonly digest: string;
  readonly sizeBytes: number;
}

async function freeBytesOf(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/**
 * Copies of backups on the center's disk: `MACHINE/BACKUP.tar.gz` is whole, `.part` is on its way and worth nothing after a break. A file gets its
 * final name only once it is synced and its digest was checked.
 */
export class BackupCopies {
  readonly #options: CopiesOptions;
  readonly #turns = new KeyedMutex();
  /** Bytes that uploads under way still bring, by copy. */
  readonly #expected = new Map<string, number>();
  /** Found without a backup when it was looked last. */
  #orphans: ReadonlySet<string> = new Set();

  private constructor(options: CopiesOptions) {
    this.#options = options;
  }

  /** @throws precondition when the directory cannot be made; system errors of a disk that cannot be read */
  static async open(options: CopiesOptions): Promise<BackupCopies> {
    const copies = new BackupCopies(options);
    await makeDirectory(join(options.directory, ASIDE), 0o700);
    await syncDirectory(dirname(options.directory));
    for (const { path } of await copies.#files(PART)) await rm(path, { force: true });
    return copies;
  }

  /**
   * Takes a copy; one that is there is replaced. Each chunk is on its way to the disk before the next is asked for. Resolves once it is durable.
   * @throws invalid for a size that is none and for more or fewer bytes than were announced; data_loss when they are not what the digest says;
   *   exhausted when the disk or a bound is full; what the chunks throw. Nothing of it is kept then
   */
  async receive(order: CopyOrder, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    assertSize(order.sizeBytes);
    const key = `${order.machine}/${order.backup}`;
    await this.#turns.run(key, async () => {
      await this.#reserve(key, order.sizeBytes);
      const path = this.#path(order.machine, order.backup, PART);
      try {
        await makeDirectory(dirname(path), 0o700);
        await this.#take(order, chunks, path);
      } catch (error) {
        await rm(path, { force: true });
        throw explainFullDisk(error, this.#options.directory);
      } finally {
        this.#expected.delete(key);
      }
    });
  }

  /**
   * The bytes of a copy from an offset on, in pieces of at most FETCH_CHUNK_BYTES, each with the size of the whole; one without bytes where none
   * are left.
   * @throws not_found when there is none; invalid for an offset behind its end
   */
  async *read(machine: string, backup: string, offset: number): AsyncGenerator<{ sizeBytes: number; data: Buffer }> {
    const handle = await this.#openCopy(machine, backup);
    try {
      const { size: sizeBytes } = await handle.stat();
      if (!(offset >= 0 && offset <= sizeBytes)) {
        throw new MusterError('invalid', `the copy has ${sizeBytes} bytes: ask for an offset from 0 to that`, {
          reason: 'OFFSET',
        });
      }
      if (offset === sizeBytes) yield { sizeBytes, data: Buffer.alloc(0) };
      for (let at = offset; at < sizeBytes;) {
        const piece = Buffer.allocUnsafeSlow(Math.min(FETCH_CHUNK_BYTES, sizeBytes - at));
        const { bytesRead } = await handle.read(piece, 0, piece.length, at);
        if (bytesRead === 0) throw new MusterError('data_loss', `the copy of backup ${backup} ended before its size`);
        at += bytesRead;
        yield { sizeBytes, data: piece.subarray(0, bytesRead) };
      }
    } finally {
      await handle.close();
    }
  }

  /** One that is not there is fine. Who reads it goes on reading. */
  async remove(machine: string, backup: string): Promise<void> {
    await this.#turns.run(`${machine}/${backup}`, () => rm(this.#path(machine, backup, WHOLE), { force: true }));
  }

  /**
   * Puts a copy aside for ASIDE_KEPT_MS: nobody said that the backup was removed, it is only not known any more, as of an agent that lost its own
   * state. One that is not there is fine.
   */
  async setAside(machine: string, backup: string): Promise<void> {
    await this.#turns.run(`${machine}/${backup}`, async () => {
      const aside = join(this.#options.directory, ASIDE, machine);
      const path = join(aside, backup + WHOLE);
      await makeDirectory(aside, 0o700);
      try {
        await rename(this.#path(machine, backup, WHOLE), path);
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return;
        throw error;
      }
      const nowS = this.#options.clock.now() / 1000;
      await utimes(path, nowS, nowS);
      this.#options.logger.info('a copy of a backup that is not known any more is kept for 30 days', { path });
    });
  }

  /** Puts what there is of a machine aside. */
  async machineRemoved(machine: string): Promise<void> {
    const own = (await this.#files(WHOLE)).filter((copy) => copy.machine === machine);
    for (const { backup } of own) await this.setAside(machine, backup);
    await rm(join(this.#options.directory, machine), { recursive: true, force: true });
  }

  /** Puts copies aside of which no backup was known twice in a row, and removes what was put aside long ago. */
  async collect(isKnown: (machine: string, backup: string) => boolean): Promise<void> {
    const found = (await this.#files(WHOLE)).filter(({ machine, backup }) => !isKnown(machine, backup));
    for (const { machine, backup, path } of found) {
      if (this.#orphans.has(path)) await this.setAside(machine, backup);
    }
    this.#orphans = new Set(found.map(({ path }) => path));
    const { directory, clock } = this.#options;
    for (const { path } of await this.#files(WHOLE, join(directory, ASIDE))) {
      if (clock.now() - (await stat(path)).mtimeMs > ASIDE_KEPT_MS) await rm(path, { force: true });
    }
  }

  #path(machine: string, backup: string, ending: string): string {
    return join(this.#options.directory, machine, backup + ending);
  }

  async #openCopy(machine: string, backup: string): Promise<FileHandle> {
    try {
      return await open(this.#path(machine, backup, WHOLE), 'r');
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      throw new MusterError('not_found', `the center has no copy of backup ${backup}`, { reason: 'COPY_UNKNOWN' });
    }
  }

  /** @throws exhausted */
  async #reserve(key: string, sizeBytes: number): Promise<void> {
    if (this.#expected.size >= COPY_UPLOADS_MAX) {
      const message = `${COPY_UPLOADS_MAX} copies are being taken: try again in a moment`;
      throw new MusterError('exhausted', message, { reason: 'UPLOADS_MAX', retryAfterMs: RETRY_AFTER_MS });
    }
    const others = [...this.#expected.values()].reduce((sum, bytes) => sum + bytes, 0);
    this.#expected.set(key, sizeBytes);
    try {
      const { directory, freeBytes = freeBytesOf } = this.#options;
      const free = (await freeBytes(directory)) - others;
      if (free - sizeBytes >= COPIES_FLOOR_BYTES) return;
      throw new MusterError(
        'exhausted',
        `the center's disk has ${formatSize(Math.max(free, 0))} free, of which ${formatSize(COPIES_FLOOR_BYTES)} stay free, and the copy of a ` +
          `backup has ${formatSize(sizeBytes)}: make room on it, or keep fewer backups`,
        { reason: 'DISK_ALMOST_FULL', retryAfterMs: RETRY_AFTER_MS },
      );
    } catch (error) {
      this.#expected.delete(key);
      throw error;
    }
  }

  async #take(order: CopyOrder, chunks: AsyncIterable<Uint8Array>, part: string): Promise<void> {
    const handle = await open(part, 'w', 0o600);
    try {
      const digest = await written(handle, order.sizeBytes, chunks);
      if (digest !== order.digest) {
        throw new MusterError('data_loss', 'what arrived is not what its digest says: send it again', {
          reason: 'DIGEST_MISMATCH',
        });
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(part, this.#path(order.machine, order.backup, WHOLE));
    await syncDirectory(dirname(part));
    await syncDirectory(this.#options.directory);
  }

  async #files(
    ending: string,
    directory = this.#options.directory,
  ): Promise<{ readonly machine: string; readonly backup: string; readonly path: string }[]> {
    const found = [];
    for (const machine of await readdir(directory)) {
      if (machine === ASIDE) continue;
      for (const name of await readdir(join(directory, machine))) {
        if (!name.endsWith(ending)) continue;
        found.push({ machine, backup: name.slice(0, -ending.length), path: join(directory, machine, name) });
      }
    }
    return found;
  }
}

/** @throws invalid, exhausted */
function assertSize(sizeBytes: number): void {
  if (!(sizeBytes > 0)) {
    throw new MusterError('invalid', 'size_bytes must be above 0: say it in the first message', {
      reason: 'UPLOAD_SIZE',
    });
  }
  if (sizeBytes <= COPY_BYTES_MAX) return;
  throw new MusterError('exhausted', `a copy has at most ${formatSize(COPY_BYTES_MAX)}: back up fewer paths`, {
    reason: 'COPY_SIZE',
  });
}

/** The SHA-256 of what was written. @throws invalid when it is not as much as was announced; what the chunks throw */
async function written(handle: FileHandle, sizeBytes: number, chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > sizeBytes) break;
    hash.update(chunk);
    await handle.writeFile(chunk);
  }
  if (bytes === sizeBytes) return hash.digest('hex');
  const message = `${bytes > sizeBytes ? 'more' : 'fewer'} bytes came than the ${sizeBytes} that were announced: send it again`;
  throw new MusterError('invalid', message, { reason: 'UPLOAD_SIZE' });
}
