import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { describePrincipal, type Principal } from '../../rpc/principal.js';
import type { Table } from '../table.js';

export interface Revocation {
  /** Machine id. */
  readonly machine: string;
  readonly name: string;
  readonly revokedMs: number;
  readonly revokedBy: string;
}

/**
 * Machines that were removed: neither their agents nor their services are let in again. An id is never given to a second machine,
 * so a revocation is forever and there is no list to send around.
 */
export class Revocations {
  readonly #table: Table<Revocation>;
  readonly #clock: Clock;

  constructor(table: Table<Revocation>, clock: Clock) {
    this.#table = table;
    this.#clock = clock;
  }

  has(machine: string): boolean {
    return this.#table.has(machine);
  }

  /** Resolves once durable. */
  async revoke(machine: string, name: string, by: string): Promise<void> {
    await this.#table.put(machine, { machine, name, revokedMs: this.#clock.now(), revokedBy: by });
  }

  /** @throws unauthenticated when the principal belongs to a removed machine */
  assertValid(principal: Principal): void {
    if (principal.kind !== 'agent' && principal.kind !== 'service') return;
    const revocation = this.#table.get(principal.machine);
    if (!revocation) return;
    const when = new Date(revocation.revokedMs).toISOString();
    throw new MusterError(
      'unauthenticated',
      `${describePrincipal(principal)} (${revocation.name}) was removed from the site at ${when}: join the machine again with a new token`,
      { reason: 'MACHINE_REMOVED' },
    );
  }
}
