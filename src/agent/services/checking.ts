import { MusterError } from '../../kit/errors.js';
import { worstHealth, type CheckResult, type Health } from '../../model/instance.js';
import type { Checks, ChecksFactory, CheckSubject, ReportedHealth } from '../probes/checks.js';

/** The checks of one instance while it runs; none while it does not. */
export class Checking {
  readonly #factory: ChecksFactory;
  readonly #onResult: () => void;
  #checks: Checks | undefined;
  #results: readonly CheckResult[] = [];

  constructor(factory: ChecksFactory, onResult: () => void) {
    this.#factory = factory;
    this.#onResult = onResult;
  }

  /** Empty while it does not run. */
  get results(): readonly CheckResult[] {
    return this.#results;
  }

  get health(): Health {
    return worstHealth(this.#results.map((result) => result.health));
  }

  /** Ends what is under way and begins anew; undefined only ends. */
  follow(subject: CheckSubject | undefined): void {
    this.#checks?.stop();
    this.#checks = undefined;
    this.#results = [];
    if (!subject) return;
    const checks = this.#factory.start(subject, (results) => {
      if (this.#checks !== checks) return;
      this.#results = results;
      this.#onResult();
    });
    this.#checks = checks;
    this.#results = checks.current;
  }

  /** @throws precondition where it does not run or has no ttl ping */
  report(service: string, health: ReportedHealth, output: string): number {
    if (this.#checks) return this.#checks.report(health, output);
    throw new MusterError('precondition', `${service} does not run: start it before it reports its health`, {
      reason: 'NOT_RUNNING',
    });
  }
}
