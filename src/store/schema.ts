import { MusterError } from '../kit/errors.js';
import type { Mutation, Store } from './port.js';

/** What a migration may read: the store as the version before it left it. */
export type MigrationReader = Pick<Store, 'get' | 'range'>;

/**
 * Moves the data one version up by returning the changes to make. All of them and the new version number become durable in one
 * batch, so a migration killed in the middle runs again from its start; it must therefore have no effect of its own.
 */
export type Migration = (from: MigrationReader) => Promise<readonly Mutation[]>;

/** Who owns the data and in which version. */
export interface Schema {
  /** The owner, for example `center`: a directory of another owner is refused. */
  readonly name: string;
  /** `migrations[i]` moves the data from version i + 1 to i + 2. Never remove or reorder one that was released. */
  readonly migrations: readonly Migration[];
}

export const DEFAULT_SCHEMA: Schema = { name: 'store', migrations: [] };

/** The version this program writes. */
export function versionOf(schema: Schema): number {
  return schema.migrations.length + 1;
}

/**
 * @throws precondition when the data at `path` belongs to another owner or was written by a newer version
 */
export function assertReadable(
  path: string,
  schema: Schema,
  found: { readonly schema: string; readonly version: number },
): void {
  if (found.schema !== schema.name) {
    throw new MusterError(
      'precondition',
      `${path} holds the data of "${found.schema}", not of "${schema.name}": give this process its own data directory`,
      { reason: 'WRONG_DATA_DIRECTORY', metadata: { found: found.schema, wanted: schema.name } },
    );
  }
  if (found.version > versionOf(schema)) throw newerData(path, `schema version ${found.version}`, versionOf(schema));
}

/** The refusal of data that a newer program wrote. */
export function newerData(path: string, found: string, known: number): MusterError {
  return new MusterError(
    'precondition',
    `${path} was written by a newer Muster (${found}; this one knows up to ${known}): install the newer Muster again, ` +
      'or restore a backup made with this one',
    { reason: 'NEWER_DATA' },
  );
}
