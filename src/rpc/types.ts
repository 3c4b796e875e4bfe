import type { MethodDefinition } from '@grpc/grpc-js';
import type { Principal } from './principal.js';

/**
 * The shapes of typed calls. A `Definition` is the object ts-proto generates per service (`CenterService`, ...);
 * clients and handlers are derived from it, so that no call is written twice.
 */

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- method definitions are invariant in their messages; only inference can name them
export type AnyMethod = MethodDefinition<any, any>;
export type Definition = Readonly<Record<string, AnyMethod>>;

export type RequestOf<M> = M extends { requestSerialize: (value: infer Req) => Buffer } ? Req : never;
export type ResponseOf<M> = M extends { responseSerialize: (value: infer Res) => Buffer } ? Res : never;

/** Both directions of a streaming call. send() resolves when the transport has room for more: await it, or memory grows. */
export interface Duplex<Out, In> extends AsyncIterable<In> {
  /** @throws the call's failure once it has ended */
  send(message: Out): Promise<void>;
  /** No more messages from this side. */
  end(): void;
}

/** What a handler knows about the call it serves. */
export interface CallContext {
  readonly principal: Principal;
  /** Full name, for example `muster.v1.Center/ListMachines`. */
  readonly method: string;
  /** Where the call came from, for people: an address, or the socket's path. */
  readonly peer: string;
  /** Aborts when the caller cancels or goes away, the deadline passes, or the server's drain runs out. */
  readonly signal: AbortSignal;
  /** Aborts earlier: as soon as the server begins to drain. A long stream that can end in good order does so then. */
  readonly draining?: AbortSignal;
}

type MethodShape<M, Unary, ServerStream, ClientStream, Bidi> = M extends { requestStream: true; responseStream: true }
  ? Bidi
  : M extends { requestStream: true }
    ? ClientStream
    : M extends { responseStream: true }
      ? ServerStream
      : Unary;

/** The handler of one method. Throwing a MusterError answers with its status; anything else becomes "internal" and is logged. */
export type Handler<M> = MethodShape<
  M,
  (request: RequestOf<M>, context: CallContext) => Promise<ResponseOf<M>>,
  (request: RequestOf<M>, context: CallContext) => AsyncIterable<ResponseOf<M>>,
  (requests: AsyncIterable<RequestOf<M>>, context: CallContext) => Promise<ResponseOf<M>>,
  (stream: Duplex<ResponseOf<M>, RequestOf<M>>, context: CallContext) => Promise<void>
>;

export type Handlers<D> = { readonly [K in keyof D]: Handler<D[K]> };

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Deadline of the whole call. Unary calls have DEFAULT_DEADLINE_MS where none is given; streams have none. */
  readonly timeoutMs?: number;
  /** Extra request headers (names in lower case), for example a bearer token. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A bidirectional call as its client sees it. */
export interface ClientDuplex<Out, In> extends Duplex<Out, In> {
  /** Ends the call at once from this side. */
  cancel(): void;
}

export type ClientMethod<M> = MethodShape<
  M,
  (request: RequestOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>,
  (request: RequestOf<M>, options?: CallOptions) => AsyncIterable<ResponseOf<M>>,
  (requests: AsyncIterable<RequestOf<M>>, options?: CallOptions) => Promise<ResponseOf<M>>,
  (options?: CallOptions) => ClientDuplex<RequestOf<M>, ResponseOf<M>>
>;

export type Client<D> = { readonly [K in keyof D]: ClientMethod<D[K]> };

export const DEFAULT_DEADLINE_MS = 10_000;
