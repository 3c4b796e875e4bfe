import { MusterError, messageOf } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import type { Engine } from './engine.js';
import { assertKey, assertPrefix, assertRange } from './keys.js';
import { Lifecycle } from './lifecycle.js';
import { checkBatch, planGroup, type Batch, type Verdict } from './plan.js';
import { WRITE_BACKLOG_BYTES_MAX, type Change, type Entry, type KeyRange, type Mutation, type Store } from './port.js';
import { Watches } from './watches.js';

/** Bytes of one group: bounds the memory of a commit; a larger batch goes alone. */
const GROUP_BYTES_MAX = 16 * 1024 * 1024;
/** Batches of one group: bounds the time a batch waits for those before it. */
const GROUP_BATCHES_MAX = 4096;

interface Waiting {
  readonly batch: Batch;
  resolve(revision: number): void;
  reject(error: unknown): void;
}

// eslint-disable-next-line @typescript-eslint/require-await -- an iterable that rejects, for calls that cannot throw
async function* failing(error: unknown): AsyncGenerator<never> {
  throw error;
}

/**
 * The store over any engine: lifecycle, validation, one writer with group commit, watches.
 * Group commit: all batches that arrived while the previous commit ran are planned in order and committed as one.
 * Fail-stop: after a failed commit nothing is acknowledged any more; the engine is closed and every call rejects.
 */
export class EngineStore implements Store {
  readonly failed: Promise<Error>;
  readonly #engine: Engine;
  readonly #logger: Logger;
  readonly #watches = new Watches();
  #tellFailed: (error: Error) => void = () => undefined;
  readonly #life = new Lifecycle(
    () => new MusterError('unavailable', 'the store is closed: open it again', { reason: 'STORE_CLOSED' }),
  );
  #revision: number;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #writer: Promise<void> | undefined;

  constructor(engine: Engine, revision: number, logger: Logger) {
    this.#engine = engine;
    this.#revision = revision;
    this.#logger = logger;
    this.failed = new Promise((resolve) => {
      this.#tellFailed = resolve;
    });
  }

  get revision(): number {
    return this.#revision;
  }

  async get(key: string): Promise<Entry | undefined> {
    this.#life.assertOpen();
    assertKey(key);
    return this.#life.read(() => this.#engine.get(key));
  }

  async *range(range: KeyRange = {}): AsyncGenerator<Entry> {
    this.#life.assertOpen();
    assertRange(range);
    if (range.limit === 0) return;
    const chunks = this.#engine.scan(range)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const step = await this.#life.read(() => chunks.next());
        if (step.done) return;
        for (const entry of step.value) {
          this.#life.assertOpen();
          yield entry;
        }
      }
    } finally {
      await chunks.return?.();
    }
  }

  async write(mutations: readonly Mutation[]): Promise<number> {
    this.#life.assertOpen();
    const batch = checkBatch(mutations);
    if (this.#waitingBytes > 0 && this.#waitingBytes + batch.bytes > WRITE_BACKLOG_BYTES_MAX) {
      throw new MusterError(
        'exhausted',
        `more than ${WRITE_BACKLOG_BYTES_MAX} bytes wait to be written: write less at once, then retry`,
        {
          reason: 'WRITE_BACKLOG_FULL',
          retryAfterMs: 100,
        },
      );
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ batch, resolve, reject });
      this.#waitingBytes += batch.bytes;
      this.#writer ??= this.#drain();
    });
  }

  async problem(): Promise<string> {
    try {
      this.#life.assertOpen();
      const room = await this.#engine.room();
      return room.puts > 0 ? '' : room.refusal().message;
    } catch (error) {
      return messageOf(error);
    }
  }

  watch(prefix: string, signal: AbortSignal): AsyncIterable<Change> {
    try {
      this.#life.assertOpen();
      assertPrefix(prefix);
    } catch (error) {
      return failing(error);
    }
    return this.#watches.open(prefix, signal);
  }

  async close(): Promise<void> {
    await this.#life.close(() => this.#shutDown());
  }

  async #shutDown(): Promise<void> {
    await this.#writer;
    if (this.#life.failure) return;
    this.#watches.end();
    await this.#closeEngine();
  }

  /** What was acknowledged is durable already, so that a close which fails loses nothing. */
  async #closeEngine(): Promise<void> {
    try {
      await this.#engine.close();
    } catch (error) {
      this.#logger.warn('the store did not close cleanly', { error });
    }
  }

  async #drain(): Promise<void> {
    // Lets the other writes of this turn of the event loop join the first group.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#commit(this.#takeGroup());
    this.#writer = undefined;
  }

  #takeGroup(): readonly Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { batch } of this.#waiting) {
      if (count > 0 && (bytes + batch.bytes > GROUP_BYTES_MAX || count === GROUP_BATCHES_MAX)) break;
      bytes += batch.bytes;
      count += 1;
    }
    this.#waitingBytes -= bytes;
    return this.#waiting.splice(0, count);
  }

  async #commit(group: readonly Waiting[]): Promise<void> {
    const keys = new Set<string>();
    for (const { batch } of group) for (const { key } of batch.mutations) keys.add(key);
    let plan;
    try {
      const [stored, room] = await Promise.all([this.#engine.lookup([...keys]), this.#engine.room()]);
      plan = planGroup(
        group.map(({ batch }) => batch),
        stored,
        this.#revision,
        room,
      );
    } catch (error) {
      // Nothing has been written yet: these batches are refused, the store goes on.
      for (const waiting of group) waiting.reject(error);
      return;
    }
    if (plan.revision !== this.#revision) {
      try {
        await this.#engine.commit(plan.finals, plan.revision);
      } catch (error) {
        this.#fail(error, group);
        return;
      }
    }
    this.#revision = plan.revision;
    this.#watches.publish(plan.changes);
    settle(group, plan.verdicts);
  }

  #fail(cause: unknown, group: readonly Waiting[]): void {
    const error = new MusterError(
      'unavailable',
      'the store stopped itself because a write failed: restart the process, or open the store again',
      {
        reason: 'STORE_FAILED',
        cause,
      },
    );
    this.#logger.error('a write failed, the store stops', { error: cause });
    const done = this.#closeEngine();
    this.#life.fail(error, done);
    for (const waiting of group) {
      waiting.reject(
        new MusterError('unavailable', 'the write failed and its outcome is unknown until the store is opened again', {
          reason: 'WRITE_OUTCOME_UNKNOWN',
          cause,
        }),
      );
    }
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    this.#waitingBytes = 0;
    this.#watches.end(error);
    void done.then(() => {
      this.#tellFailed(error);
    });
  }
}

function settle(group: readonly Waiting[], verdicts: readonly Verdict[]): void {
  group.forEach((waiting, index) => {
    const verdict = verdicts[index];
    if (verdict && 'revision' in verdict) waiting.resolve(verdict.revision);
    else waiting.reject(verdict?.error);
  });
}
