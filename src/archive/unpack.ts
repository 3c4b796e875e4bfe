import { MusterError } from '../kit/errors.js';
import type { ArchiveLimits } from './limits.js';

export interface Unpacked {
  readonly files: number;
  readonly unpackedBytes: number;
}

export interface UnpackOptions {
  readonly limits?: ArchiveLimits | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Who owns what is unpacked; without it, this process's user. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

/**
 * Unpacks an archive into a new directory (its parent must be there), in a worker thread with bounded memory. Files are 0644 or 0755 and
 * directories 0755. Resolves once all of it is durable; on failure there is no such directory.
 * @throws invalid naming the entry and what is wrong, exists when `into` is there, exhausted on a full disk, the signal's reason
 */
export function unpackArchive(_path: string, _into: string, _options: UnpackOptions = {}): Promise<Unpacked> {
  return Promise.reject(new MusterError('unimplemented', 'archives cannot be unpacked yet'));
}
