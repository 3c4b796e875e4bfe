import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { Deploy } from './deploy.js';

/** Deploys that have ended are remembered until their command's outcome is on the disk; so many at most. */
const ENDED_MAX = 50;

/** The deploys on this agent's disk. A change is seen by find() only once it is durable. */
export class DeployJournal {
  readonly #documents: Documents<Deploy>;
  /** In the order they began. */
  readonly #deploys = new Map<string, Deploy>();

  private constructor(documents: Documents<Deploy>) {
    this.#documents = documents;
  }

  /** @throws as Store.range */
  static async open(store: Store): Promise<DeployJournal> {
    const journal = new DeployJournal(new Documents<Deploy>(store, 'deploy/'));
    const found = (await journal.#documents.all()).map(({ value }) => value);
    for (const deploy of found.sort((a, b) => a.startedMs - b.startedMs)) journal.#deploys.set(deploy.id, deploy);
    return journal;
  }

  find(id: string): Deploy | undefined {
    return this.#deploys.get(id);
  }

  all(): readonly Deploy[] {
    return [...this.#deploys.values()];
  }

  unfinished(): readonly Deploy[] {
    return [...this.#deploys.values()].filter(({ end }) => end === undefined);
  }

  /** Resolves once it is on disk. @throws as Store.write */
  async write(deploy: Deploy): Promise<void> {
    await this.#documents.put(deploy.id, deploy);
    this.#deploys.set(deploy.id, deploy);
    if (deploy.end) await this.#prune();
  }

  async remove(id: string): Promise<void> {
    await this.#documents.delete(id);
    this.#deploys.delete(id);
  }

  async #prune(): Promise<void> {
    const ended = [...this.#deploys.values()].filter(({ end }) => end !== undefined);
    for (const { id } of ended.slice(0, Math.max(0, ended.length - ENDED_MAX))) await this.remove(id);
  }
}
