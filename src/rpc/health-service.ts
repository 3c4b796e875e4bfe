import {
  HealthCheckResponse_ServingStatus as Serving,
  HealthService,
  type HealthCheckResponse,
} from '../../generated/grpc/health/v1/health.js';
import { MusterError } from '../kit/errors.js';
import { didYouMean } from '../kit/suggest.js';
import { implement, type Implementation } from './implementation.js';
import type { CallContext } from './types.js';

export type ServingState = 'serving' | 'not_serving';

/** The health of a server (name "") and of each service it serves. */
export class HealthState {
  readonly #states = new Map<string, ServingState>();
  #changed: (() => void)[] = [];
  #stopped = false;

  constructor(services: readonly string[]) {
    for (const name of ['', ...services]) this.#states.set(name, 'serving');
  }

  get names(): Iterable<string> {
    return this.#states.keys();
  }

  /** Undefined for a name never heard of. */
  state(name: string): ServingState | undefined {
    return this.#states.get(name);
  }

  /** Has no effect after shutdown(). */
  set(name: string, state: ServingState): void {
    if (this.#stopped || this.#states.get(name) === state) return;
    this.#states.set(name, state);
    this.#tell();
  }

  /** Everything is not serving from now on. */
  shutdown(): void {
    this.#stopped = true;
    for (const name of this.#states.keys()) this.#states.set(name, 'not_serving');
    this.#tell();
  }

  /** Resolves at the next change, or when the signal aborts. */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        this.#changed = this.#changed.filter((other) => other !== done);
        resolve();
      };
      this.#changed.push(done);
      signal.addEventListener('abort', done, { once: true });
      if (signal.aborted) done();
    });
  }

  #tell(): void {
    for (const tell of [...this.#changed]) tell();
  }
}

const STATUS = { serving: Serving.SERVING, not_serving: Serving.NOT_SERVING } as const satisfies Record<
  ServingState,
  Serving
>;

/** grpc.health.v1: needs no credentials, and tells nothing but whether we serve. */
export function healthImplementation(health: HealthState): Implementation {
  return implement(HealthService, {
    check: ({ service }) => {
      const state = health.state(service);
      if (!state) {
        const hint = didYouMean(service, health.names);
        return Promise.reject(new MusterError('not_found', `no service "${service}" is served here.${hint}`));
      }
      return Promise.resolve({ status: STATUS[state] });
    },
    watch: ({ service }, { signal }: CallContext) => watch(health, service, signal),
  });
}

async function* watch(health: HealthState, name: string, signal: AbortSignal): AsyncGenerator<HealthCheckResponse> {
  let told: Serving | undefined;
  while (!signal.aborted) {
    const state = health.state(name);
    const status = state ? STATUS[state] : Serving.SERVICE_UNKNOWN;
    if (status !== told) {
      told = status;
      yield { status };
    } else {
      await health.changed(signal);
    }
  }
}
