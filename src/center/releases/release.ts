import type { Artifact, ModuleRef } from '../../model/release.js';

/** What of a pushed archive the center keeps beside its bytes. Times are wall-clock milliseconds. */
interface Pushed {
  readonly artifact: Artifact;
  /** Rises with each push: their order. */
  readonly number: number;
  readonly pushedMs: number;
  readonly pushedBy: string;
  /** The operator whose key signed it. */
  readonly signedBy: string;
  readonly note: string;
  /** Entries of the archive, and their bytes when unpacked. */
  readonly files: number;
  readonly unpackedBytes: number;
}

/** One immutable unit: a service at a version. */
export interface ReleaseRecord extends Pushed {
  readonly service: string;
  readonly version: string;
  readonly modules: readonly ModuleRef[];
  /** YAML, as it is in the archive. */
  readonly manifest: string;
}

/** A shared package at a version. */
export interface ModuleRecord extends Pushed {
  readonly name: string;
  readonly version: string;
}

/** A service or a module at a version, as a key: neither name nor version holds a slash. */
export function unitId(name: string, version: string): string {
  return `${name}/${version}`;
}
