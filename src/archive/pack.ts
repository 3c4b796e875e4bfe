import { MusterError } from '../kit/errors.js';

export interface Packed {
  /** SHA-256 of the archive, 64 hexadecimal digits. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly files: number;
  readonly unpackedBytes: number;
}

export interface PackOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called after each file. */
  readonly onProgress?: ((progress: { readonly files: number; readonly bytes: number }) => void) | undefined;
}

/**
 * Packs a directory as a new file `out`, tar.gz; on failure there is none. The same content gives the same bytes.
 * @throws invalid naming what unpackArchive would refuse, exists when `out` is there, conflict when a file changes meanwhile, the signal's reason
 */
export function packDirectory(_directory: string, _out: string, _options: PackOptions = {}): Promise<Packed> {
  return Promise.reject(new MusterError('unimplemented', 'directories cannot be packed yet'));
}
