import { MusterError } from '../kit/errors.js';
import type { ArchiveLimits } from './limits.js';

export interface Inspected {
  readonly files: number;
  readonly unpackedBytes: number;
  /** By path, those of the files asked for that are there. */
  readonly texts: ReadonlyMap<string, string>;
  /** Whether a file, directory or link of this path is in the archive. */
  has(path: string): boolean;
}

export interface InspectOptions {
  readonly limits?: ArchiveLimits | undefined;
  /** Files whose content is wanted, at most TEXT_BYTES_MAX each. */
  readonly texts?: readonly string[];
  /** Paths that must not be in the archive, nor anything below them. */
  readonly forbidden?: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

export const TEXT_BYTES_MAX = 1_048_576;

/**
 * Reads a whole archive, in bounded memory, without writing anything.
 * @throws invalid naming the entry and what is wrong, not_found when there is no such file, the signal's reason
 */
export function inspectArchive(_path: string, _options: InspectOptions = {}): Promise<Inspected> {
  return Promise.reject(new MusterError('unimplemented', 'archives cannot be inspected yet'));
}
