import { MusterError } from '../../kit/errors.js';
import type { DeployStep } from '../../model/release.js';

interface Holding {
  readonly why: string;
  step: DeployStep | undefined;
}

/** Which services are held by a deploy, in memory: an agent that ends lets all go. */
export class Holds {
  readonly #held = new Map<string, Holding>();

  has(service: string): boolean {
    return this.#held.has(service);
  }

  /** @param why what holds it, for people. @throws conflict while another holds it */
  take(service: string, why: string): void {
    this.check(service);
    this.#held.set(service, { why, step: undefined });
  }

  /** @throws conflict naming the hold */
  check(service: string): void {
    const holding = this.#held.get(service);
    if (!holding) return;
    throw new MusterError(
      'conflict',
      `${service} is held by ${holding.why}: wait until that has ended, then try again`,
      { reason: 'SERVICE_HELD' },
    );
  }

  letGo(service: string): void {
    this.#held.delete(service);
  }

  stepOf(service: string): DeployStep | undefined {
    return this.#held.get(service)?.step;
  }

  step(service: string, step: DeployStep | undefined): void {
    const holding = this.#held.get(service);
    if (holding) holding.step = step;
  }
}
