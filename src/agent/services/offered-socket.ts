import type { Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import {
  LaunchRefused,
  type Observation,
  type Running,
  type ServiceDriver,
  type Subject,
  type Unit,
} from './driver.js';
import type { EnvironmentOf } from './process-driver.js';
import { chooseUser } from './users.js';

export interface OfferedSocketOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Makes the socket. */
  readonly environmentOf: EnvironmentOf;
}

/**
 * A driver whose services are started by others, with each service's own socket ready before it is started or taken over. Others give the
 * service its environment, so it is told there where the socket is. The socket belongs to the manifest's `user`, else to the agent's own.
 */
export class OfferedSocketDriver implements ServiceDriver {
  readonly pace: ServiceDriver['pace'];
  readonly #inner: ServiceDriver;
  readonly #options: OfferedSocketOptions;

  constructor(inner: ServiceDriver, options: OfferedSocketOptions) {
    this.pace = inner.pace;
    this.#inner = inner;
    this.#options = options;
  }

  unit(subject: Subject, onEnd: () => void): Unit {
    return new OfferedSocketUnit(this.#inner.unit(subject, onEnd), subject, this.#options);
  }
}

class OfferedSocketUnit implements Unit {
  readonly #inner: Unit;
  readonly #subject: Subject;
  readonly #options: OfferedSocketOptions;

  constructor(inner: Unit, subject: Subject, options: OfferedSocketOptions) {
    this.#inner = inner;
    this.#subject = subject;
    this.#options = options;
  }

  get surroundings(): Unit['surroundings'] {
    return this.#inner.surroundings;
  }

  async find(): Promise<Running | undefined> {
    try {
      await this.#offer();
    } catch (error) {
      this.#options.logger.warn('a service may lack its socket', { service: this.#subject.manifest.name, error });
    }
    return this.#inner.find();
  }

  async start(): Promise<Running> {
    await this.#offer();
    return this.#inner.start();
  }

  terminate(): Promise<void> {
    return this.#inner.terminate();
  }

  kill(): Promise<void> {
    return this.#inner.kill();
  }

  observe(): Promise<Observation> {
    return this.#inner.observe();
  }

  lastLines(): Promise<readonly string[]> {
    return this.#inner.lastLines();
  }

  /** @throws LaunchRefused where there is no such user, or the socket cannot be made */
  async #offer(): Promise<void> {
    const { clock, environmentOf } = this.#options;
    const { name: service, user } = this.#subject.manifest;
    const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const { uid, gid } = user === undefined ? own : await chooseUser(clock, user, user, own.uid);
    try {
      await environmentOf({ service, uid, gid });
    } catch (error) {
      throw new LaunchRefused(`its own socket cannot be made: ${messageOf(error)}`, true, error);
    }
  }
}
