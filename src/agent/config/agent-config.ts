import type { Clock } from '../../kit/clock.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import type { Store } from '../../store/port.js';
import type { CenterAccess, ConfigPins } from '../ports.js';
import { ConfigCache, type Wanted } from './cache.js';
import { configHandlers, remoteConfig } from './service.js';
import { ConfigSync } from './sync.js';

export interface AgentConfigOptions {
  readonly store: Store;
  readonly center: CenterAccess;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** The agent's part in configuration, as its composition root and its link need it. */
export class AgentConfig {
  readonly #options: AgentConfigOptions;
  readonly #cache: ConfigCache;

  private constructor(options: AgentConfigOptions, cache: ConfigCache) {
    this.#options = options;
    this.#cache = cache;
  }

  /** @throws as Store.range */
  static async open(options: AgentConfigOptions): Promise<AgentConfig> {
    return new AgentConfig(options, await ConfigCache.open(options.store, options.clock, options.logger));
  }

  /** Of `muster.v1.Config`: services read their own, who are known by their sockets; operators read any. */
  handlers(): ReturnType<typeof configHandlers> {
    const { center, clock } = this.#options;
    return configHandlers({ cache: this.#cache, center, clock });
  }

  /** Fetches what is wanted and hands on what services said, until the signal aborts. */
  run(signal: AbortSignal): Promise<void> {
    const { center, clock, random, logger } = this.#options;
    const remote = remoteConfig(center);
    return new ConfigSync({ cache: this.#cache, remote, center, clock, random, logger }).run(signal);
  }

  /** The link: an assignment names what the service should have. Fetched in the background where it is not held. */
  refresh(service: string, wanted: Wanted): void {
    this.#cache.refresh(service, wanted);
  }

  /** The link: revision on this machine's disk, and the newest the service said it runs with; 0 for none. */
  of(service: string): { readonly held: number; readonly applied: number } {
    return { held: this.#cache.held(service), applied: this.#cache.applied(service) };
  }

  /** Configurations kept with releases. */
  get pins(): ConfigPins {
    return this.#cache.pins;
  }

  /** Calls `listener` with the service after of() it may have changed. Returns how to stop. */
  onChange(listener: (service: string) => void): () => void {
    return this.#cache.onChange(listener);
  }

  /** The machine has the service no more. */
  forget(service: string): Promise<void> {
    return this.#cache.forget(service);
  }
}
