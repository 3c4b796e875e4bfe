import { createHash, type Hash } from 'node:crypto';
import { MusterError } from '../kit/errors.js';
import { BACKUP_LIMITS } from './limits.js';
import { checkCharacters, pathParts, refused, refusedArchive, shown } from './names.js';
import { Problems } from './problems.js';
import type { TarEntry, TarSink } from './tar-reader.js';
import { LineMarks, MANIFEST_NAME, manifestLine, pathIn, summaryLine } from './tree-manifest.js';
import { inTreeOrder } from './tree-selection.js';

const LINE_CHARACTERS_MAX = 65_536;

/** What is done with what a backup holds. Told in the order of trees: a directory, all that is in it, its end. */
export interface TreeTarget {
  entry(entry: TarEntry, parts: readonly string[]): void;
  data(bytes: Buffer): void;
  fileEnd(): void;
  /** All below this directory was told. */
  leave(entry: TarEntry, parts: readonly string[]): void;
}

interface OpenDirectory {
  readonly entry: TarEntry;
  readonly parts: readonly string[];
  /** The name in it that was told last. */
  last: string;
}

type Now =
  | { readonly at: 'nothing' }
  | { readonly at: 'file'; readonly entry: TarEntry; readonly hash: Hash }
  | { readonly at: 'manifest'; text: string };

/**
 * Reads a backup: entries must come in the order in which they are written, each once and below a directory that is open, and the manifest last.
 * Holds the directories that are open and a mark of each entry's line, which is compared when the manifest comes.
 */
export class TreeReader implements TarSink {
  readonly problems = new Problems();
  readonly #target: TreeTarget;
  readonly #marks = new LineMarks();
  readonly #open: OpenDirectory[] = [];
  #now: Now = { at: 'nothing' };
  #files = 0;
  #contentBytes = 0;
  /** Lines of the manifest that were read. */
  #lines = 0;
  #manifest: 'awaited' | 'whole' = 'awaited';

  constructor(target: TreeTarget) {
    this.#target = target;
  }

  /** All that were read. */
  get entries(): number {
    return this.#marks.count;
  }

  get files(): number {
    return this.#files;
  }

  get contentBytes(): number {
    return this.#contentBytes;
  }

  entry(raw: TarEntry): void {
    if (this.#now.at === 'manifest') throw refused(raw.path, 'follows the manifest of the backup');
    if (raw.path === MANIFEST_NAME && raw.type === 'file') {
      this.#closeDownTo(0);
      this.#now = { at: 'manifest', text: '' };
      return;
    }
    const parts = pathParts(raw.path, BACKUP_LIMITS, 'any');
    checkCharacters(raw.path, raw.target, 'any');
    this.#takeTurn(raw, parts);
    this.#target.entry(raw, parts);
    if (raw.type === 'file') this.#now = { at: 'file', entry: raw, hash: createHash('sha256') };
    else this.#mark(raw, undefined);
  }

  data(bytes: Buffer): void {
    if (this.#now.at === 'manifest') this.#readLines(this.#now, bytes);
    if (this.#now.at !== 'file') return;
    this.#now.hash.update(bytes);
    this.#target.data(bytes);
  }

  fileEnd(): void {
    if (this.#now.at !== 'file') return;
    const { entry, hash } = this.#now;
    this.#now = { at: 'nothing' };
    this.#target.fileEnd();
    this.#mark(entry, hash.digest('hex'));
    this.#files += 1;
    this.#contentBytes += entry.sizeBytes;
  }

  /** Call when the archive has ended. */
  end(): void {
    if (this.#now.at !== 'manifest') throw refusedArchive('it has no manifest: it is no backup, or not a whole one');
    if (this.#manifest !== 'whole' && !this.problems.any) this.problems.add('its manifest is not whole');
  }

  #mark(entry: TarEntry, sha256: string | undefined): void {
    if (this.#marks.count >= BACKUP_LIMITS.entriesMax) {
      throw new MusterError('invalid', `the archive is refused: it has more than ${BACKUP_LIMITS.entriesMax} entries`);
    }
    this.#marks.add(manifestLine(entry, sha256));
  }

  #takeTurn(raw: TarEntry, parts: readonly string[]): void {
    const name = parts.at(-1);
    if (name === undefined) {
      if (raw.type !== 'directory' || this.#marks.count > 0) throw refused(raw.path, 'is not where a root is');
    } else {
      this.#closeDownTo(parts.length);
      const parent = this.#parentOf(raw, parts);
      const inOrder = parent.last === '' || inTreeOrder(parent.last, name) < 0;
      if (!inOrder) throw refused(raw.path, 'is in it twice, or not in order');
      parent.last = name;
    }
    if (raw.type === 'directory') this.#open.push({ entry: raw, parts, last: '' });
  }

  #parentOf(raw: TarEntry, parts: readonly string[]): OpenDirectory {
    const parent = this.#open.at(-1);
    const fits = parent?.parts.length === parts.length - 1 && parent.parts.every((part, at) => part === parts[at]);
    if (!parent || !fits) throw refused(raw.path, 'is not below a directory that the archive has just named');
    return parent;
  }

  /** So many directories stay open. */
  #closeDownTo(count: number): void {
    while (this.#open.length > count) {
      const closed = this.#open.pop();
      if (closed) this.#target.leave(closed.entry, closed.parts);
    }
  }

  #readLines(now: Extract<Now, { at: 'manifest' }>, bytes: Buffer): void {
    // Lines are ASCII but for names; latin1 keeps the bytes of a character that is cut in two together until its line is whole.
    now.text += bytes.toString('latin1');
    const lines = now.text.split('\n');
    now.text = lines.pop() ?? '';
    if (now.text.length > LINE_CHARACTERS_MAX) throw refusedArchive('a line of its manifest is too long');
    for (const line of lines) this.#readLine(Buffer.from(line, 'latin1').toString('utf8'));
  }

  #readLine(line: string): void {
    const index = this.#lines;
    this.#lines += 1;
    if (this.#marks.is(index, line)) return;
    const counts = { entries: this.#marks.count, files: this.#files, contentBytes: this.#contentBytes };
    if (index === counts.entries && line === summaryLine(counts)) {
      this.#manifest = 'whole';
      return;
    }
    const path = pathIn(line);
    if (index < counts.entries && path !== undefined) this.problems.add(`${shown(path)} is not what its manifest says`);
    else this.problems.add('its manifest does not say what the archive holds');
  }
}
