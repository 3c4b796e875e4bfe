import type {
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  UntypedHandleCall,
  sendUnaryData,
} from '@grpc/grpc-js';
import { setMaxListeners, type EventEmitter } from 'node:events';
import { sleep, systemClock, type Clock, type Timer } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import { newId } from '../kit/ids.js';
import type { Logger } from '../kit/logger.js';
import { connectionOf } from './connection.js';
import type { ErasedHandler, ImplementedMethod } from './implementation.js';
import { describePrincipal, type Principal } from './principal.js';
import { toStatus, type StatusObject } from './status.js';
import { receive, SendWindow, untilAborted } from './streams.js';
import type { CallContext, Duplex } from './types.js';

/** Throws denied or unauthenticated unless this principal may call this method (`muster.v1.Center/ListMachines`). */
export type Authorize = (principal: Principal, method: string) => void;

export interface DispatchOptions {
  readonly authorize: Authorize;
  readonly logger: Logger;
  readonly clock: Clock;
  /** For unary calls whose caller set no deadline, milliseconds. */
  readonly unaryDeadlineMs: number;
  /** Aborts when the server begins to drain. */
  readonly draining: AbortSignal;
}

/**
 * A client on Node.js that cancels a call first sends the ordinary end of its messages and then the reset, in two writes. The
 * end is believed only when no reset has followed within this time; otherwise a half-sent upload would pass for a whole one.
 * What must be whole whatever happens says so in its last message.
 */
const RESET_GRACE_MS = 20;

const HEALTH_PREFIX = 'grpc.health.v1.Health/';
const REFLECTION_PREFIX = 'grpc.reflection.';

/** Stands for a request whose bytes are not the message they should be. */
class Malformed {
  readonly cause: unknown;

  constructor(cause: unknown) {
    this.cause = cause;
  }
}

type SurfaceCall = Pick<ServerUnaryCall<unknown, unknown>, 'cancelled' | 'getDeadline' | 'metadata'> &
  Pick<EventEmitter, 'on'>;

/** One call being served: its signal, its deadline, and how it ended. */
class ActiveCall {
  readonly method: string;
  /** Who is calling; anonymous until that is known. */
  principal: Principal = { kind: 'anonymous' };
  readonly #controller = new AbortController();
  #timer: Timer | undefined;

  constructor(call: SurfaceCall, method: string, { clock, unaryDeadlineMs }: DispatchOptions, unary: boolean) {
    this.method = method;
    // A handler may hang as much on its signal as it likes; Node.js is not to take that for a leak.
    setMaxListeners(0, this.signal);
    const deadline = call.getDeadline();
    const deadlineMs = typeof deadline === 'number' ? deadline : deadline.getTime();
    // grpc-js reports the deadline and the caller's leaving alike; the clock tells them apart.
    call.on('cancelled', () => {
      const late = clock.now() >= deadlineMs;
      this.abort(
        late ? new MusterError('deadline', 'the deadline passed') : new MusterError('cancelled', 'the caller left'),
      );
    });
    if (call.cancelled) this.abort(new MusterError('cancelled', 'the caller left'));
    if (unary && deadlineMs === Infinity) {
      this.#timer = clock.after(unaryDeadlineMs, () => {
        const limit = `${unaryDeadlineMs} ms`;
        this.abort(new MusterError('deadline', `the call took longer than ${limit}; its outcome may be unknown`));
      });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: MusterError): void {
    this.#controller.abort(reason);
  }

  finish(): void {
    this.#timer?.cancel();
    // Whatever the handler left running sees that nobody waits any more.
    this.#controller.abort(new MusterError('cancelled', 'the call has ended'));
  }
}

interface Reply {
  fail(status: StatusObject): void;
}

/** Runs handlers: identifies and authorizes the caller first, translates failures, and knows every call that is open. */
export class Dispatcher {
  readonly #options: DispatchOptions;
  readonly #active = new Set<ActiveCall>();
  #idle: (() => void)[] = [];

  constructor(options: DispatchOptions) {
    this.#options = options;
  }

  /** Calls being served. */
  get size(): number {
    return this.#active.size;
  }

