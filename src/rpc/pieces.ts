import { FieldReader, FieldWriter, VARINT, varintBytes } from './framing.js';
import type { AnyMethod, ResponseOf } from './types.js';

/** One piece of a file that is sent: `int64 size_bytes = 1; bytes data = 2;` in the contract. */
export interface Piece {
  /** Of the whole file. */
  readonly sizeBytes: number;
  readonly data: Buffer;
}

const SIZE_FIELD = 1;
const DATA_FIELD = 2;

/**
 * `method` with its answers, which are pieces of a file, encoded into one buffer and decoded without a copy. The generated code copies each three
 * times on its way out and once on its way in; collecting what that leaves behind was a third of the CPU of sending an archive.
 */
export function sendsPieces<M extends AnyMethod>(method: ResponseOf<M> extends Piece ? M : never): M {
  return { ...(method as M), responseSerialize: encodePiece, responseDeserialize: decodePiece };
}

export function encodePiece({ sizeBytes, data }: Piece): Buffer {
  const sizeLength = sizeBytes === 0 ? 0 : 1 + varintBytes(sizeBytes);
  const dataLength = data.length === 0 ? 0 : 1 + varintBytes(data.length);
  const writer = new FieldWriter(Buffer.allocUnsafe(sizeLength + dataLength + data.length));
  writer.number(SIZE_FIELD, sizeBytes);
  if (data.length > 0) {
    writer.length(DATA_FIELD, data.length);
    data.copy(writer.bytes, writer.at);
  }
  return writer.bytes;
}

/** `data` shares the memory of `bytes`. @throws invalid */
export function decodePiece(bytes: Buffer): Piece {
  const reader = new FieldReader(bytes);
  let sizeBytes = 0;
  let data: Buffer = Buffer.alloc(0);
  while (reader.next()) {
    if (reader.field === SIZE_FIELD && reader.wireType === VARINT) sizeBytes = reader.varint();
    else if (reader.field === DATA_FIELD) data = reader.value();
    else reader.skip();
  }
  return { sizeBytes, data };
}
