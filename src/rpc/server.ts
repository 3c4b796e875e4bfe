import {
  Server as GrpcServer,
  ServerCredentials,
  type ConnectionInjector,
  type ServiceDefinition,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { setMaxListeners } from 'node:events';
import { sleep, systemClock, type Clock } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import { Dispatcher, type Authorize } from './dispatch.js';
import { setConnectionWindow, setStreamWindow, type FlowWindow } from './flow-window.js';
import { HealthState, healthImplementation } from './health-service.js';
import type { HttpHandlerFor } from './http-guard.js';
import type { Implementation } from './implementation.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { startListener, type Bound, type Listener } from './listeners.js';
import type { Principal } from './principal.js';
import { reflectionImplementations } from './reflection-service.js';

export { implement, type Implementation } from './implementation.js';
export { notAnonymous, type Authorize } from './dispatch.js';
export type { HttpHandlerFor } from './http-guard.js';
export type { Bound, Listener } from './listeners.js';
export type { Limits } from './limits.js';
export type { HealthState } from './health-service.js';

export interface RpcServerOptions {
  readonly services: readonly Implementation[];
  /** Asked before every call but those of health; reflection is for everybody who is not anonymous. */
  readonly authorize: Authorize;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly limits?: Partial<Limits>;
  /** HTTP/1.1 on the unix and loopback listeners. */
  readonly http?: HttpHandlerFor;
  /** For servers of bulk data; default: the protocol's 64 KiB. */
  readonly flowWindow?: FlowWindow;
  /** The bytes of a FileDescriptorSet of everything served (see readDescriptors); without it there is no reflection. */
  readonly descriptors?: Uint8Array;
}

/** How long calls that were told to end at the end of a drain may take to answer. */
const LAST_WORDS_MS = 1000;

/**
 * Serves gRPC (with health and reflection) on any number of listeners, and HTTP/1.1 on the local ones.
 * Lives once: after drain() it cannot listen again.
 */
export class RpcServer {
  /** What grpc.health.v1 answers; a process may add the state of its parts. */
  readonly health: HealthState;
  readonly #grpc: GrpcServer;
  readonly #injector: ConnectionInjector;
  readonly #dispatcher: Dispatcher;
  readonly #draining = new AbortController();
  readonly #bound = new Set<Bound>();
  readonly #options: RpcServerOptions;
  readonly #limits: Limits;
  readonly #clock: Clock;
  #drained: Promise<void> | undefined;

  constructor(options: RpcServerOptions) {
    this.#options = options;
    setMaxListeners(0, this.#draining.signal);
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#clock = options.clock ?? systemClock;
    this.health = new HealthState(options.services.map(({ service }) => service));
    this.#grpc = new GrpcServer(grpcOptions(this.#limits));
    this.#dispatcher = new Dispatcher({
      authorize: options.authorize,
      logger: options.logger,
      clock: this.#clock,
      unaryDeadlineMs: this.#limits.unaryDeadlineMs,
      draining: this.#draining.signal,
    });
    for (const implementation of this.#implementations()) this.#add(implementation);
    if (options.flowWindow) setStreamWindow(this.#grpc, options.flowWindow);
    this.#injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure());
    if (options.flowWindow) setConnectionWindow(this.#grpc, options.flowWindow);
  }

  /** Calls being served. */
  get activeCalls(): number {
    return this.#dispatcher.size;
  }

  /**
   * Starts one more listener.
   * @throws invalid, precondition (the address is taken), denied
   */
  async listen(listener: Listener): Promise<Bound> {
    if (this.#drained) throw new MusterError('precondition', 'this server has been drained: make a new one');
    const started = await startListener(listener, {
      limits: this.#limits,
      clock: this.#clock,
      logger: this.#options.logger,
      http: this.#options.http,
      injector: this.#injector,
    });
    const bound: Bound = {
      ...started,
      close: async () => {
        this.#bound.delete(bound);
        await started.close();
      },
    };
    this.#bound.add(bound);
    return bound;
  }

  /** Ends every call being served whose caller `matches`: one who may no longer call. The caller is told `reason`. */
  endCalls(matches: (principal: Principal) => boolean, reason: MusterError): void {
    this.#dispatcher.abortCallsOf(matches, reason);
  }

  /**
   * Ends in good order: health says NOT_SERVING, nothing new is accepted, clients are told to go elsewhere, calls get
   * `graceMs` to end, then the rest are ended as "unavailable" and every connection is cut. Resolves when none is left.
   */
  drain(graceMs: number): Promise<void> {
    this.#drained ??= this.#drain(graceMs);
    return this.#drained;
  }

  async #drain(graceMs: number): Promise<void> {
    this.health.shutdown();
    this.#draining.abort(new MusterError('unavailable', 'the server is stopping: try again in a moment'));
    await Promise.all([...this.#bound].map((bound) => bound.stop()));
    this.#injector.drain(graceMs + LAST_WORDS_MS);
    await this.#quietWithin(graceMs);
    this.#dispatcher.abortAll(
      new MusterError('unavailable', 'the server is stopping: try again in a moment', {
        reason: 'STOPPING',
        retryAfterMs: 1000,
      }),
    );
    await this.#quietWithin(LAST_WORDS_MS);
    await Promise.all([...this.#bound].map((bound) => bound.close()));
    this.#injector.destroy();
    this.#grpc.forceShutdown();
  }

  /** Waits, not for ever, until no call is served and every connection has delivered what it had to and ended. */
  async #quietWithin(limitMs: number): Promise<void> {
    const over = new AbortController();
    const waited = sleep(this.#clock, limitMs, over.signal).catch(() => undefined);
    const quiet = Promise.all([this.#dispatcher.idle(), ...[...this.#bound].map((bound) => bound.gone())]);
    await Promise.race([quiet, waited]);
    over.abort();
  }

  #implementations(): Implementation[] {
    const { services, descriptors } = this.#options;
    const health = healthImplementation(this.health);
    const names = [...services, health].map(({ service }) => service);
    return [...services, health, ...(descriptors ? reflectionImplementations(descriptors, names) : [])];
  }

  #add({ service, methods }: Implementation): void {
    const definition: Record<string, ServiceDefinition[string]> = {};
    const handlers: Record<string, UntypedHandleCall> = {};
    for (const method of methods) {
      const { deserialize, handle } = this.#dispatcher.bind(method);
      definition[method.path] = { ...method.definition, requestDeserialize: deserialize };
      handlers[method.path] = handle;
    }
    try {
      this.#grpc.addService(definition, handlers);
    } catch (error) {
      throw new MusterError('internal', `cannot serve ${service}: it is implemented twice`, { cause: error });
    }
  }
}

function grpcOptions(limits: Limits): Record<string, number> {
  return {
    'grpc.max_concurrent_streams': limits.streamsPerConnectionMax,
    'grpc.max_receive_message_length': limits.messageBytesMax,
    'grpc.max_send_message_length': limits.messageBytesMax,
    'grpc.keepalive_time_ms': limits.keepaliveIntervalMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
    'grpc-node.max_session_memory': limits.sessionMemoryMaxMb,
    'grpc.enable_channelz': 0,
  };
}