  /** Ends every call being served with `reason`. */
  abortAll(reason: MusterError): void {
    for (const active of [...this.#active]) active.abort(reason);
  }

  /** Ends, with `reason`, the calls of every caller that `matches`: of one who may no longer call. */
  abortCallsOf(matches: (principal: Principal) => boolean, reason: MusterError): void {
    for (const active of [...this.#active]) if (matches(active.principal)) active.abort(reason);
  }

  /** Resolves when no call is being served. */
  async idle(): Promise<void> {
    while (this.#active.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** The definition and grpc-js handler of one method. */
  bind({ path, definition, handler }: ImplementedMethod): {
    deserialize: (bytes: Buffer) => unknown;
    handle: UntypedHandleCall;
  } {
    const deserialize = (bytes: Buffer): unknown => {
      try {
        return definition.requestDeserialize(bytes);
      } catch (error) {
        return new Malformed(error);
      }
    };
    const method = path.slice(1);
    const { requestStream, responseStream } = definition;
    if (requestStream && responseStream) return { deserialize, handle: this.#bidi(method, handler) };
    if (requestStream) return { deserialize, handle: this.#clientStream(method, handler) };
    if (responseStream) return { deserialize, handle: this.#serverStream(method, handler) };
    return { deserialize, handle: this.#unary(method, handler) };
  }

  #unary(method: string, handler: ErasedHandler): UntypedHandleCall {
    return (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>): void => {
      void this.#serve(
        {
          call,
          method,
          unary: true,
          reply: {
            fail: (status) => {
              callback(status);
            },
          },
        },
        async (context) => {
          callback(null, await handler(wellFormed(call.request), context));
        },
      );
    };
  }

  #clientStream(method: string, handler: ErasedHandler): UntypedHandleCall {
    return (call: ServerReadableStream<unknown, unknown>, callback: sendUnaryData<unknown>): void => {
      void this.#serve(
        {
          call,
          method,
          unary: false,
          reply: {
            fail: (status) => {
              callback(status);
            },
          },
        },
        async (context) => {
          callback(null, await handler(requests(call, context.signal), context));
        },
      );
    };
  }

  #serverStream(method: string, handler: ErasedHandler): UntypedHandleCall {
    return (call: ServerWritableStream<unknown, unknown>): void => {
      void this.#serve({ call, method, unary: false, reply: failStream(call) }, async (context) => {
        const window = new SendWindow<unknown>((message, taken) => call.write(message, taken), context.signal);
        const answers = handler(wellFormed(call.request), context);
        await sendAll(asIterable(answers)[Symbol.asyncIterator](), window, context.signal);
        call.end();
      });
    };
  }

  #bidi(method: string, handler: ErasedHandler): UntypedHandleCall {
    return (call: ServerDuplexStream<unknown, unknown>): void => {
      void this.#serve({ call, method, unary: false, reply: failStream(call) }, async (context) => {
        const window = new SendWindow<unknown>((message, taken) => call.write(message, taken), context.signal);
        const incoming = requests(call, context.signal);
        const stream: Duplex<unknown, unknown> = {
          send: (message) => window.send(message),
          end: () => void window.close(),
          [Symbol.asyncIterator]: () => incoming,
        };
        await handler(stream, context);
        call.end();
      });
    };
  }

