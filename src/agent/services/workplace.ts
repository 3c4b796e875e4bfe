import { constants } from 'node:fs';
import { chown, lstat, mkdir, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { MusterError } from '../../kit/errors.js';
import { makeDirectory } from '../../kit/files.js';
import { openInside } from '../system/directory.js';

/** The directories of a service below the agent's data directory, and its own log file. */

export function logDirectory(data: string, service: string): string {
  return join(data, 'logs', service);
}

export function sharedDirectory(data: string, service: string): string {
  return join(data, 'services', service, 'shared');
}

/** A link to the release it is run from. */
export function currentLink(data: string, service: string): string {
  return join(data, 'services', service, 'current');
}

/** The modules that a release sees: a link per pinned module. */
export function modulesDirectory(release: string): string {
  return join(release, 'modules');
}

/** The file that takes what the service prints. */
export function mainLog(service: string): string {
  return `${service}.log`;
}

/** Who is to own what is made; undefined: the agent itself. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Makes a directory that belongs to the service's user; what is above it belongs to the agent. */
export async function ensureOwned(path: string, owner: Owner | undefined): Promise<void> {
  await makeDirectory(join(path, '..'), 0o755);
  await mkdir(path, { mode: 0o750 }).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  });
  const facts = await lstat(path);
  if (!facts.isDirectory())
    throw new MusterError('precondition', `${path} must be a directory: move what is there away`);
  if (owner && (facts.uid !== owner.uid || facts.gid !== owner.gid)) await chown(path, owner.uid, owner.gid);
}

/** Opens the file that takes the service's output, for appending. The service may own it, never link it elsewhere. */
export async function openMainLog(directory: string, service: string, owner: Owner | undefined): Promise<FileHandle> {
  const { O_WRONLY, O_APPEND, O_CREAT } = constants;
  const handle = await openInside(directory, mainLog(service), O_WRONLY | O_APPEND | O_CREAT, 0o640);
  if (owner) await handle.chown(owner.uid, owner.gid);
  return handle;
}
