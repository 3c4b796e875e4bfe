import { join } from 'node:path';
import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { LogSearch } from '../../model/log-search.js';
import { didYouMean } from '../../kit/suggest.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { compress } from './compress.js';
import { isDeclared, logFiles, removeFile, statFile, type LogFile, type LoggedService } from './files.js';
import { LogTails } from './log-tails.js';
import { nextNumber, planCompression, planRemovals, rotatedAmong } from './housekeeping.js';
import { Journal } from './journal.js';
import { rotatedName } from './names.js';
import { Pieces } from './pieces.js';
import { rotate, type Cut, type LogPlace, type RotationTools } from './rotation.js';
import { freeBytesOf, keepSpace } from './space.js';
import { FileSearch, type RunningSearch } from './search/search.js';
import type { LogGuard } from './search/part.js';
import type { ReleaseAt } from './search/one.js';
import { searchedLogs } from './search/names.js';
import { unpackInto } from './search/unpack.js';
import type { LogText } from './batches.js';
import type { TailOptions } from './tail.js';
import { keyOf, Unfinished } from './unfinished.js';

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
  /** Version of a service that ran at a time; where it is left out, nobody knows. */
  readonly releaseAt?: ReleaseAt;
  /** False: never shorten files from the front, but copy and truncate. */
  readonly collapse?: boolean;
  /** How journalctl is called. */
  readonly journalctl?: readonly string[];
}

const CHECK_EVERY_MS = 2000;
const FREE_SPACE_FLOOR_BYTES = 256 * 1024 * 1024;
/** A file may grow to this many times its size while it waits for a line to end. */
const ENDLESS_LINE_FACTOR = 2;

/** The logs of the machine's services: rotated, compressed, pruned, and read from their ends. `run` is its task. */
export class Logs {
  readonly #options: LogsOptions;
  readonly #tools: RotationTools;
  readonly #exclusive = new KeyedMutex();
  readonly #followers = new Map<string, Set<(cut: Cut) => void>>();
  readonly #fallbackSaid = new Set<string>();
  readonly #unfinished: Unfinished;
  readonly #pieces: Pieces;
  readonly #tails: LogTails;
  /** By log, the rotated file that holds lines which are still in the live one. */
  readonly #copied = new Map<string, string>();
  #checking: Promise<void> | undefined;

