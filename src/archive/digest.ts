import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

const READ_BYTES = 1_048_576;

export interface FileDigest {
  /** SHA-256, 64 hexadecimal digits. */
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Of a file's bytes, in bounded memory. @throws a system error when it cannot be read, the signal's reason when it aborts */
export async function digestFile(path: string, signal?: AbortSignal): Promise<FileDigest> {
  signal?.throwIfAborted();
  const hash = createHash('sha256');
  let sizeBytes = 0;
  const bytes: AsyncIterable<Buffer> = createReadStream(path, { highWaterMark: READ_BYTES });
  for await (const piece of bytes) {
    signal?.throwIfAborted();
    hash.update(piece);
    sizeBytes += piece.length;
  }
  return { digest: hash.digest('hex'), sizeBytes };
}
