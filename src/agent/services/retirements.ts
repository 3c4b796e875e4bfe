import { MusterError, isCode, messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Heard } from '../ports.js';
import type { Supervisor } from './supervisor.js';

export interface RetirementsOptions {
  readonly logger: Logger;
  /** Drops all that is known of a service that has ended. Where it fails it is called again. @throws cancelled when the agent stops */
  readonly forget: (supervisor: Supervisor) => Promise<void>;
}

interface Retirement {
  readonly supervisor: Supervisor;
  trying: Promise<void> | undefined;
  /** Why the last try failed; empty before that. */
  problem: string;
  heard: Heard;
}

const NOBODY: Heard = () => undefined;

/** Services that are no longer wanted here: each is stopped, as often as it takes, and then forgotten. */
export class Retirements {
  readonly #options: RetirementsOptions;
  readonly #open = new Map<string, Retirement>();

  constructor(options: RetirementsOptions) {
    this.#options = options;
  }

  has(service: string): boolean {
    return this.#open.has(service);
  }

  /** Begins to end it, in the background, where that was not begun. */
  begin(supervisor: Supervisor): void {
    if (this.has(supervisor.service)) return;
    const retirement: Retirement = { supervisor, trying: undefined, problem: '', heard: NOBODY };
    this.#open.set(supervisor.service, retirement);
    this.#start(retirement);
  }

  /** The latest to ask hears what becomes of it. */
  hear(service: string, heard: Heard): void {
    const retirement = this.#open.get(service);
    if (!retirement) return;
    retirement.heard = heard;
    if (retirement.problem !== '') heard(retirement.problem);
  }

  /** Tries again to end those that did not. */
  retry(): void {
    for (const retirement of this.#open.values()) if (!retirement.trying) this.#start(retirement);
  }

  /** Resolves after the tries that are under way, whatever came of them. */
  async settled(): Promise<void> {
    for (const { trying } of [...this.#open.values()]) await trying;
  }

  /** Waits for the try that is under way. @throws precondition where the service has still not ended */
  async cleared(service: string): Promise<void> {
    const retirement = this.#open.get(service);
    await retirement?.trying;
    if (retirement && this.#open.get(service) === retirement) throw refusal(service, retirement.problem);
  }

  /** @throws precondition for one that is to end: nothing else may be done with it */
  check(service: string): void {
    const retirement = this.#open.get(service);
    if (retirement) throw refusal(service, retirement.problem);
  }

  #start(retirement: Retirement): void {
    retirement.trying = this.#try(retirement).finally(() => {
      retirement.trying = undefined;
    });
  }

  async #try(retirement: Retirement): Promise<void> {
    const { supervisor } = retirement;
    const { service } = supervisor;
    try {
      await supervisor.halt();
      await this.#options.forget(supervisor);
      this.#open.delete(service);
      retirement.heard(undefined);
    } catch (error) {
      // The agent stops; the next one begins anew.
      if (isCode(error, 'cancelled')) return;
      const problem = messageOf(error);
      if (problem === retirement.problem) return;
      retirement.problem = problem;
      this.#options.logger.error('a removed service could not be ended; it is tried again', { service, error });
      retirement.heard(problem);
    }
  }
}

function refusal(service: string, problem: string): MusterError {
  const why = problem === '' ? '' : ` (${problem})`;
  return new MusterError(
    'precondition',
    `${service} was removed from this machine and has not ended yet${why}; the agent goes on trying`,
    { reason: 'BEING_REMOVED' },
  );
}
