import { MusterError } from '../../kit/errors.js';
import { parseManifest, type Manifest } from '../../model/manifest.js';
import type { ModuleRef, ReleaseRef } from '../../model/release.js';
import type { ServiceSource } from '../ports.js';
import type { Before } from './deploy.js';
import type { Places } from './places.js';

/** What a service is run from once it is run from this release. */
export function sourceOfRelease(
  places: Places,
  { ref, manifestText }: { readonly ref: ReleaseRef; readonly manifestText: string },
  nowMs: number,
): ServiceSource {
  return {
    manifest: parseManifest(manifestText),
    manifestText,
    folder: places.release(ref),
    release: { ref, deployedMs: nowMs, verified: false },
  };
}

/** What a service was run from, as it was. */
export function sourceOfBefore({ source }: Before): ServiceSource | undefined {
  if (!source) return undefined;
  const { manifestText, folder, release } = source;
  return { manifest: parseManifest(manifestText), manifestText, folder, release };
}

/** The manifest of an archive, which must be that of the release ordered. @throws invalid */
export function checkedManifest(text: string | undefined, ref: ReleaseRef): Manifest {
  if (text === undefined) {
    throw new MusterError('invalid', 'the archive has no muster.yaml at its root: push one that has');
  }
  const manifest = parseManifest(text);
  const { name, version, modules } = manifest;
  if (name !== ref.service || version !== ref.version) {
    throw new MusterError(
      'invalid',
      `the archive is of ${name} ${version}, not of ${ref.service} ${ref.version} as its release says: push it again`,
    );
  }
  if (pinsOf(Object.entries(modules)) !== pinsOf(ref.modules.map((one: ModuleRef) => [one.name, one.version]))) {
    throw new MusterError('invalid', 'the archive pins other modules than its release says: push it again');
  }
  return manifest;
}

function pinsOf(pins: readonly (readonly [string, string])[]): string {
  return JSON.stringify([...pins].sort(([a], [b]) => (a < b ? -1 : 1)));
}
