import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, type Clock } from '../../kit/clock.js';
import { formatSize } from '../../kit/durations.js';
import { errnoOf, MusterError } from '../../kit/errors.js';
import { makeDirectory, syncDirectory } from '../../kit/files.js';
import { freeBytesOf } from '../logs/space.js';

/** The archives below `backups/` in the agent's data directory: `NAME/ID.tar.gz`, and `NAME/.ID.tar.gz.new` while one is being written. */

const ENDING = '.tar.gz';
/** With what is written beside it meanwhile. */
const UNFINISHED = /^\..*\.new(?:\..*)?$/;
/** Backups leave so much of the disk free. */
export const FREE_BYTES_LEAST = 256 * 1_048_576;
const LOOK_EVERY_MS = 1000;

export interface BackupFilesOptions {
  /** Of the agent; absolute. */
  readonly dataDirectory: string;
  readonly clock: Clock;
  /** Free bytes where backups are. */
  readonly freeBytes?: (path: string) => Promise<number>;
}

export class BackupFiles {
  readonly #root: string;
  readonly #clock: Clock;
  readonly #freeBytes: (path: string) => Promise<number>;

  constructor({ dataDirectory, clock, freeBytes = freeBytesOf }: BackupFilesOptions) {
    this.#root = join(dataDirectory, 'backups');
    this.#clock = clock;
    this.#freeBytes = freeBytes;
  }

  path(service: string, id: string): string {
    return join(this.#root, service, `${id}${ENDING}`);
  }

  /** Removes what an earlier process left half written, and answers with the ids of the archives there are, by service. */
  async clean(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
    await makeDirectory(this.#root, 0o700);
    const found = new Map<string, Set<string>>();
    for (const service of await readdir(this.#root)) {
      const names = await readdir(join(this.#root, service)).catch(() => []);
      for (const name of names.filter((one) => UNFINISHED.test(one))) await rm(join(this.#root, service, name));
      const whole = names.filter((name) => name.endsWith(ENDING) && !name.startsWith('.'));
      found.set(service, new Set(whole.map((name) => name.slice(0, -ENDING.length))));
    }
    return found;
  }

  async has(service: string, id: string): Promise<boolean> {
    return (await lstat(this.path(service, id)).catch(() => undefined))?.isFile() ?? false;
  }

  /**
   * Has `write` make a new file and puts it in its place once it is whole and durable; on failure there is nothing. Its signal aborts when the
   * disk gets full. `write` fsyncs the file.
   * @throws exhausted when there is no room for `expectedBytes`, or none any more; what `write` throws
   */
  async make<T>(
    { service, id, expectedBytes }: { readonly service: string; readonly id: string; readonly expectedBytes: number },
    signal: AbortSignal,
    write: (path: string, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const directory = join(this.#root, service);
    await makeDirectory(directory, 0o700);
    await this.#checkRoom(directory, expectedBytes);
    const unfinished = join(directory, `.${id}${ENDING}.new`);
    const watch = new AbortController();
    const watching = this.#watchRoom(directory, watch);
    try {
      const result = await write(unfinished, AbortSignal.any([signal, watch.signal]));
      await rename(unfinished, this.path(service, id));
      await syncDirectory(directory);
      return result;
    } catch (error) {
      await rm(unfinished, { force: true });
      throw noSpace(error, directory);
    } finally {
      watch.abort();
      await watching;
    }
  }

  /** Resolves when the entry's end is durable. */
  async remove(service: string, id: string): Promise<void> {
    await rm(this.path(service, id), { force: true });
    await syncDirectory(join(this.#root, service)).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
  }

  async #checkRoom(directory: string, expectedBytes: number): Promise<void> {
    const needed = expectedBytes + FREE_BYTES_LEAST;
    const free = await this.#freeBytes(directory);
    if (free >= needed) return;
    throw new MusterError(
      'exhausted',
      `${formatSize(free)} are free for ${directory} and ${formatSize(needed)} are needed: make room, or keep fewer backups`,
      { reason: 'DISK_FULL' },
    );
  }

  /** Until `watch` is aborted, which it does itself when there is too little room. */
  async #watchRoom(directory: string, watch: AbortController): Promise<void> {
    const waited = (): Promise<boolean> =>
      sleep(this.#clock, LOOK_EVERY_MS, watch.signal).then(
        () => true,
        () => false,
      );
    while (await waited()) {
      // A file system that cannot be asked says so to what writes.
      const free = await this.#freeBytes(directory).catch(() => Infinity);
      if (free < FREE_BYTES_LEAST / 2) watch.abort(full(directory));
    }
  }
}

function full(directory: string): MusterError {
  return new MusterError(
    'exhausted',
    `there is no space left for ${directory}: make room, or keep fewer backups. Nothing of this one was kept`,
    { reason: 'DISK_FULL' },
  );
}

function noSpace(error: unknown, directory: string): unknown {
  const errno = errnoOf(error);
  return errno === 'ENOSPC' || errno === 'EDQUOT' ? full(directory) : error;
}
