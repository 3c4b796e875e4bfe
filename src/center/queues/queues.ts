import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { didYouMean } from '../../kit/suggest.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { parseAddress } from '../../rpc/addresses.js';
import type { Principal } from '../../rpc/principal.js';
import type { Mutation } from '../../store/port.js';
import type { Table } from '../table.js';

/** A queue as it is stored. Times are wall-clock milliseconds. */
export interface QueueRecord {
  readonly name: string;
  /** HOST:PORT; empty until the queue has told it. */
  readonly address: string;
  readonly joinedMs: number;
  readonly lastSeenMs: number | undefined;
  /** Set when it was removed: it is listed no more and its certificate is refused. */
  readonly removedMs?: number;
  readonly removedBy?: string;
}

export interface QueuesOptions {
  readonly table: Table<QueueRecord>;
  readonly clock: Clock;
  /** Life of certificates, milliseconds. */
  readonly leafLifetimeMs: number;
}

const ADDRESS_LENGTH_MAX = 300;

/**
 * The queues of the site. A queue is known by its name alone, so the name of a removed one is not given out again before the last
 * certificate with it has ended: until then the removed record stays, and refuses.
 */
export class Queues {
  readonly #table: Table<QueueRecord>;
  readonly #clock: Clock;
  readonly #leafLifetimeMs: number;
  /** One change of a queue at a time: none may undo a removal. */
  readonly #turns = new KeyedMutex();

  constructor({ table, clock, leafLifetimeMs }: QueuesOptions) {
    this.#table = table;
    this.#clock = clock;
    this.#leafLifetimeMs = leafLifetimeMs;
  }

  /** By name. */
  list(): QueueRecord[] {
    const present = this.#table.values().filter(({ removedMs }) => removedMs === undefined);
    return present.sort((a, b) => a.name.localeCompare(b.name, 'en'));
  }

  /** @throws not_found naming the nearest queue */
  require(name: string): QueueRecord {
    const record = this.#table.get(name);
    if (record && record.removedMs === undefined) return record;
    const hint = didYouMean(
      name,
      this.list().map((queue) => queue.name),
    );
    const next = hint === '' ? ' See `muster queues` for those that have joined.' : hint;
    throw new MusterError('not_found', `there is no queue "${name}".${next}`, { reason: 'QUEUE_UNKNOWN' });
  }

  /**
   * Makes room for a joining queue: a new one, or the one of that name where `again` allows it. `write` makes the change durable,
   * together with whatever allows it, and resolves with the revision.
   * @throws exists when the name is taken, or was and may still be in a certificate
   */
  async join(
    { name, again }: { readonly name: string; readonly again: boolean },
    write: (also: Mutation) => Promise<number>,
  ): Promise<void> {
    await this.#turns.run(name, async () => {
      const before = this.#table.get(name);
      if (before?.removedMs !== undefined) this.#assertFreeAgain(before.name, before.removedMs);
      else if (before && !again) throw nameTaken(name);
      const record: QueueRecord =
        before && before.removedMs === undefined
          ? before
          : { name, address: '', joinedMs: this.#clock.now(), lastSeenMs: undefined };
      const revision = await write(this.#table.putting(name, record));
      this.#table.applied(name, record, revision);
    });
  }

  /** Notes where the queue is, and that it is there. Resolves once durable. @throws invalid; not_found */
  async register(name: string, address: string): Promise<void> {
    assertAddress(address);
    await this.#turns.run(name, () =>
      this.#table.put(name, { ...this.require(name), address, lastSeenMs: this.#clock.now() }),
    );
  }

  /** Shuts the queue out. Resolves once durable. @throws not_found */
  async remove(name: string, by: string): Promise<void> {
    await this.#turns.run(name, () =>
      this.#table.put(name, { ...this.require(name), removedMs: this.#clock.now(), removedBy: by }),
    );
  }

  /** @throws unauthenticated when the principal is a queue that is not of this site any more */
  assertValid(principal: Principal): void {
    if (principal.kind !== 'queue') return;
    const record = this.#table.get(principal.name);
    if (record && record.removedMs === undefined) return;
    const when = record?.removedMs === undefined ? '' : ` at ${new Date(record.removedMs).toISOString()}`;
    throw new MusterError(
      'unauthenticated',
      `queue ${principal.name} was removed from the site${when}: join it again with a new token, under another name`,
      { reason: 'QUEUE_REMOVED' },
    );
  }

  #assertFreeAgain(name: string, removedMs: number): void {
    const freeMs = removedMs + this.#leafLifetimeMs;
    if (this.#clock.now() >= freeMs) return;
    throw new MusterError(
      'exists',
      `a queue "${name}" was removed, and its last certificate is over by ${new Date(freeMs).toISOString()}: choose another with --name, or come back then`,
      { reason: 'QUEUE_NAME_REMOVED' },
    );
  }
}

function nameTaken(name: string): MusterError {
  return new MusterError(
    'exists',
    `there is a queue "${name}" already: choose another --name, or join it anew with a token made by \`muster token create --queue --name ${name}\``,
    { reason: 'QUEUE_NAME_TAKEN' },
  );
}

/** @throws invalid */
function assertAddress(address: string): void {
  const field = { fields: [{ field: 'address', description: 'must be HOST:PORT' }] };
  const readable = address.length <= ADDRESS_LENGTH_MAX && parseAddress(address).kind === 'tcp';
  if (readable) return;
  throw new MusterError('invalid', 'a queue is reached at HOST:PORT: give that with --advertise', field);
}
