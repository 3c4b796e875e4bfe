import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import type { Random } from '../../kit/random.js';
import type { CheckResult } from '../../model/instance.js';
import type { Checks, ChecksFactory, CheckSubject, ReportedHealth } from './checks.js';
import { pingCheck, portChecks } from './plan.js';
import { PolledCheck, type PolledCheckSpec } from './polled-check.js';
import { Slots } from '../../kit/slots.js';
import { TtlCheck } from './ttl-check.js';

/** Connections asked at once, over all services of the machine; more wait their turn. */
const CONNECTING_MAX = 32;
/** Programs run at once by exec pings: each costs a process. */
const RUNNING_MAX = 4;

export interface ProbingParts {
  readonly clock: Clock;
  readonly random: Random;
}

/** The checks of all services of a machine. */
export class Probing implements ChecksFactory {
  readonly #parts: ProbingParts;
  readonly #connecting = new Slots(CONNECTING_MAX);
  readonly #running = new Slots(RUNNING_MAX);

  constructor(parts: ProbingParts) {
    this.#parts = parts;
  }

  start(subject: CheckSubject, onResult: (checks: readonly CheckResult[]) => void): Checks {
    const { ping } = subject.manifest;
    const { clock, random } = this.#parts;
    const tell = (): void => {
      onResult(checks.current);
    };
    const polled = (spec: PolledCheckSpec): PolledCheck => {
      const slots = spec.kind === 'exec' ? this.#running : this.#connecting;
      return new PolledCheck(spec, { clock, random, slots, startedMs: subject.startedMs, onResult: tell });
    };
    const specs = portChecks(subject);
    if (ping && ping.kind !== 'ttl') specs.push(pingCheck(ping, subject, clock));
    const ttl = ping?.kind === 'ttl' ? new TtlCheck(ping.ttlMs, clock, tell) : undefined;
    const checks = new ServiceChecks(subject.service, specs.map(polled), ttl);
    return checks;
  }
}

class ServiceChecks implements Checks {
  readonly #service: string;
  readonly #polled: readonly PolledCheck[];
  readonly #ttl: TtlCheck | undefined;
  #stopped = false;

  constructor(service: string, polled: readonly PolledCheck[], ttl: TtlCheck | undefined) {
    this.#service = service;
    this.#polled = polled;
    this.#ttl = ttl;
  }

  get current(): readonly CheckResult[] {
    const all = this.#ttl ? [...this.#polled, this.#ttl] : this.#polled;
    return all.map((check) => check.result);
  }

  report(health: ReportedHealth, output: string): number {
    if (!this.#ttl) {
      throw new MusterError(
        'precondition',
        `${this.#service} has no ttl ping: say "ping: { ttl: 30s }" in its manifest to let it report its own health`,
        { reason: 'NO_TTL_PING' },
      );
    }
    if (this.#stopped) {
      throw new MusterError('precondition', `${this.#service} is not running: start it before it reports its health`, {
        reason: 'NOT_RUNNING',
      });
    }
    return this.#ttl.report(health, output);
  }

  stop(): void {
    this.#stopped = true;
    for (const check of this.#polled) check.stop();
    this.#ttl?.stop();
  }
}
