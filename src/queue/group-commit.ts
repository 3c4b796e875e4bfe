import { isCode } from '../kit/errors.js';
import type { Change, QueueLog } from './log/port.js';

/** A part of the queue that has something to store. */
export interface Contributor {
  /**
   * Whether its changes only take things away or move on: they are tried alone when a nearly full disk refuses the whole group, so that
   * consumers can empty a queue that publishers have filled.
   */
  readonly essential: boolean;
  /** What to write with the group that begins now. Never called twice without committed() or refused() in between. */
  contribute(): readonly Change[] | Promise<readonly Change[]>;
  /** What it contributed is durable. */
  committed(): void;
  /** Nothing of what it contributed was written. What must not get lost is to be contributed again. */
  refused(error: unknown): void;
}

interface Waiting {
  readonly contributor: Contributor;
  readonly done: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface Part {
  readonly waiting: Waiting;
  readonly changes: readonly Change[];
}

function newWaiting(contributor: Contributor): Waiting {
  let resolve = (): void => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const done = new Promise<void>((onDone, onFailure) => {
    resolve = onDone;
    reject = onFailure;
  });
  // A contributor that does not wait learns of a failure through refused().
  done.catch(() => undefined);
  return { contributor, done, resolve, reject };
}

/**
 * Writes for everybody: while one group of changes is being synced, the next one gathers, so that any number of publishers and consumers share
 * each fsync. A group begins as soon as the one before has ended; no timer is in the path.
 */
export class GroupCommit {
  readonly #log: Pick<QueueLog, 'commit'>;
  #gathering = new Map<Contributor, Waiting>();
  /** Go last in their group: what others store there of what is removed comes before. */
  #removals: Waiting[] = [];
  #running: Promise<void> | undefined;

  constructor(log: Pick<QueueLog, 'commit'>) {
    this.#log = log;
  }

  /**
   * Resolves once everything the contributor has to write now is durable.
   * @throws exhausted when the disk is nearly full; unavailable, reason LOG_FAILED; what contribute() threw
   */
  commit(contributor: Contributor): Promise<void> {
    let waiting = this.#gathering.get(contributor);
    if (!waiting) {
      waiting = newWaiting(contributor);
      this.#gathering.set(contributor, waiting);
    }
    this.#running ??= this.#run();
    return waiting.done;
  }

  /** Writes these changes with the next group. @throws as commit */
  commitChanges(changes: readonly Change[]): Promise<void> {
    return this.commit({
      essential: false,
      contribute: () => changes,
      committed: () => undefined,
      refused: () => undefined,
    });
  }

  /** Writes a removal with the next group, and forgets in the same moment what was removed: no later group contains anything of it. @throws as commit */
  commitRemoval(change: Change, forget: () => void): Promise<void> {
    const contribute = (): readonly Change[] => [change];
    const waiting = newWaiting({ essential: true, contribute, committed: forget, refused: () => undefined });
    this.#removals.push(waiting);
    this.#running ??= this.#run();
    return waiting.done;
  }

  /** Resolves when nothing is being written and nothing waits. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    // Whatever arrives in this turn of the event loop still joins the first group.
    await Promise.resolve();
    while (this.#gathering.size > 0 || this.#removals.length > 0) {
      const group = [...this.#gathering.values(), ...this.#removals];
      this.#gathering = new Map();
      this.#removals = [];
      await this.#write(await gather(group));
    }
    this.#running = undefined;
  }

  async #write(parts: readonly Part[]): Promise<void> {
    const failure = await this.#attempt(parts);
    if (failure === undefined) return;
    const essential = parts.filter(({ waiting }) => waiting.contributor.essential);
    const others = parts.filter(({ waiting }) => !waiting.contributor.essential);
    const again = others.length > 0 && isCode(failure, 'exhausted') ? await this.#attempt(essential) : failure;
    // Only now: what the others take back may be what an essential part has just stored.
    refuse(others, failure);
    if (again !== undefined) refuse(essential, again);
  }

  /** The error when nothing was written. */
  async #attempt(parts: readonly Part[]): Promise<unknown> {
    const changes = parts.flatMap((part) => part.changes);
    try {
      if (changes.length > 0) await this.#log.commit(changes);
    } catch (error) {
      return error;
    }
    for (const { waiting } of parts) {
      waiting.contributor.committed();
      waiting.resolve();
    }
    return undefined;
  }
}

/** What each has to write; one that cannot say fails alone. */
async function gather(group: readonly Waiting[]): Promise<Part[]> {
  const parts: Part[] = [];
  for (const waiting of group) {
    try {
      const changes = waiting.contributor.contribute();
      parts.push({ waiting, changes: changes instanceof Promise ? await changes : changes });
    } catch (error) {
      refuse([{ waiting, changes: [] }], error);
    }
  }
  return parts;
}

function refuse(parts: readonly Part[], error: unknown): void {
  for (const { waiting } of parts) {
    waiting.contributor.refused(error);
    waiting.reject(error);
  }
}
