import { constants } from 'node:fs';
import { rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, type Clock } from '../../kit/clock.js';
import { formatSize } from '../../kit/durations.js';
import { MusterError, errnoOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { didYouMean } from '../../kit/suggest.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Manifest } from '../../model/manifest.js';
import { collapseFront, cutOffset, lastLineEnd } from './cut.js';
import { compress } from './compress.js';
import { inParent, listFiles, matches, openInside, pathIn } from './directory.js';
import { nextNumber, planCompression, planRemovals, rotatedAmong, type RotatedFile } from './housekeeping.js';
import { Journal } from './journal.js';
import { droppedMark, isUnfinished, parseRotated } from './names.js';
import { recover, rotate, type Cut, type LogPlace, type RotationTools } from './rotation.js';
import { Tail, type LogText, type TailOptions } from './tail.js';

/** A service whose logs are looked after. */
export interface LoggedService {
  readonly service: string;
  /** Absolute log directory; may not exist yet. */
  readonly root: string;
  readonly logs: Manifest['logs'];
}

export interface LogsOptions {
  /** The agent's data directory, absolute. */
  readonly dataDirectory: string;
  readonly services: () => readonly LoggedService[];
  readonly clock: Clock;
  readonly logger: Logger;
  /** Below this much free space the oldest rotated files of all services go, then the oldest lines. */
  readonly freeSpaceFloorBytes?: number;
  /** Free bytes where the logs are; given by tests. */
  readonly freeBytes?: (path: string) => Promise<number>;
  /** False: never shorten files from the front, but copy and truncate. */
  readonly collapse?: boolean;
}

const CHECK_EVERY_MS = 2000;
const FREE_SPACE_FLOOR_BYTES = 256 * 1024 * 1024;
/** A file may grow to this many times its size while it waits for a line to end. */
const ENDLESS_LINE_FACTOR = 2;
/** A live file is not shortened below this for the sake of free space. */
const LIVE_BYTES_LEAST = 1024 * 1024;
const BLOCK_BYTES = 4096;

interface LogFile {
  readonly name: string;
  readonly bytes: number;
  readonly atMs: number;
}

/** The logs of the machine's services: rotated, compressed, pruned, and read from their ends. `run` is its task. */
export class Logs {
  readonly #options: LogsOptions;
  readonly #journal: Journal;
  readonly #tools: RotationTools;
  readonly #exclusive = new KeyedMutex();
  readonly #followers = new Map<string, Set<(cut: Cut) => void>>();
  readonly #fallbackSaid = new Set<string>();
  /** Rotations may have been left unfinished, by an earlier agent or by a failure: no file is rotated before they are finished. */
  #interrupted = true;
  #recovering: Promise<void> | undefined;
  #checking: Promise<void> | undefined;

  constructor(options: LogsOptions) {
    this.#options = options;
    this.#journal = new Journal(join(options.dataDirectory, 'logs', '.rotation'));
    this.#tools = {
      clock: options.clock,
      journal: this.#journal,
      collapse: options.collapse ?? true,
      onFallback: (place) => {
        this.#sayFallback(place);
      },
    };
  }

  /** Looks after the logs until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.check();
      await sleep(this.#options.clock, CHECK_EVERY_MS, signal).catch(() => undefined);
    }
  }

  /**
   * One look at all services; calls during a look join it. The first one finishes what an earlier agent left.
   * Never rejects: what fails is logged, and tried again at the next look.
   */
  async check(): Promise<void> {
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined;
    });
    await this.#checking;
  }

  /**
   * The last lines of a log, and with `follow` each new one, across rotations and restarts, until the signal aborts.
   * @throws not_found for a service that is not here, or a file that is not one of its logs
   */
  async *tail(service: string, options: TailOptions, signal: AbortSignal): AsyncGenerator<LogText> {
    const services = this.#options.services();
    const logged = services.find((one) => one.service === service);
    if (!logged) {
      const hint = didYouMean(
        service,
        services.map((one) => one.service),
      );
      throw new MusterError('not_found', `there is no service "${service}" on this machine.${hint}`, {
        reason: 'SERVICE_UNKNOWN',
      });
    }
    const name = options.file ?? `${service}.log`;
    if (options.file !== undefined && !isDeclared(logged, options.file)) {
      throw new MusterError(
        'not_found',
        `"${options.file}" is not a log of ${service}: its logs are ${[`${service}.log`, ...logged.logs.files].join(', ')}`,
        { reason: 'LOG_UNKNOWN' },
      );
    }
    await this.#recover();
    const key = join(logged.root, name);
    const tail = new Tail({ root: logged.root, name, clock: this.#options.clock }, options, (work) =>
      this.#exclusive.run(key, work),
    );
    const followers = this.#followers.get(key) ?? new Set();
    this.#followers.set(key, followers);
    followers.add(tail.onCut);
    try {
      yield* tail.read(signal);
    } finally {
      followers.delete(tail.onCut);
      if (followers.size === 0) this.#followers.delete(key);
      await tail.close();
    }
  }

  async #check(): Promise<void> {
    await this.#recover();
    for (const logged of this.#options.services()) {
      await this.#lookAfter(logged).catch((error: unknown) => {
        this.#options.logger.error('logs could not be looked after', { service: logged.service, error });
      });
    }
    await this.#keepSpace().catch((error: unknown) => {
      this.#options.logger.error('space for logs could not be made', { error });
    });
  }

  #recover(): Promise<void> {
    if (!this.#interrupted) return Promise.resolve();
    this.#recovering ??= this.#finishInterrupted().finally(() => {
      this.#recovering = undefined;
    });
    return this.#recovering;
  }

  async #finishInterrupted(): Promise<void> {
    try {
      for (const entry of await this.#journal.load()) {
        const key = join(entry.root, entry.name);
        await this.#exclusive.run(key, async () => {
          const cut = await recover(this.#tools, entry);
          if (cut) this.#tellFollowers(key, cut);
        });
      }
      this.#interrupted = false;
    } catch (error) {
      this.#options.logger.error('an interrupted log rotation could not be finished; it is tried again', { error });
    }
  }

  async #lookAfter(logged: LoggedService): Promise<void> {
    const files = await this.#files(logged);
    let changed = false;
    for (const file of files.filter(({ name }) => isDeclared(logged, name))) {
      changed = (await this.#shorten(logged, file, nextNumber(rotatedAmong(files), file.name))) || changed;
    }
    await this.#prune(logged, changed ? await this.#files(logged) : files);
  }

  /** Rotates until the file is small enough. One that grew while no agent ran gives several, so that limits drop the oldest lines only. */
  async #shorten(logged: LoggedService, file: LogFile, firstNumber: number): Promise<boolean> {
    let now: LogFile | undefined = file;
    let number = firstNumber;
    while (now && now.bytes > logged.logs.maxSizeBytes && !this.#interrupted) {
      if (!(await this.#rotate(logged, now, number))) break;
      number += 1;
      now = await statInside(logged.root, file.name);
    }
    return number > firstNumber;
  }

  async #rotate(logged: LoggedService, file: LogFile, number: number): Promise<boolean> {
    const place: LogPlace = { service: logged.service, root: logged.root, name: file.name };
    const key = join(logged.root, file.name);
    const bytesMax = logged.logs.maxSizeBytes * ENDLESS_LINE_FACTOR;
    const anyLine = file.bytes > bytesMax;
    this.#interrupted = true;
    const cut = await rotate(this.#tools, place, { number, anyLine, bytesMax }, (work) =>
      this.#exclusive.run(key, async () => {
        const done = await work();
        if (done) this.#tellFollowers(key, done);
        return done;
      }),
    );
    this.#interrupted = false;
    if (!cut) return false;
    const { rotated, from, end } = cut;
    this.#options.logger.info('a log was rotated', { service: logged.service, to: rotated, bytes: end - from });
    return true;
  }

  #tellFollowers(key: string, cut: Cut): void {
    for (const follower of this.#followers.get(key) ?? []) follower(cut);
  }

  async #prune(logged: LoggedService, files: readonly LogFile[]): Promise<void> {
    const { clock, logger } = this.#options;
    const { root, service, logs } = logged;
    const rotated = rotatedAmong(files);
    const liveBytes = files.filter(({ name }) => isDeclared(logged, name)).reduce((sum, { bytes }) => sum + bytes, 0);
    const limits = { keep: logs.keep, maxAgeMs: logs.maxAgeMs, serviceBytesMax: logs.maxSizeBytes * (logs.keep + 2) };
    const removals = planRemovals(rotated, liveBytes, limits, clock.now());
    for (const { file, why } of removals) {
      logger.info('an old log was removed', { service, file: file.name, bytes: file.bytes, why });
      await remove(root, file.name);
    }
    const gone = new Set(removals.map(({ file }) => file.name));
    for (const file of planCompression(rotated.filter(({ name }) => !gone.has(name))))
      await compress(clock, root, file.name);
  }

  /** Regular files of a log directory; what a crash left unfinished is removed. */
  async #files({ root }: LoggedService): Promise<LogFile[]> {
    const found: LogFile[] = [];
    for (const name of await listFiles(root)) {
      if (isUnfinished(name)) {
        await remove(root, name);
        continue;
      }
      const file = await statInside(root, name);
      if (file) found.push(file);
    }
    return found;
  }

  async #isShort(): Promise<boolean> {
    const { freeSpaceFloorBytes = FREE_SPACE_FLOOR_BYTES, freeBytes = freeBytesOf, dataDirectory } = this.#options;
    return (await freeBytes(dataDirectory)) < freeSpaceFloorBytes;
  }

  /** Makes room while the disk is nearly full: the oldest rotated files of all services, then the older halves of live ones. */
  async #keepSpace(): Promise<void> {
    if (!(await this.#isShort())) return;
    const all: { logged: LoggedService; files: LogFile[] }[] = [];
    for (const logged of this.#options.services()) all.push({ logged, files: await this.#files(logged) });
    const rotated = all.flatMap(({ logged, files }) => rotatedAmong(files).map((file) => ({ logged, file })));
    for (const { logged, file } of rotated.sort((a, b) => a.file.atMs - b.file.atMs)) {
      if (!(await this.#isShort())) return;
      this.#options.logger.warn('the disk is nearly full: an old log was removed', dropped(logged, file));
      await remove(logged.root, file.name);
    }
    const live = all.flatMap(({ logged, files }) =>
      files
        .filter(({ name, bytes }) => bytes > LIVE_BYTES_LEAST && isDeclared(logged, name))
        .map((file) => ({ logged, file })),
    );
    for (const { logged, file } of live) if (await this.#isShort()) await this.#dropFront(logged, file);
  }

  /** The last resort: the older half of a live log goes, and the log and the agent's own say so. */
  async #dropFront(logged: LoggedService, file: LogFile): Promise<void> {
    const { clock, logger } = this.#options;
    const key = join(logged.root, file.name);
    await this.#exclusive.run(key, async () => {
      const live = await openInside(logged.root, file.name, constants.O_RDWR);
      try {
        const end = await lastLineEnd(live, Math.floor((await live.stat()).size / 2));
        if (end === undefined) return;
        const mark = droppedMark(end);
        const cut = cutOffset(end, mark.length + 1, BLOCK_BYTES);
        if (cut === 0) return;
        const result = await collapseFront(clock, live, { end, cut, mark });
        if (result === 'unsupported') {
          await live.truncate(0);
          logger.warn('the disk is nearly full: a log was emptied', {
            service: logged.service,
            file: file.name,
            bytes: file.bytes,
          });
          this.#tellFollowers(key, { rotated: '', from: 0, end: file.bytes, shift: file.bytes, begin: 0 });
          return;
        }
        logger.warn('the disk is nearly full: the older half of a log was dropped', {
          service: logged.service,
          file: file.name,
          bytes: end,
        });
        this.#tellFollowers(key, { rotated: '', from: 0, end, shift: cut, begin: 0 });
      } finally {
        await live.close();
      }
    });
  }

  #sayFallback(place: LogPlace): void {
    if (this.#fallbackSaid.has(place.root)) return;
    this.#fallbackSaid.add(place.root);
    this.#options.logger.warn(
      'this file system cannot shorten a file from the front: logs are copied and truncated, and lines written at that moment can be lost',
      { service: place.service, directory: place.root },
    );
  }
}

function dropped(logged: LoggedService, file: RotatedFile): Record<string, unknown> {
  return { service: logged.service, file: file.name, size: formatSize(file.bytes) };
}

/** Whether a name is one of the logs a manifest declares; the file of the service's output always is. */
function isDeclared({ service, logs }: LoggedService, name: string): boolean {
  if (parseRotated(name) || isUnfinished(name)) return false;
  return name === `${service}.log` || logs.files.some((pattern) => matches(pattern, name));
}

async function statInside(root: string, name: string): Promise<LogFile | undefined> {
  try {
    const handle = await openInside(root, name, constants.O_RDONLY);
    try {
      const { size, mtimeMs } = await handle.stat();
      return { name, bytes: size, atMs: mtimeMs };
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || error instanceof MusterError) return undefined;
    throw error;
  }
}

async function remove(root: string, name: string): Promise<void> {
  await inParent(root, name, (parent, base) => rm(pathIn(parent, base), { force: true }));
}

async function freeBytesOf(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}
