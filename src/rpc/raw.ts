import type { MethodDefinition } from '@grpc/grpc-js';
import type { AnyMethod, RequestOf, ResponseOf } from './types.js';

/**
 * Methods whose messages stay the bytes they are on the wire: for hot paths that store, forward or build encoded messages themselves. The other
 * side cannot tell the difference. Whoever takes bytes must check them: nothing else has.
 */

function identity(bytes: Buffer): Buffer {
  return bytes;
}

type Raw<M extends AnyMethod, Req, Res> = Omit<M, keyof MethodDefinition<unknown, unknown>> &
  Pick<M, 'path' | 'requestStream' | 'responseStream'> &
  Omit<MethodDefinition<Req, Res>, 'path' | 'requestStream' | 'responseStream'>;

/** `method` with its requests as encoded bytes. */
export function rawRequests<M extends AnyMethod>(method: M): Raw<M, Buffer, ResponseOf<M>> {
  return { ...method, requestSerialize: identity, requestDeserialize: identity };
}

/** `method` with its answers as encoded bytes. */
export function rawResponses<M extends AnyMethod>(method: M): Raw<M, RequestOf<M>, Buffer> {
  return { ...method, responseSerialize: identity, responseDeserialize: identity };
}
