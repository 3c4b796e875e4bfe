import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';

interface StoredEpoch {
  readonly epoch: number;
}

const ID = 'epoch';

/** Numbers the agent's sessions: each number is on disk before it is used, so none is used twice, whatever is killed when. */
export class SessionEpoch {
  readonly #documents: Documents<StoredEpoch>;
  #last: number;

  private constructor(documents: Documents<StoredEpoch>, last: number) {
    this.#documents = documents;
    this.#last = last;
  }

  /** @throws as Store.get */
  static async open(store: Store): Promise<SessionEpoch> {
    const documents = new Documents<StoredEpoch>(store, 'session/');
    const found = await documents.get(ID);
    return new SessionEpoch(documents, found?.value.epoch ?? 0);
  }

  /** The number of the next session; above `atLeast` where the center has seen more than this disk remembers. @throws as Store.write */
  async next(atLeast = 0): Promise<number> {
    this.#last = Math.max(this.#last, atLeast) + 1;
    await this.#documents.put(ID, { epoch: this.#last });
    return this.#last;
  }
}
