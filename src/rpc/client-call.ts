import {
  status as GrpcStatus,
  type CallOptions as GrpcCallOptions,
  type Client as GrpcClient,
  type Metadata,
} from '@grpc/grpc-js';
import { setMaxListeners, type EventEmitter } from 'node:events';
import type { Timer } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import type { Channel, Lease } from './channel.js';
import { explainConnectionFailure, explainConnectionLost, explainNoConnection } from './connection-errors.js';
import { asMusterError, fromStatus } from './status.js';
import type { CallOptions } from './types.js';

/** What every grpc-js client call offers. */
type CallSurface = { cancel(): void } & Pick<EventEmitter, 'on'>;

interface GrpcFailure {
  readonly code: number;
  readonly details: string;
  readonly metadata?: Metadata;
}

function isGrpcFailure(error: unknown): error is GrpcFailure {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}

/**
 * The life of one call on the client's side: its deadline, its cancellation by signal, channel or consumer, and the failure
 * everybody who waits on it is told. `ended` aborts exactly once, when the call is over, with that failure as its reason.
 */
export class ActiveClientCall {
  readonly #channel: Channel;
  readonly #lease: Lease;
  readonly #options: CallOptions;
  readonly #ended = new AbortController();
  #call: CallSurface | undefined;
  #connecting: Timer | undefined;
  /** The server has begun to answer: it was reached, whatever comes. */
  #reached = false;
  /** Why this side ended the call, where it did: the transport then only says "cancelled". */
  #ours: unknown;

  /** @throws cancelled when the channel is closed or the signal has aborted */
  constructor(channel: Channel, options: CallOptions) {
    const { signal } = options;
    if (signal?.aborted) throw abortError(signal);
    this.#channel = channel;
    this.#options = options;
    this.#lease = channel.lease(this.#cancelled);
    if (signal) {
      // One signal may end any number of calls; that is no leak, and Node.js is not to warn of one.
      setMaxListeners(0, signal);
      signal.addEventListener('abort', this.#aborted, { once: true });
    }
    if (!this.#lease.connected()) {
      this.#connecting = channel.clock.after(channel.connectTimeoutMs, () => {
        if (!this.#lease.connected()) this.cancel(explainNoConnection(channel.target, channel.connectTimeoutMs));
      });
    }
  }

  get client(): GrpcClient {
    return this.#lease.client;
  }

  /** Aborts when the call has ended. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  grpcOptions(): GrpcCallOptions {
    const { timeoutMs } = this.#options;
    return timeoutMs === undefined ? {} : { deadline: this.#channel.clock.now() + timeoutMs };
  }

  /** Follows the grpc-js call to its end. */
  watch(call: CallSurface): void {
    this.#call = call;
    call.on('metadata', () => {
      this.#connecting?.cancel();
      this.#reached = true;
    });
    call.on('error', (error: unknown) => {
      this.ending(error);
    });
    call.on('status', () => {
      this.ending(null);
    });
    // Cancelled before grpc-js had begun.
    if (this.#ours !== undefined) call.cancel();
  }

  onEnd(listener: () => void): void {
    this.ended.addEventListener('abort', listener, { once: true });
  }

  /** The call is over: with a failure, or, with null, well. */
  ending(error: unknown): void {
    if (this.ended.aborted) return;
    this.#ended.abort(error === null ? new MusterError('cancelled', 'the call has ended') : this.explain(error));
  }

  /** Ends the call from this side; `reason` is what those waiting are told. */
  cancel(reason: unknown): void {
    if (this.#ours !== undefined || this.ended.aborted) return;
    this.#ours = reason;
    this.#call?.cancel();
  }

  /** What a failure of this call means. */
  explain(error: unknown): unknown {
    if (this.#ours !== undefined) return this.#ours;
    if (!isGrpcFailure(error)) return this.ended.aborted ? this.ended.reason : asMusterError(error);
    const lost = error.code === GrpcStatus.UNAVAILABLE.valueOf() || error.code === GrpcStatus.INTERNAL.valueOf();
    const said = fromStatus(error);
    // A status with a reason was written by the server; the others may be grpc-js telling of the connection.
    if (said.reason !== undefined) return said;
    if (error.code === GrpcStatus.DEADLINE_EXCEEDED.valueOf()) return tooLate(this.#options.timeoutMs, this.#channel);
    return (lost ? this.#explainLost(error) : undefined) ?? said;
  }

  /** Only what no server has answered can be a failure to reach it; a server may speak of ENOENT, too. */
  #explainLost({ details, metadata }: GrpcFailure): MusterError | undefined {
    const { target } = this.#channel;
    // grpc-js puts nothing into the metadata of statuses it makes itself; those of a server carry its headers.
    const answered = this.#reached || Object.keys(metadata?.getMap() ?? {}).length > 0;
    return answered ? explainConnectionLost(details, target) : explainConnectionFailure(details, target);
  }

  /** Lets go of the channel, the signal and the timer. Call once the outcome has been delivered. */
  finish(): void {
    this.#connecting?.cancel();
    this.#options.signal?.removeEventListener('abort', this.#aborted);
    this.#lease.release();
  }

  readonly #aborted = (): void => {
    if (this.#options.signal) this.cancel(abortError(this.#options.signal));
  };

  readonly #cancelled = (reason: MusterError): void => {
    this.cancel(reason);
  };
}

function abortError(signal: AbortSignal): MusterError {
  const reason: unknown = signal.reason;
  return reason instanceof MusterError
    ? reason
    : new MusterError('cancelled', 'the call was cancelled by its caller', { cause: reason });
}

function tooLate(timeoutMs: number | undefined, { target }: Channel): MusterError {
  const within = timeoutMs === undefined ? 'in time' : `within ${timeoutMs} ms`;
  return new MusterError(
    'deadline',
    `${target.peer} at ${target.address} did not answer ${within}; the outcome may be unknown`,
    {
      reason: 'DEADLINE',
    },
  );
}
