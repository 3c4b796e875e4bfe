import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory, writeFileDurably } from '../../kit/files.js';

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

/** One small file per rotation under way, in a directory of the agent's own; a write resolves once durable. */
export class Journal {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Rotations that an earlier agent left unfinished. */
  async load(): Promise<RotationEntry[]> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const names = (await readdir(this.#directory)).filter((name) => /^[0-9a-f]+\.json$/.test(name));
    const texts = await Promise.all(names.map((name) => readFile(join(this.#directory, name), 'utf8')));
    return texts.map((text) => JSON.parse(text) as RotationEntry);
  }

  async write(entry: RotationEntry): Promise<void> {
    await writeFileDurably(this.#path(entry), JSON.stringify(entry));
  }

  async clear(entry: RotationEntry): Promise<void> {
    await rm(this.#path(entry), { force: true });
    await syncDirectory(this.#directory);
  }

  #path({ root, name }: RotationEntry): string {
    const key = createHash('sha256').update(`${root}\0${name}`).digest('hex').slice(0, 32);
    return join(this.#directory, `${key}.json`);
  }
}
