import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { CenterAccess } from '../ports.js';
import { askForQueues, type KnownQueue } from './wire.js';

export interface QueuesAnswer {
  /** Those that can be reached, by name. */
  readonly queues: readonly KnownQueue[];
  /** The center could not be asked now. */
  readonly stale: boolean;
}

export interface KnownQueuesOptions {
  readonly store: Store;
  readonly center: CenterAccess;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** How long a service that asks waits for the center before it gets what the disk has, milliseconds. */
const ASK_TIMEOUT_MS = 1500;
/** An answer this young is given again without asking: services that start together ask together. */
const FRESH_MS = 1000;
/** Nobody may ask for a long time; what is on the disk shall be of use all the same when the center is gone. */
const REFRESH_MS = 300_000;
const ID = 'known';

/** Where the queues of the site are: asked of the center, and kept on disk for when it is gone. */
export class KnownQueues {
  readonly #options: KnownQueuesOptions;
  readonly #documents: Documents<readonly KnownQueue[]>;
  #known: readonly KnownQueue[];
  #freshUntilMs = 0;
  #asking: Promise<void> | undefined;

  private constructor(
    options: KnownQueuesOptions,
    documents: Documents<readonly KnownQueue[]>,
    known: readonly KnownQueue[],
  ) {
    this.#options = options;
    this.#documents = documents;
    this.#known = known;
  }

  /** @throws as Store.get */
  static async open(options: KnownQueuesOptions): Promise<KnownQueues> {
    const documents = new Documents<readonly KnownQueue[]>(options.store, 'queues/');
    return new KnownQueues(options, documents, (await documents.get(ID))?.value ?? []);
  }

  /** Never fails for the center's sake: then it answers with what was known last. */
  async get(): Promise<QueuesAnswer> {
    const stale = !(await this.#refresh());
    return { queues: this.#known.filter(({ address }) => address !== ''), stale };
  }

  /** Keeps what is on the disk up to date, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { center, clock, random } = this.#options;
    const stop = center.onConnection((connected) => {
      if (connected) void this.#refresh();
    });
    try {
      for (;;) {
        await this.#refresh();
        await sleep(clock, REFRESH_MS * (1 + random.next()), signal);
      }
    } finally {
      stop();
    }
  }

  /** Whether what is known is what the center says now. */
  async #refresh(): Promise<boolean> {
    const { center, clock, logger } = this.#options;
    if (!center.connected) return false;
    if (clock.monotonic() < this.#freshUntilMs) return true;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    try {
      await this.#asking;
      return true;
    } catch (error) {
      logger.debug('the center could not say where the queues are', { error });
      return false;
    }
  }

  async #ask(): Promise<void> {
    const { center, clock } = this.#options;
    const channel = center.channel();
    if (!channel) throw new MusterError('unavailable', 'this machine has not joined a center');
    const known = await askForQueues(channel, ASK_TIMEOUT_MS);
    const changed = addressesOf(known) !== addressesOf(this.#known);
    this.#known = known;
    this.#freshUntilMs = clock.monotonic() + FRESH_MS;
    // When a queue was last seen is not worth a write.
    if (changed) await this.#documents.put(ID, known);
  }
}

function addressesOf(queues: readonly KnownQueue[]): string {
  return JSON.stringify(queues.map(({ name, address }) => [name, address]));
}
