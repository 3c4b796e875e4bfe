import { checkManifest, type Manifest } from '../../model/manifest.js';
import type { ServiceSource } from '../ports.js';
import type { Subject } from './driver.js';
import { byAssignment, type InstanceRecord } from './records.js';
import { logDirectory, sharedDirectory } from './workplace.js';

/** What services are run from: a release, an assignment of the center, or a manifest of the machine itself, the first that there is. */

/** What a service is to be, and where that was said. */
export interface Definition extends Pick<InstanceRecord, 'manifestText' | 'folder' | 'file' | 'release'> {
  readonly manifest: Manifest;
  /** Of the center's assignment; 0 for a service that is run from a release or declared on the machine itself. */
  readonly generation: number;
}

/** Whether the center wants it here. */
export function isAssigned(record: InstanceRecord | undefined): boolean {
  return record?.assigned !== undefined && record.assigned.removed !== true;
}

/** Whether a manifest of the services directory is what it is run by. */
export function isLocal({ generation, release }: Definition): boolean {
  return generation === 0 && !release;
}

/** What an earlier agent ran; undefined where its manifest cannot be read any more. */
export function definitionOf(service: string, stored: InstanceRecord): Definition | undefined {
  const record = stored.release ? stored : byAssignment(stored);
  const { manifestText, folder, file, release, assigned } = record;
  const result = checkManifest(manifestText, { file: service });
  if (!result.ok) return undefined;
  return {
    manifest: result.manifest,
    manifestText,
    folder,
    ...(file === undefined ? {} : { file }),
    ...(release ? { release } : {}),
    generation: release ? 0 : (assigned?.generation ?? 0),
  };
}

/** @param generation of the assignment that the source is, if it is one */
export function definitionFrom(
  { manifest, manifestText, folder, release }: ServiceSource,
  { file, generation }: { readonly file: string | undefined; readonly generation: number },
): Definition {
  return {
    manifest,
    manifestText,
    folder,
    ...(file === undefined ? {} : { file }),
    ...(release ? { release } : {}),
    generation: release ? 0 : generation,
  };
}

export function sourceOf({ manifest, manifestText, folder, release }: Definition): ServiceSource {
  return { manifest, manifestText, folder, release };
}

export function sameText(a: Definition, b: Definition): boolean {
  return a.manifestText === b.manifestText && a.folder === b.folder && a.file === b.file;
}

/** What a change of which restarts the process. */
export function processKey({ manifest, folder }: Definition): string {
  const { name, version, driver, unit, command, user, directory, env } = manifest;
  const sorted = Object.entries(env).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([name, version, driver, unit, command, user, directory, sorted, folder]);
}

/** Where a service's things are. `data` is the agent's data directory. */
export function subjectOf(
  data: string,
  { manifest, folder, release }: Pick<Definition, 'manifest' | 'folder'> & { readonly release?: unknown },
): Subject {
  const shared = sharedDirectory(data, manifest.name);
  return {
    manifest,
    logDirectory: logDirectory(data, manifest.name),
    sharedDirectory: shared,
    workingDirectory: manifest.directory ?? (folder === '' ? shared : folder),
    ...(release === undefined ? {} : { releaseDirectory: folder }),
  };
}
