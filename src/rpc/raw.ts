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

/** What one request may hold. */
export interface RequestBounds {
  readonly bytesMax: number;
  /** Fields at its top level, each element of a repeated one counted: small ones cost far more memory decoded than encoded. */
  readonly fieldsMax: number;
}

/** `method` with requests that are looked at before they are decoded: beyond the bounds the call fails as malformed. */
export function boundedRequests<M extends AnyMethod>(method: M, { bytesMax, fieldsMax }: RequestBounds): M {
  return {
    ...method,
    requestDeserialize: (bytes: Buffer): unknown => {
      if (bytes.length > bytesMax) throw new Error(`a message of this call has at most ${bytesMax} bytes`);
      if (!hasFieldsAtMost(bytes, fieldsMax)) throw new Error(`a message of this call has at most ${fieldsMax} fields`);
      return method.requestDeserialize(bytes);
    },
  };
}

const WIRE_VARINT = 0;
const WIRE_FIXED64 = 1;
const WIRE_BYTES = 2;
const WIRE_FIXED32 = 5;

/** Skips over the fields of a message (protobuf encoding, "Message Structure"). What cannot be skipped over the decoder refuses. */
function hasFieldsAtMost(bytes: Buffer, max: number): boolean {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at] ?? 0;
      at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    return value;
  };
  const skips: Readonly<Record<number, () => void>> = {
    [WIRE_VARINT]: varint,
    [WIRE_FIXED64]: () => (at += 8),
    [WIRE_BYTES]: () => {
      const length = varint();
      at += length;
    },
    [WIRE_FIXED32]: () => (at += 4),
  };
  for (let fields = 0; at < bytes.length; fields += 1) {
    if (fields >= max) return false;
    const skip = skips[varint() % 8];
    if (!skip) return true;
    skip();
  }
  return true;
}
