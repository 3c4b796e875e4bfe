import type { Socket } from 'node:net';
import type { MusterError } from '../kit/errors.js';
import type { Principal } from './principal.js';

/** Who is calling over a connection, given the call's `authorization` header. Throws unauthenticated. */
export type Identify = (authorization: string | undefined) => Principal;

const CONNECTION = Symbol('muster.connection');

/**
 * One accepted connection that speaks gRPC: where it comes from and who is behind it. It is hung on the socket itself, so
 * that a call can only ever be given the identity of the very connection it arrived on.
 */
export class Connection {
  readonly peer: string;
  readonly identify: Identify;
  /** Where what the caller presented is wrong: every call fails with this, also those that need no identity. */
  readonly refusal: MusterError | undefined;

  constructor(peer: string, identify: Identify, refusal?: MusterError) {
    this.peer = peer;
    this.identify = identify;
    this.refusal = refusal;
  }

  attachTo(socket: Socket): void {
    Reflect.set(socket, CONNECTION, this);
  }
}

/** A property of an object of unknown shape; undefined where there is none or reading it throws. */
function property(value: unknown, key: PropertyKey): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  try {
    return Reflect.get(value, key);
  } catch {
    return undefined; // the socket of an HTTP/2 session that has ended
  }
}

/**
 * The connection a grpc-js server call came on, or undefined when it is gone. The only place that knows grpc-js from inside
 * (server call → intercepting call → HTTP/2 stream → session → socket), since 1.14 offers no other way to a plaintext
 * socket. A caller must refuse the call when this answers undefined, so a change in grpc-js fails closed.
 */
export function connectionOf(call: unknown): Connection | undefined {
  const stream = property(property(call, 'call'), 'stream');
  const connection = property(property(property(stream, 'session'), 'socket'), CONNECTION);
  return connection instanceof Connection ? connection : undefined;
}
