import { dirname, join } from 'node:path';
import { NAME_PATTERN } from '../../kit/ids.js';
import { MusterError } from '../../kit/errors.js';
import type { ModuleRef, ReleaseRef } from '../../model/release.js';

const VERSION = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;
/** Digits of the digest in a directory's name: two archives that call themselves the same version get directories of their own. */
const DIGEST_CHARACTERS = 12;

/** Where releases, modules and downloads are, below the agent's data directory. All paths are absolute. */
export class Places {
  readonly #data: string;

  constructor(data: string) {
    this.#data = data;
  }

  /** What has to be synced for a path to be found after a power loss: the directories above it, from its own up to the data directory. */
  above(path: string): readonly string[] {
    const directories: string[] = [];
    for (let at = dirname(path); at.length >= this.#data.length && at !== dirname(at); at = dirname(at))
      directories.push(at);
    return directories;
  }

  service(service: string): string {
    return join(this.#data, 'services', service);
  }

  releases(service: string): string {
    return join(this.service(service), 'releases');
  }

  release(ref: Pick<ReleaseRef, 'service' | 'version' | 'digest'>): string {
    return join(this.releases(ref.service), directoryName(ref));
  }

  /** The link that people and units see. */
  current(service: string): string {
    return join(this.service(service), 'current');
  }

  get modules(): string {
    return join(this.#data, 'modules');
  }

  module(ref: ModuleRef): string {
    return join(this.modules, ref.name, directoryName(ref));
  }

  get artifacts(): string {
    return join(this.#data, 'cache', 'artifacts');
  }

  artifact(digest: string): string {
    return join(this.artifacts, `${digest}.tar.gz`);
  }

  /** A download that is not whole yet. */
  part(digest: string): string {
    return join(this.artifacts, `${digest}.part`);
  }
}

/** The last part of the directory of a release or module. */
export function directoryName({ version, digest }: Pick<ModuleRef, 'version' | 'digest'>): string {
  return `${version}-${digest.slice(0, DIGEST_CHARACTERS)}`;
}

/** What comes from elsewhere becomes names of directories: only what can be one. @throws invalid */
export function checkRef(service: string, ref: ReleaseRef): void {
  if (ref.service !== service || !NAME_PATTERN.test(ref.service)) {
    throw new MusterError('invalid', `the order is about service "${service}" and its release about "${ref.service}"`);
  }
  for (const { name, version, digest } of [{ ...ref, name: ref.service }, ...ref.modules]) {
    if (NAME_PATTERN.test(name) && VERSION.test(version) && DIGEST.test(digest)) continue;
    throw new MusterError('invalid', `"${name} ${version}" is no name and version of a release or module`);
  }
}
