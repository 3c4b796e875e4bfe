import { open, type FileHandle } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { errnoOf, messageOf, MusterError } from '../kit/errors.js';
import { RATIO_FREE_BYTES, type ArchiveLimits } from './limits.js';
import { refusedArchive } from './names.js';

const READ_BYTES = 262_144;
const PIECE_BYTES = 262_144;

export interface UncompressOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes of the file as they are read. */
  readonly onCompressed?: ((bytes: Buffer) => void) | undefined;
}

/**
 * The uncompressed bytes of a gzip file, piece by piece as they are asked for. Several gzip streams one after the other count as one, as programs
 * that compress in parallel make them; anything else behind the end is refused.
 * @throws invalid for what is not gzip, is cut off or goes beyond the limits, not_found when there is no such file, the signal's reason
 */
export async function* uncompressed(
  path: string,
  limits: ArchiveLimits,
  { signal, onCompressed }: UncompressOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  signal?.throwIfAborted();
  const file = await openArchive(path);
  try {
    const { size } = await file.stat();
    const bytesMax = Math.min(limits.unpackedBytesMax, Math.max(RATIO_FREE_BYTES, size * limits.ratioMax));
    let bytes = 0;
    for await (const piece of inflated(file, size, onCompressed)) {
      signal?.throwIfAborted();
      bytes += piece.length;
      if (bytes > bytesMax) throw tooLarge(limits, bytesMax);
      yield piece;
    }
  } finally {
    await file.close();
  }
}

async function* inflated(
  file: FileHandle,
  sizeBytes: number,
  onCompressed: UncompressOptions['onCompressed'],
): AsyncGenerator<Buffer, void, undefined> {
  const source = file.createReadStream({ highWaterMark: READ_BYTES, autoClose: false });
  const gunzip = createGunzip({ chunkSize: PIECE_BYTES });
  source.once('error', (error) => gunzip.destroy(error));
  if (onCompressed) {
    source.on('data', (bytes) => {
      onCompressed(bytes as Buffer);
    });
  }
  source.pipe(gunzip);
  try {
    yield* gunzip as AsyncIterable<Buffer>;
  } catch (error) {
    throw explained(error);
  } finally {
    source.destroy();
    gunzip.destroy();
  }
  // What gzip does not take for more of it is left where it is.
  if (gunzip.bytesWritten !== sizeBytes) throw refusedArchive('something follows its end. Make it again');
}

async function openArchive(path: string): Promise<FileHandle> {
  try {
    const file = await open(path, 'r');
    if ((await file.stat()).isFile()) return file;
    await file.close();
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new MusterError('not_found', `there is no archive at ${path}`, { cause: error });
  }
  throw new MusterError('invalid', `${path} is not a file: give the file of an archive`);
}

function tooLarge(limits: ArchiveLimits, bytesMax: number): MusterError {
  if (bytesMax === limits.unpackedBytesMax) return refusedArchive(`unpacked it is more than ${bytesMax} bytes`);
  return refusedArchive(`it unpacks to more than ${limits.ratioMax} times its size`);
}

/** zlib's own errors in words. */
function explained(error: unknown): unknown {
  const code = errnoOf(error);
  if (code === 'Z_BUF_ERROR') return refusedArchive('it is cut off. Make it again, or send it again');
  if (code?.startsWith('Z_') === true) {
    return refusedArchive(`it is no gzip file, or is damaged (${messageOf(error)}). Make it again, or send it again`);
  }
  return error;
}
