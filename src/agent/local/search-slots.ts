import { Slots } from '../../kit/slots.js';
import type { Principal } from '../../rpc/principal.js';

/** Searches at once of people on this machine. */
const PEOPLE_SEARCHES_MAX = 2;
/** Searches at once of all services together; each of them has one. */
const SERVICES_SEARCHES_MAX = 2;

/**
 * The places of searches that are asked for on this machine; others wait in order. They are not those of the center's searches, and those
 * of services are not those of people: nobody can hold up whom he may not command.
 */
export class LocalSearchSlots {
  readonly #people = new Slots(PEOPLE_SEARCHES_MAX);
  readonly #services = new Slots(SERVICES_SEARCHES_MAX);
  /** By service; as many as there were services that searched. */
  readonly #own = new Map<string, Slots>();

  /** Resolves with how to give the place back. */
  async take(principal: Principal): Promise<() => void> {
    if (principal.kind !== 'service') return this.#people.take();
    const giveOwnBack = await this.#ownOf(principal.service).take();
    const giveSharedBack = await this.#services.take();
    return () => {
      giveSharedBack();
      giveOwnBack();
    };
  }

  #ownOf(service: string): Slots {
    const own = this.#own.get(service) ?? new Slots(1);
    this.#own.set(service, own);
    return own;
  }
}