  async #serve(
    { call, method, unary, reply }: { call: SurfaceCall; method: string; unary: boolean; reply: Reply },
    work: (context: CallContext) => Promise<void>,
  ): Promise<void> {
    const startedMs = this.#options.clock.monotonic();
    const active = new ActiveCall(call, method, this.#options, unary);
    this.#active.add(active);
    let caller: { principal: Principal; peer: string } = { principal: { kind: 'anonymous' }, peer: 'unknown' };
    try {
      caller = this.#admit(call, method);
      active.principal = caller.principal;
      const { principal, peer } = caller;
      // Field by field: copies of objects get a hidden class each, and streams are many and live long.
      const context: CallContext = { principal, peer, method, signal: active.signal, draining: this.#options.draining };
      await untilAborted(work(context), active.signal);
    } catch (error) {
      const durationMs = Math.round(this.#options.clock.monotonic() - startedMs);
      const failure = this.#report(error, {
        method,
        principal: describePrincipal(caller.principal),
        peer: caller.peer,
        durationMs,
      });
      reply.fail(toStatus(failure));
    } finally {
      active.finish();
      this.#active.delete(active);
      this.#settle();
    }
  }

  #settle(): void {
    if (this.#active.size > 0) return;
    const waiting = this.#idle;
    this.#idle = [];
    for (const resolve of waiting) resolve();
  }

  /** Who is calling, once they are known to be allowed to. */
  #admit(call: SurfaceCall, method: string): { principal: Principal; peer: string } {
    const connection = connectionOf(call);
    if (!connection) throw new MusterError('unavailable', 'the connection closed before the call was read');
    const { peer, refusal } = connection;
    if (refusal) throw refusal;
    if (call.metadata.get('origin').length > 0) {
      throw new MusterError('denied', 'calls from web pages are not accepted here', { reason: 'FOREIGN_ORIGIN' });
    }
    const authorization = call.metadata.get('authorization')[0];
    if (method.startsWith(HEALTH_PREFIX)) return { principal: { kind: 'anonymous' }, peer };
    const principal = connection.identify(typeof authorization === 'string' ? authorization : undefined);
    if (!method.startsWith(REFLECTION_PREFIX)) this.#options.authorize(principal, method);
    else if (principal.kind === 'anonymous') throw notAnonymous('reflection');
    return { principal, peer };
  }

  /** Logs a failed call, one line, never its payload; returns what the caller may know. */
  #report(error: unknown, facts: Record<string, unknown>): MusterError {
    const { logger } = this.#options;
    if (!(error instanceof MusterError)) {
      const id = newId('e');
      logger.error('call failed', { ...facts, code: 'internal', id, error });
      return new MusterError('internal', `an internal error, written to the server's log under ${id}`, {
        reason: 'INTERNAL',
        metadata: { id },
      });
    }
    const line = { ...facts, code: error.code, ...(error.reason === undefined ? {} : { reason: error.reason }) };
    if (error.code === 'internal' || error.code === 'data_loss') logger.error('call failed', { ...line, error });
    else if (error.code === 'cancelled') logger.debug('call cancelled', line);
    else logger.info('call failed', { ...line, message: error.message });
    return error;
  }
}

/** The refusal of a caller who proved nothing. */
export function notAnonymous(what: string): MusterError {
  return new MusterError('unauthenticated', `${what} needs a certificate or a token: log in with "muster login"`, {
    reason: 'NO_CREDENTIALS',
  });
}

function wellFormed(request: unknown): unknown {
  if (request instanceof Malformed) {
    throw new MusterError('invalid', 'the request is not a valid message of this method', {
      reason: 'MALFORMED_MESSAGE',
      cause: request.cause,
    });
  }
  return request;
}

function requests(
  call: ServerReadableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>,
  signal: AbortSignal,
): AsyncGenerator {
  return receive(call, {
    explain: (error) => (signal.aborted ? (signal.reason as unknown) : error),
    check: wellFormed,
    beforeEnd: () => sleep(systemClock, RESET_GRACE_MS, signal),
    answersFailure: true,
  });
}

function failStream(call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>): Reply {
  return { fail: (status) => void call.emit('error', status) };
}

function asIterable(value: unknown): AsyncIterable<unknown> {
  if (typeof value === 'object' && value !== null && Symbol.asyncIterator in value)
    return value as AsyncIterable<unknown>;
  throw new MusterError('internal', 'the handler of a server stream must return an async iterable');
}

/** Sends what the handler yields; on an abort the handler is told to return, and is not waited for. */
async function sendAll(
  answers: AsyncIterator<unknown>,
  window: SendWindow<unknown>,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (;;) {
      const next = await untilAborted(answers.next(), signal);
      if (next.done === true) return;
      await window.send(next.value);
    }
  } catch (error) {
    Promise.resolve(answers.return?.()).catch(() => undefined);
    throw error;
  }
}
