import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { messageOf } from '../../kit/errors.js';
import { checkManifest } from '../../model/manifest.js';
import type { Definition } from './sources.js';

/** The services directory: `NAME.yaml`, or `NAME/muster.yaml` for a service with a folder of its own; .yml and .json too. */

export interface BrokenFile {
  readonly file: string;
  /** Each with line and column where there is one. */
  readonly errors: readonly string[];
}

export interface Scan {
  /** By service name. */
  readonly definitions: ReadonlyMap<string, Definition>;
  readonly broken: readonly BrokenFile[];
  /** Names that a broken file was last read with: its service is neither changed nor gone. */
  readonly kept: ReadonlySet<string>;
}

const ENDINGS = ['.yaml', '.yml', '.json'];
const FOLDER_FILES = ENDINGS.map((ending) => `muster${ending}`);
const FILE_BYTES_MAX = 256 * 1024;
/** Manifests of one machine. */
const MANIFESTS_MAX = 2000;

/** Where the manifest of a service may be, below the directory, when its file was not recorded. */
export function usualFiles(service: string): readonly string[] {
  return [...ENDINGS.map((ending) => `${service}${ending}`), ...FOLDER_FILES.map((name) => join(service, name))];
}

/** Reads the directory again and again, remembering what each file last held. */
export class ManifestDirectory {
  readonly #directory: string;
  readonly #read = new Map<string, Reading>();
  /** Files that have just changed: they are read once they have not for a whole scan, so never half-written. */
  readonly #settling = new Map<string, string>();
  #seen = false;
  #problem = '';

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Why the directory could not be read at the last look; empty where it could. */
  get problem(): string {
    return this.#problem;
  }

  /** Tells which service an earlier agent read from a file, by its path below the directory. Call before the first scan. */
  remember(file: string, service: string): void {
    this.#read.set(join(this.#directory, file), { signature: '', name: service, errors: [] });
  }

  /** Undefined: the directory cannot be read now, so nothing can be said about what is in it. */
  async scan(): Promise<Scan | undefined> {
    let files: string[];
    try {
      files = await this.#files();
      this.#problem = '';
    } catch (error) {
      this.#problem = messageOf(error);
      return undefined;
    }
    for (const known of this.#read.keys()) if (!files.includes(known)) this.#forget(known);
    for (const file of files) await this.#refresh(file);
    this.#seen = true;
    return this.#gather(files);
  }

  #forget(file: string): void {
    this.#read.delete(file);
    this.#settling.delete(file);
  }

  async #files(): Promise<string[]> {
    const found: string[] = [];
    for (const entry of await readdir(this.#directory, { withFileTypes: true })) {
      if (entry.name.startsWith('.') || found.length >= MANIFESTS_MAX) continue;
      const path = join(this.#directory, entry.name);
      const folder = entry.isDirectory() || (entry.isSymbolicLink() && (await isDirectory(path)));
      if (folder || this.#knownBelow(path).length > 0) found.push(...(await this.#filesOfFolder(path)));
      else if (ENDINGS.some((ending) => entry.name.endsWith(ending))) found.push(path);
    }
    return found.sort();
  }

  /** The first of muster.yaml, muster.yml, muster.json that is there. Of a folder that cannot be read, what was last known of it. */
  async #filesOfFolder(folder: string): Promise<string[]> {
    try {
      const names = await readdir(folder);
      const name = FOLDER_FILES.find((candidate) => names.includes(candidate));
      return name === undefined ? [] : [join(folder, name)];
    } catch {
      // Reading the file will say why.
      const known = this.#knownBelow(folder);
      return known.length > 0 ? known : [join(folder, 'muster.yaml')];
    }
  }

  #knownBelow(folder: string): string[] {
    return [...this.#read.keys()].filter((file) => dirname(file) === folder);
  }

  async #refresh(file: string): Promise<void> {
    const before = this.#read.get(file);
    try {
      const facts = await stat(file);
      const signature = `${facts.ino}:${facts.size}:${facts.mtimeMs}`;
      if (before?.signature === signature || this.#mayBeHalfWritten(file, signature)) return;
      if (facts.size > FILE_BYTES_MAX) throw new Error(`the file is larger than ${FILE_BYTES_MAX} bytes: shorten it`);
      this.#read.set(file, readText(file, await readFile(file, 'utf8'), { signature, before, root: this.#directory }));
    } catch (error) {
      this.#read.set(file, { signature: '', name: before?.name, errors: [`${file}: ${messageOf(error)}`] });
    }
  }

  #mayBeHalfWritten(file: string, signature: string): boolean {
    if (!this.#seen || this.#settling.get(file) === signature) {
      this.#settling.delete(file);
      return false;
    }
    this.#settling.set(file, signature);
    return true;
  }

  #gather(files: readonly string[]): Scan {
    const definitions = new Map<string, Definition>();
    const owners = new Map<string, string>();
    const broken: BrokenFile[] = [];
    const kept = new Set<string>();
    for (const file of files) {
      const reading = this.#read.get(file);
      if (!reading) continue;
      const { definition, errors, name } = reading;
      const owner = name === undefined ? undefined : owners.get(name);
      if (!definition) {
        broken.push({ file, errors });
        if (name !== undefined) kept.add(name);
      } else if (owner !== undefined) {
        broken.push({
          file,
          errors: [`${file}: service ${name ?? ''} is declared in ${owner} already: remove one of them`],
        });
      } else {
        definitions.set(definition.manifest.name, definition);
        owners.set(definition.manifest.name, file);
      }
    }
    return { definitions, broken, kept };
  }
}

interface Reading {
  readonly signature: string;
  /** The service it declares, or last did. */
  readonly name: string | undefined;
  readonly definition?: Definition;
  readonly errors: readonly string[];
}

interface Known {
  readonly signature: string;
  readonly before: Reading | undefined;
  readonly root: string;
}

function readText(file: string, text: string, { signature, before, root }: Known): Reading {
  const result = checkManifest(text, { file });
  if (!result.ok) return { signature, name: before?.name, errors: result.mistakes.map((mistake) => mistake.text) };
  const { manifest } = result;
  const folder = FOLDER_FILES.includes(basename(file)) ? dirname(file) : '';
  return {
    signature,
    name: manifest.name,
    definition: { manifest, manifestText: text, folder, file: relative(root, file), generation: 0 },
    errors: [],
  };
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (facts) => facts.isDirectory(),
    () => false,
  );
}
