import type { ConfigSnapshot } from '../../config/wire.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';

/** A configuration that was put back by a rollback: revisions of the center are not taken before they are higher than this. */
interface Pin {
  readonly untilAbove: number;
}

/**
 * Configurations kept with releases, and which services were put back to one, on disk: `config/kept/SERVICE/DIGEST` and `config/pin/SERVICE`.
 */
export class KeptConfigs {
  readonly #snapshots: Documents<ConfigSnapshot>;
  readonly #stored: Documents<Pin>;
  readonly #pins = new Map<string, Pin>();

  private constructor(store: Store) {
    this.#snapshots = new Documents<ConfigSnapshot>(store, 'config/kept/');
    this.#stored = new Documents<Pin>(store, 'config/pin/');
  }

  /** @throws as Store.range */
  static async open(store: Store): Promise<KeptConfigs> {
    const kept = new KeptConfigs(store);
    for await (const { id, value } of kept.#stored.list()) kept.#pins.set(id, value);
    return kept;
  }

  /** The revision up to which nothing is taken; 0: not pinned. */
  pinnedUntil(service: string): number {
    return this.#pins.get(service)?.untilAbove ?? 0;
  }

  async find(service: string, digest: string): Promise<ConfigSnapshot | undefined> {
    return (await this.#snapshots.get(idOf(service, digest)))?.value;
  }

  /** Resolves once durable. Nothing is kept of revision 0, which is none. */
  async keep(service: string, digest: string, snapshot: ConfigSnapshot): Promise<void> {
    if (snapshot.revision > 0) await this.#snapshots.put(idOf(service, digest), snapshot);
    else await this.drop(service, digest);
  }

  async drop(service: string, digest: string): Promise<void> {
    await this.#snapshots.delete(idOf(service, digest));
  }

  /** Resolves once durable. */
  async pin(service: string, untilAbove: number): Promise<void> {
    await this.#stored.put(service, { untilAbove });
    this.#pins.set(service, { untilAbove });
  }

  async unpin(service: string): Promise<void> {
    if (!this.#pins.has(service)) return;
    await this.#stored.delete(service);
    this.#pins.delete(service);
  }

  /** Forgets a service that is no more. */
  async forget(service: string): Promise<void> {
    await this.unpin(service);
    for await (const { id } of this.#snapshots.list({ prefix: idOf(service, '') })) await this.#snapshots.delete(id);
  }
}

function idOf(service: string, digest: string): string {
  return `${service}/${digest}`;
}
