import { constants } from 'node:fs';
import { lstat, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { MusterError, errnoOf } from '../../kit/errors.js';
import type { Manifest } from '../../model/manifest.js';
import { inParent, listFiles, matches, openInside, pathIn } from '../system/directory.js';
import { isUnfinished, parseRotated } from './names.js';

/** A service whose logs are looked after. */
export interface LoggedService {
  readonly service: string;
  /** Absolute log directory; may not exist yet. */
  readonly root: string;
  readonly logs: Manifest['logs'];
  /** For one whose output the agent does not write to a file: where it goes, and how it is read there. */
  readonly elsewhere?: string;
  /** Of systemd: its journal holds what the service prints. */
  readonly unit?: string;
}

export interface LogFile {
  readonly name: string;
  readonly bytes: number;
  readonly atMs: number;
}

/** The service of a manifest. Only what the agent starts itself prints into its log directory. */
export function loggedService({ name, driver, unit, logs }: Manifest, root: string): LoggedService {
  const logged = { service: name, root, logs };
  switch (driver) {
    case 'process':
      return logged;
    case 'systemd':
      return { ...logged, unit, elsewhere: `systemd keeps what it prints, read it with "journalctl -u ${unit}"` };
    case 'sysv':
      return { ...logged, elsewhere: `its init script ${unit} decides where it prints to` };
  }
}

/** Whether a name is one of the logs a manifest declares; the file of the service's output always is. */
export function isDeclared({ service, logs }: LoggedService, name: string): boolean {
  if (parseRotated(name) || isUnfinished(name)) return false;
  return name === `${service}.log` || logs.files.some((pattern) => matches(pattern, name));
}

/** @throws not_found where a service has no log of this name */
export function checkDeclared(logged: LoggedService, name: string): void {
  if (isDeclared(logged, name)) return;
  const { service, logs } = logged;
  const known = [`${service}.log`, ...logs.files].join(', ');
  throw new MusterError('not_found', `"${name}" is not a log of ${service}: its logs are ${known}`, {
    reason: 'LOG_UNKNOWN',
  });
}

/** Regular files of a log directory, none of them opened; what a crash left unfinished is removed. */
export async function logFiles(root: string): Promise<LogFile[]> {
  const found: LogFile[] = [];
  for (const name of await listFiles(root)) {
    if (isUnfinished(name)) {
      await removeFile(root, name);
      continue;
    }
    const file = await statFile(root, name);
    if (file) found.push(file);
  }
  return found;
}

/** Undefined where it is not there, or is no plain file. Only a look: who opens it checks again, on every step of the way. */
export async function statFile(root: string, name: string): Promise<LogFile | undefined> {
  try {
    const facts = await lstat(join(root, name));
    return facts.isFile() && facts.nlink <= 1 ? { name, bytes: facts.size, atMs: facts.mtimeMs } : undefined;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** Opens a file of a log directory for reading; undefined where it is not there. @throws as openInside */
export async function openIfThere(root: string, name: string): Promise<FileHandle | undefined> {
  try {
    return await openInside(root, name, constants.O_RDONLY);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

export async function removeFile(root: string, name: string): Promise<void> {
  await inParent(root, name, (parent, base) => rm(pathIn(parent, base), { force: true }));
}