  constructor(options: LogsOptions) {
    this.#options = options;
    this.#pieces = new Pieces(join(options.dataDirectory, 'logs', '.pieces'));
    this.#tails = new LogTails({ ...options, pieces: this.#pieces, exclusive: this.#exclusive });
    this.#tools = {
      clock: options.clock,
      journal: new Journal(join(options.dataDirectory, 'logs', '.rotation')),
      pieces: this.#pieces,
      collapse: options.collapse ?? true,
      onFallback: (place) => {
        this.#sayFallback(place);
      },
    };
    this.#unfinished = new Unfinished({
      tools: this.#tools,
      logger: options.logger,
      exclusive: this.#exclusive,
      onCut: (key, cut) => {
        this.#cutDone(key, cut);
      },
    });
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
   * The last lines of a log, or those behind a position, and with `follow` each new one, across rotations and restarts, until the signal aborts.
   * @throws not_found for a service that is not here, or a file that is not one of its logs; invalid for what is no position in it
   */
  async *tail(service: string, options: TailOptions, signal: AbortSignal): AsyncGenerator<LogText> {
    for await (const texts of this.tailBatches(service, options, signal)) yield* texts;
  }

  /** As tail, some hundred lines at a time. */
  async *tailBatches(service: string, options: TailOptions, signal: AbortSignal): AsyncGenerator<readonly LogText[]> {
    const logged = this.#logged(service);
    await this.#unfinished.finish();
    yield* this.#tails.read(logged, options, signal);
  }

  /**
   * A search in the logs of a service, as they are now; it begins when its hits are asked for.
   * @throws not_found for a service that is not here or has no logs, or a file that is not one of them
   */
  async search(service: string, search: LogSearch): Promise<RunningSearch> {
    const { clock, dataDirectory, releaseAt = () => '', freeBytes = freeBytesOf, journalctl } = this.#options;
    const logged = this.#logged(service);
    const searched = await searchedLogs(logged, search.file, journalctl);
    await this.#unfinished.finish();
    const scratch = join(dataDirectory, 'logs', '.rotation');
    return new FileSearch(logged, searched, search, {
      clock,
      releaseAt,
      guard: (name) => this.#guard({ root: logged.root, name }),
      unpack: unpackInto({ clock, directory: scratch, freeBytes: () => freeBytes(dataDirectory) }),
    });
  }

  #guard(place: { readonly root: string; readonly name: string }): LogGuard {
    const key = keyOf(place);
    return {
      exclusive: (work) => this.#exclusive.run(key, work),
      wanted: () => this.#exclusive.contended(key),
      follow: (onCut) => this.#follow(key, onCut),
      copied: () => this.#copied.get(key),
    };
  }

  /** @throws not_found naming the nearest service */
  #logged(service: string): LoggedService {
    const services = this.#options.services();
    const logged = services.find((one) => one.service === service);
    if (logged) return logged;
    const hint = didYouMean(
      service,
      services.map((one) => one.service),
    );
    throw new MusterError('not_found', `there is no service "${service}" on this machine.${hint}`, {
      reason: 'SERVICE_UNKNOWN',
    });
  }

  #follow(key: string, onCut: (cut: Cut) => void): () => void {
    const followers = this.#followers.get(key) ?? new Set();
    this.#followers.set(key, followers);
    followers.add(onCut);
    return () => {
      followers.delete(onCut);
      if (followers.size === 0 && this.#followers.get(key) === followers) this.#followers.delete(key);
    };
  }

  async #check(): Promise<void> {
    const { services, clock, logger, dataDirectory, freeSpaceFloorBytes, freeBytes = freeBytesOf } = this.#options;
    await this.#unfinished.finish();
    for (const logged of services()) {
      await this.#lookAfter(logged).catch((error: unknown) => {
        logger.error('logs could not be looked after', { service: logged.service, error });
      });
    }
    await keepSpace({
      services,
      clock,
      logger,
      exclusive: this.#exclusive,
      onCut: (key, cut) => {
        this.#tellFollowers(key, cut);
      },
      pieces: this.#pieces,
      onRemoved: ({ root }, name) => {
        this.#tails.removed(root, name);
      },
      unfinished: this.#unfinished,
      floorBytes: freeSpaceFloorBytes ?? FREE_SPACE_FLOOR_BYTES,
      freeBytes: () => freeBytes(dataDirectory),
    }).catch((error: unknown) => {
      logger.error('space for logs could not be made', { error });
    });
  }

  async #lookAfter(logged: LoggedService): Promise<void> {
    const files = await logFiles(logged.root);
    let changed = false;
    for (const file of files.filter(({ name }) => isDeclared(logged, name))) {
      // Never a number again, even where all rotated files are gone: it says where in the log their lines belong.
      const last = await this.#pieces.lastNumber({ root: logged.root, name: file.name });
      const number = Math.max(nextNumber(rotatedAmong(files), file.name), last + 1);
      changed = (await this.#shorten(logged, file, number)) || changed;
    }
    await this.#prune(logged, changed ? await logFiles(logged.root) : files);
  }

  /** Rotates until the file is small enough. One that grew while no agent ran gives several, so that limits drop the oldest lines only. */
  async #shorten(logged: LoggedService, file: LogFile, firstNumber: number): Promise<boolean> {
    const place: LogPlace = { service: logged.service, root: logged.root, name: file.name };
    let now: LogFile | undefined = file;
    let number = firstNumber;
    try {
      while (now && now.bytes > logged.logs.maxSizeBytes && !this.#unfinished.has(place)) {
        if (!(await this.#rotate(logged, place, { number, bytes: now.bytes }))) break;
        number += 1;
        now = await statFile(logged.root, file.name);
      }
      if (!this.#unfinished.has(place)) this.#unfinished.wentWell(place);
    } catch (error) {
      this.#unfinished.add(place);
      this.#unfinished.say(place, 'a log could not be rotated; it is tried again', error);
    }
    return number > firstNumber;
  }

  async #rotate(
    logged: LoggedService,
    place: LogPlace,
    { number, bytes }: { readonly number: number; readonly bytes: number },
  ): Promise<boolean> {
    const key = keyOf(place);
    const bytesMax = logged.logs.maxSizeBytes * ENDLESS_LINE_FACTOR;
    const anyLine = bytes > bytesMax;
    // Where it fails, this holds until it is finished or undone, and the next rotation begins.
    this.#copied.set(key, rotatedName(place.name, number));
    const cut = await rotate(this.#tools, place, { number, anyLine, bytesMax }, (work) =>
      this.#exclusive.run(key, () =>
        work((done) => {
          this.#cutDone(key, done);
        }),
      ),
    );
    this.#copied.delete(key);
    if (!cut) return false;
    const { rotated, from, end } = cut;
    this.#options.logger.info('a log was rotated', { service: logged.service, to: rotated, bytes: end - from });
    return true;
  }

  #cutDone(key: string, cut: Cut): void {
    this.#copied.delete(key);
    this.#tellFollowers(key, cut);
  }

  #tellFollowers(key: string, cut: Cut): void {
    for (const follower of this.#followers.get(key) ?? []) follower(cut);
  }

  async #prune(logged: LoggedService, files: readonly LogFile[]): Promise<void> {
    const { clock, logger } = this.#options;
    const { root, service, logs } = logged;
    // What an unfinished rotation made is still needed to finish it.
    const rotated = rotatedAmong(files).filter(({ of }) => !this.#unfinished.has({ root, name: of }));
    const liveBytes = files.filter(({ name }) => isDeclared(logged, name)).reduce((sum, { bytes }) => sum + bytes, 0);
    const limits = { keep: logs.keep, maxAgeMs: logs.maxAgeMs, serviceBytesMax: logs.maxSizeBytes * (logs.keep + 2) };
    const removals = planRemovals(rotated, liveBytes, limits, clock.now());
    for (const { file, why } of removals) {
      logger.info('an old log was removed', { service, file: file.name, bytes: file.bytes, why });
      await removeFile(root, file.name);
      this.#tails.removed(root, file.name);
    }
    const gone = new Set(removals.map(({ file }) => file.name));
    for (const file of planCompression(rotated.filter(({ name }) => !gone.has(name))))
      await compress(clock, root, file.name);
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
