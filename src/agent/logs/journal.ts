import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readFileIfThere, syncDirectory, writeFileDurably } from '../../kit/files.js';

/** A rotation under way. */
export interface RotationEntry {
  readonly service: string;
  readonly root: string;
  /** Relative to the root. */
  readonly name: string;
  /** The last step of the name. */
  readonly base: string;
  readonly inode: number;
  /** Beside the live file. */
  readonly target: string;
  /** The bytes [from, end) of the live file go to the target. */
  readonly from: number;
  readonly end: number;
  /** copy: the target is not whole yet. cut: it is, and the live file may or may not have been cut. */
  readonly step: 'copy' | 'cut';
  readonly way: 'collapse' | 'truncate';
}

/** What an earlier agent left. */
export interface LeftRotations {
  readonly entries: readonly RotationEntry[];
  /** Files that were set aside under these names, because they hold no entry. */
  readonly unreadable: readonly string[];
}

/** One small file per rotation under way, in a directory of the agent's own; a write resolves once durable. */
export class Journal {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Rotations that an earlier agent left unfinished. An entry that cannot be read is renamed, so that it stands in nobody's way. */
  async load(): Promise<LeftRotations> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const entries: RotationEntry[] = [];
    const unreadable: string[] = [];
    for (const name of await readdir(this.#directory)) {
      if (!/^[0-9a-f]+\.json$/.test(name)) continue;
      const path = join(this.#directory, name);
      const entry = await readEntry(path);
      if (entry) entries.push(entry);
      else unreadable.push(await setAside(path));
    }
    return { entries, unreadable };
  }

  /** The rotation of this file that is under way, if any. @throws where its entry cannot be read */
  async read(place: Pick<RotationEntry, 'root' | 'name'>): Promise<RotationEntry | undefined> {
    const text = await readFileIfThere(this.#path(place));
    return text === undefined ? undefined : parseEntry(text);
  }

  async write(entry: RotationEntry): Promise<void> {
    await writeFileDurably(this.#path(entry), JSON.stringify(entry));
  }

  async clear(entry: RotationEntry): Promise<void> {
    await rm(this.#path(entry), { force: true });
    await syncDirectory(this.#directory);
  }

  #path({ root, name }: Pick<RotationEntry, 'root' | 'name'>): string {
    const key = createHash('sha256').update(`${root}\0${name}`).digest('hex').slice(0, 32);
    return join(this.#directory, `${key}.json`);
  }
}

async function readEntry(path: string): Promise<RotationEntry | undefined> {
  try {
    return parseEntry((await readFileIfThere(path)) ?? '');
  } catch {
    return undefined;
  }
}

async function setAside(path: string): Promise<string> {
  const aside = `${path}.unreadable`;
  await rename(path, aside);
  return aside;
}

const TEXTS = ['service', 'root', 'name', 'base', 'target'] as const;
const NUMBERS = ['inode', 'from', 'end'] as const;

/** @throws where it is no entry */
function parseEntry(text: string): RotationEntry {
  const found = JSON.parse(text) as Partial<RotationEntry> | null;
  const whole =
    TEXTS.every((field) => typeof found?.[field] === 'string') &&
    NUMBERS.every((field) => typeof found?.[field] === 'number') &&
    (found?.step === 'copy' || found?.step === 'cut') &&
    (found.way === 'collapse' || found.way === 'truncate');
  if (!whole) throw new Error('not an entry of the journal of log rotations');
  return found as RotationEntry;
}
