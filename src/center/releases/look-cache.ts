import { Slots } from '../../kit/slots.js';
import { lookAtModule, lookAtRelease, type LookedAtModule, type LookedAtRelease } from './admission.js';
import type { Archives } from './archives.js';

/** Archives looked at at once. More wait. */
const LOOKS_MAX = 2;
/** What is remembered of archives that were looked at; the oldest is forgotten first. */
const REMEMBERED_MAX = 16;

/**
 * What looking at archives found. A large one takes longer than a caller may wait: who asks again then gets what was found meanwhile. Refusals are
 * not remembered: their archives go.
 */
export class LookCache {
  readonly #slots = new Slots(LOOKS_MAX);
  readonly #releases = new Map<string, LookedAtRelease>();
  readonly #modules = new Map<string, LookedAtModule>();

  /** @throws as lookAtRelease and Archives.check */
  release(digest: string, archives: Archives): Promise<LookedAtRelease> {
    return this.#look(this.#releases, digest, async () => lookAtRelease(await archives.check(digest)));
  }

  /** @throws as lookAtModule and Archives.check */
  module(digest: string, archives: Archives): Promise<LookedAtModule> {
    return this.#look(this.#modules, digest, async () => lookAtModule(await archives.check(digest)));
  }

  forget(digest: string): void {
    this.#releases.delete(digest);
    this.#modules.delete(digest);
  }

  async #look<T>(remembered: Map<string, T>, digest: string, look: () => Promise<T>): Promise<T> {
    const known = remembered.get(digest);
    if (known !== undefined) return known;
    const leave = await this.#slots.take();
    try {
      const found = await look();
      remembered.set(digest, found);
      for (const oldest of [...remembered.keys()].slice(0, -REMEMBERED_MAX)) remembered.delete(oldest);
      return found;
    } finally {
      leave();
    }
  }
}
