import { MusterError } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import { Lifecycle } from './lifecycle.js';
import type { KeySpan, RecordChange, RecordEngine, Records, Room, Scan, StoredRecord } from './records.js';

/** How the owner of the records calls them in its errors. */
export interface RecordsNames {
  /** For people, for example `the queue's log`. */
  readonly what: string;
  /** Reasons of the errors after a failed write and after close(). */
  readonly failed: string;
  readonly closed: string;
}

/** Keys that one step of clear() deletes. */
const CLEAR_KEYS = 1000;

/** Records over any engine: lifecycle and fail-stop. Commits run one at a time, in the order asked. */
export class OpenRecords implements Records {
  readonly failed: Promise<MusterError>;
  readonly #engine: RecordEngine;
  readonly #names: RecordsNames;
  readonly #logger: Logger;
  #tellFailed: (error: MusterError) => void = () => undefined;
  readonly #life: Lifecycle;
  /** Ends when all commits asked for so far have ended; never rejects. */
  #commits: Promise<void> = Promise.resolve();

  constructor(engine: RecordEngine, names: RecordsNames, logger: Logger) {
    this.#engine = engine;
    this.#names = names;
    this.#logger = logger;
    this.#life = new Lifecycle(
      () => new MusterError('unavailable', `${names.what} is closed: open it again`, { reason: names.closed }),
    );
    this.failed = new Promise((resolve) => {
      this.#tellFailed = resolve;
    });
  }

  getMany(keys: readonly Buffer[]): Promise<readonly (Buffer | undefined)[]> {
    return this.#life.read(() => this.#engine.getMany(keys));
  }

  has(keys: readonly Buffer[]): Promise<readonly boolean[]> {
    return this.#life.read(() => this.#engine.has(keys));
  }

  keys(span: KeySpan, limit: number): Promise<readonly Buffer[]> {
    return this.#life.read(() => this.#engine.keys(span, limit));
  }

  piece(scan: Scan): Promise<readonly StoredRecord[]> {
    return this.#life.read(() => this.#engine.piece(scan));
  }

  scan(scan: Scan): AsyncIterable<readonly StoredRecord[]> {
    return this.#iterate(() => this.#engine.scan(scan));
  }

  scrub(signal: AbortSignal): AsyncIterable<string> {
    return this.#iterate(() => this.#engine.scrub(signal));
  }

  room(): Promise<Room> {
    return this.#life.read(() => this.#engine.room());
  }

  diskBytes(): Promise<number> {
    return this.#life.read(() => this.#engine.diskBytes());
  }

  /** What was asked for before close() still runs. */
  async commit(changes: readonly RecordChange[]): Promise<void> {
    this.assertOpen();
    const before = this.#commits;
    const commit = before.then(() => this.#write(() => this.#engine.commit(changes)));
    this.#commits = commit.catch(() => undefined);
    return commit;
  }

  async clear({ from, until }: KeySpan): Promise<number> {
    let keys: readonly Buffer[];
    let start = from;
    let deleted = 0;
    do {
      keys = await this.keys({ from: start, until }, CLEAR_KEYS);
      if (keys.length > 0) await this.commit(keys.map((key) => ({ key, value: undefined })));
      deleted += keys.length;
      // Not once more over what was deleted.
      start = keys.at(-1) ?? until;
    } while (keys.length === CLEAR_KEYS);
    return deleted;
  }

  async compact(span: KeySpan): Promise<void> {
    const again = await this.#life.read(() => this.#engine.compact(span));
    if (again.length === 0) return;
    await this.commit(again.map((key) => ({ key, value: undefined })));
    await this.#life.read(() => this.#engine.compact(span));
  }

  async close(): Promise<void> {
    await this.#life.close(() => this.#shutDown());
  }

  assertOpen(): void {
    this.#life.assertOpen();
  }

  async *#iterate<T>(open: () => AsyncIterable<T>): AsyncGenerator<T> {
    this.assertOpen();
    const steps = open()[Symbol.asyncIterator]();
    try {
      for (;;) {
        const step = await this.#life.read(() => steps.next());
        if (step.done) return;
        yield step.value;
      }
    } finally {
      await steps.return?.();
    }
  }

  async #write<T>(write: () => Promise<T>): Promise<T> {
    if (this.#life.failure) throw this.#life.failure;
    try {
      return await write();
    } catch (error) {
      throw this.#fail(error);
    }
  }

  #fail(cause: unknown): MusterError {
    if (this.#life.failure) return this.#life.failure;
    const { what, failed } = this.#names;
    const error = new MusterError(
      'unavailable',
      `${what} stopped itself because a write failed: check the disk, then restart the process. ` +
        'Whether that write is stored is known when it is open again',
      { reason: failed, cause },
    );
    this.#logger.error('a write failed, the log stops', { error: cause });
    const done = this.#closeEngine();
    this.#life.fail(error, done);
    void done.then(() => {
      this.#tellFailed(error);
    });
    return error;
  }

  async #shutDown(): Promise<void> {
    await this.#commits;
    if (!this.#life.failure) await this.#closeEngine();
  }

  /** What was acknowledged is durable already, so that a close which fails loses nothing. */
  async #closeEngine(): Promise<void> {
    try {
      await this.#engine.close();
    } catch (error) {
      this.#logger.warn(`${this.#names.what} did not close cleanly`, { error });
    }
  }
}
