import type { Clock } from '../kit/clock.js';
import { isCode, type MusterError } from '../kit/errors.js';
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

/**
 * While something is stored at least this often, what is essential and comes alone waits so long for the next group, milliseconds. A group of its
 * own would hold up the message that comes during it, for the sake of a consumer who waits for nothing.
 */
const COMPANY_MS = 2;

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

interface Refused {
  readonly waiting: Waiting;
  readonly error: unknown;
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

export interface GroupCommitOptions {
  /** Told of what a contributor throws where it must not; the others go on. */
  readonly onBug?: (error: unknown) => void;
  /** Without one nothing waits for company. */
  readonly clock?: Clock | undefined;
}

/**
 * Writes for everybody: while one group of changes is being synced, the next one gathers, so that any number of publishers and consumers share
 * each fsync. A group begins as soon as the one before has ended; no timer is in the path of what is published.
 */
export class GroupCommit {
  readonly #log: Pick<QueueLog, 'commit'>;
  readonly #onBug: (error: unknown) => void;
  #gathering = new Map<Contributor, Waiting>();
  /** Go last in their group: what others store there of what is removed comes before. */
  #removals: Waiting[] = [];
  #running: Promise<void> | undefined;
  readonly #clock: Clock | undefined;
  /** When the last group began in which there was more than what is essential. */
  #busyMs = -Infinity;
  /** Ends the waiting for company. */
  #joined: (() => void) | undefined;

  constructor(log: Pick<QueueLog, 'commit'>, { onBug = () => undefined, clock }: GroupCommitOptions = {}) {
    this.#log = log;
    this.#onBug = onBug;
    this.#clock = clock;
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
    if (!contributor.essential) this.#joined?.();
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
    this.#joined?.();
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
      if (this.#clock) await this.#company(this.#clock);
      const group = [...this.#gathering.values(), ...this.#removals];
      this.#gathering = new Map();
      this.#removals = [];
      await this.#write(await this.#gather(group));
    }
    this.#running = undefined;
  }

  /** Resolves when the group that has gathered is to begin. */
  async #company(clock: Clock): Promise<void> {
    const nowMs = clock.monotonic();
    if (this.#isBusy()) {
      this.#busyMs = nowMs;
      return;
    }
    if (nowMs - this.#busyMs >= COMPANY_MS) return;
    await new Promise<void>((resolve) => {
      const late = clock.after(COMPANY_MS, resolve);
      this.#joined = () => {
        late.cancel();
        resolve();
      };
    });
    this.#joined = undefined;
    if (this.#isBusy()) this.#busyMs = clock.monotonic();
  }

  /** Whether more than what is essential has gathered. */
  #isBusy(): boolean {
    return this.#removals.length > 0 || [...this.#gathering.keys()].some(({ essential }) => !essential);
  }

  async #write(parts: readonly Part[]): Promise<void> {
    const failure = await this.#attempt(parts);
    if (failure === undefined) return;
    const refused = isCode(failure, 'exhausted', 'unavailable')
      ? await this.#writeEssential(parts, failure)
      : await this.#writeEach(parts);
    // Only now: what one takes back may be what another has just stored.
    for (const { waiting, error } of refused) this.#refuse(waiting, error);
  }

  /** A nearly full disk refuses what grows, and takes the rest. */
  async #writeEssential(parts: readonly Part[], failure: MusterError): Promise<readonly Refused[]> {
    const essential = parts.filter(({ waiting }) => waiting.contributor.essential);
    const canHelp = failure.code === 'exhausted' && essential.length < parts.length;
    const again = canHelp ? await this.#attempt(essential) : failure;
    const others = parts.filter(({ waiting }) => !waiting.contributor.essential);
    return [...refusedWith(others, failure), ...(again === undefined ? [] : refusedWith(essential, again))];
  }

  /** The log takes no part of a group that contradicts what it holds: the one that does so fails alone. */
  async #writeEach(parts: readonly Part[]): Promise<readonly Refused[]> {
    const refused: Refused[] = [];
    for (const part of parts) {
      const error = await this.#attempt([part]);
      if (error !== undefined) refused.push({ waiting: part.waiting, error });
    }
    return refused;
  }

  /** The error when nothing was written. */
  async #attempt(parts: readonly Part[]): Promise<unknown> {
    const changes = parts.flatMap((part) => part.changes);
    try {
      if (changes.length > 0) await this.#log.commit(changes);
    } catch (error) {
      return error;
    }
    for (const { waiting } of parts) this.#committed(waiting);
    return undefined;
  }

  #committed({ contributor, resolve, reject }: Waiting): void {
    try {
      contributor.committed();
      resolve();
    } catch (error) {
      this.#onBug(error);
      reject(error);
    }
  }

  #refuse({ contributor, reject }: Waiting, error: unknown): void {
    try {
      contributor.refused(error);
    } catch (bug) {
      this.#onBug(bug);
    }
    reject(error);
  }

  /** What each has to write; one that cannot say fails alone. */
  async #gather(group: readonly Waiting[]): Promise<Part[]> {
    const parts: Part[] = [];
    for (const waiting of group) {
      try {
        const changes = waiting.contributor.contribute();
        parts.push({ waiting, changes: changes instanceof Promise ? await changes : changes });
      } catch (error) {
        this.#refuse(waiting, error);
      }
    }
    return parts;
  }
}

function refusedWith(parts: readonly Part[], error: unknown): Refused[] {
  return parts.map(({ waiting }) => ({ waiting, error }));
}
