import { mkdir, readdir, rm, rmdir, stat, symlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { errnoOf } from '../../kit/errors.js';
import { makeDirectory, syncDirectory } from '../../kit/files.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Artifact, ModuleRef } from '../../model/release.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { Archives } from './archives.js';
import { directoryName, type Places } from './places.js';
import type { Space } from './space.js';

/** A module that is complete on this machine. */
interface HeldModule {
  readonly ref: ModuleRef;
  readonly bytes: number;
}

export interface ModulesOptions {
  readonly store: Store;
  readonly places: Places;
  readonly archives: Pick<Archives, 'unpack'>;
  readonly space: Space;
}

/** Releases see their modules below this name in their directory. */
export const MODULES_DIRECTORY = 'modules';
const ALL = 'all';

/** The modules of the machine: every version that a release pins, side by side. What is not listed is not complete. */
export class Modules {
  readonly #options: ModulesOptions;
  readonly #documents: Documents<HeldModule>;
  readonly #held = new Map<string, HeldModule>();
  /** Making and removing would meet: one at a time. */
  readonly #turns = new KeyedMutex();

  private constructor(options: ModulesOptions) {
    this.#options = options;
    this.#documents = new Documents<HeldModule>(options.store, 'held-modules/');
  }

  /** @throws as Store.range */
  static async open(options: ModulesOptions): Promise<Modules> {
    const modules = new Modules(options);
    for (const { value } of await modules.#documents.all()) modules.#held.set(keyOf(value.ref), value);
    return modules;
  }

  has(ref: ModuleRef): boolean {
    return this.#held.has(keyOf(ref));
  }

  /** Unlists those whose directory somebody removed: they are fetched again. Resolves with whether all are there. @throws as Store.write */
  recheck(refs: readonly ModuleRef[]): Promise<boolean> {
    return this.#turns.run(ALL, async () => {
      let whole = true;
      for (const ref of refs) {
        if (this.has(ref) && (await isDirectory(this.#options.places.module(ref)))) continue;
        whole = false;
        if (!this.has(ref)) continue;
        await this.#documents.delete(keyOf(ref));
        this.#held.delete(keyOf(ref));
      }
      return whole;
    });
  }

  /** Unpacks it unless it is there; resolves with whether it did, once that is durable. @throws as Archives, exhausted without room */
  ensure(ref: ModuleRef, unpacked: Artifact['unpacked']): Promise<boolean> {
    return this.#turns.run(ALL, async () => {
      if (this.has(ref)) return false;
      const { places, archives, space } = this.#options;
      const into = places.module(ref);
      const parent = join(places.modules, ref.name);
      await makeDirectory(parent, 0o755);
      await rm(into, { recursive: true, force: true });
      if (unpacked) await space.require(parent, `module ${ref.name} ${ref.version}`, unpacked);
      const { unpackedBytes } = await archives.unpack(places.artifact(ref.digest), into, { expected: unpacked });
      for (const directory of places.above(into)) await syncDirectory(directory);
      await this.#documents.put(keyOf(ref), { ref, bytes: unpackedBytes });
      this.#held.set(keyOf(ref), { ref, bytes: unpackedBytes });
      return true;
    });
  }

  /** Makes `modules/NAME` in a release directory, for exactly what it pins; durable. */
  async link(release: string, refs: readonly ModuleRef[]): Promise<void> {
    const directory = join(release, MODULES_DIRECTORY);
    await rm(directory, { recursive: true, force: true });
    if (refs.length > 0) {
      await mkdir(directory, { mode: 0o755 });
      for (const ref of refs) {
        await symlink(relative(directory, this.#options.places.module(ref)), join(directory, ref.name));
      }
      await syncDirectory(directory);
    }
    await syncDirectory(release);
  }

  /** Removes every module that is not pinned, listed or not; resolves with their names. `pins` is asked when nothing else runs. */
  prune(pins: () => readonly ModuleRef[]): Promise<readonly string[]> {
    return this.#turns.run(ALL, async () => {
      const pinned = new Set(pins().map(keyOf));
      const gone = [...this.#held.values()].filter(({ ref }) => !pinned.has(keyOf(ref)));
      for (const { ref } of gone) {
        await this.#documents.delete(keyOf(ref));
        this.#held.delete(keyOf(ref));
      }
      await this.#sweep();
      return gone.map(({ ref }) => `${ref.name} ${ref.version}`);
    });
  }

  /** Removes directories that are not listed. */
  async #sweep(): Promise<void> {
    const { places } = this.#options;
    const listed = new Set([...this.#held.values()].map(({ ref }) => places.module(ref)));
    for (const name of await entriesOf(places.modules)) {
      const parent = join(places.modules, name);
      for (const version of await entriesOf(parent)) {
        if (!listed.has(join(parent, version))) await rm(join(parent, version), { recursive: true, force: true });
      }
      await rmdir(parent).catch((error: unknown) => {
        if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'ENOTDIR') throw error;
      });
    }
  }
}

function keyOf(ref: ModuleRef): string {
  return `${ref.name} ${directoryName(ref)}`;
}

/** @throws system errors but that there is nothing */
export async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** None where there is no such directory. */
export async function entriesOf(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}
