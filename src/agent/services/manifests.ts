import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf, messageOf } from '../../kit/errors.js';
import { checkManifest } from '../../model/manifest.js';
import type { Definition } from './supervisor.js';

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

/** Reads the directory again and again, remembering what each file last held. */
export class ManifestDirectory {
  readonly #directory: string;
  readonly #read = new Map<string, Reading>();
  /** Files that have just changed: they are read once they have not for a whole scan, so never half-written. */
  readonly #settling = new Map<string, string>();
  #seen = false;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Undefined: the directory cannot be read now, so nothing can be said about what is in it. A directory never seen is empty. */
  async scan(): Promise<Scan | undefined> {
    let files: string[];
    try {
      files = await this.#files();
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || this.#seen) return undefined;
      files = [];
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
      if (folder) found.push(...(await filesOfFolder(path)));
      else if (ENDINGS.some((ending) => entry.name.endsWith(ending))) found.push(path);
    }
    return found.sort();
  }

  async #refresh(file: string): Promise<void> {
    const before = this.#read.get(file);
    try {
      const facts = await stat(file);
      const signature = `${facts.ino}:${facts.size}:${facts.mtimeMs}`;
      if (before?.signature === signature || this.#mayBeHalfWritten(file, signature)) return;
      if (facts.size > FILE_BYTES_MAX) throw new Error(`the file is larger than ${FILE_BYTES_MAX} bytes: shorten it`);
      this.#read.set(file, readText(file, await readFile(file, 'utf8'), { signature, before }));
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

function readText(file: string, text: string, known: { signature: string; before: Reading | undefined }): Reading {
  const { signature, before } = known;
  const result = checkManifest(text, { file });
  if (!result.ok) return { signature, name: before?.name, errors: result.mistakes.map((mistake) => mistake.text) };
  const { manifest } = result;
  const folder = FOLDER_FILES.includes(basename(file)) ? dirname(file) : '';
  return {
    signature,
    name: manifest.name,
    definition: { manifest, manifestText: text, folder, generation: 0 },
    errors: [],
  };
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (facts) => facts.isDirectory(),
    () => false,
  );
}

/** The first of muster.yaml, muster.yml, muster.json that is there. */
async function filesOfFolder(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((): string[] => []);
  const name = FOLDER_FILES.find((candidate) => names.includes(candidate));
  return name === undefined ? [] : [join(folder, name)];
}
