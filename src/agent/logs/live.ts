import { lstat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { listFiles } from '../system/directory.js';
import { markBytes } from './cut.js';
import { openIfThere, statFile } from './files.js';
import type { PiecePlace } from './pieces.js';
import { fits, type FilePlace } from './position.js';

/** The file that a service appends to, open for reading by offsets in what the service wrote; `base` is where the file begins among them. */
export class LiveLog {
  readonly inode: number;
  readonly #handle: FileHandle;
  #mark: { readonly base: number; readonly bytes: number } | undefined;

  private constructor(handle: FileHandle, inode: number) {
    this.#handle = handle;
    this.inode = inode;
  }

  /** Undefined where it is not there. @throws as openInside */
  static async open({ root, name }: PiecePlace): Promise<LiveLog | undefined> {
    const handle = await openIfThere(root, name);
    return handle && new LiveLog(handle, (await handle.stat()).ino);
  }

  /** A file beside the log that is what the log was, and holds the place: services rename their logs too. */
  static async openRenamed({ root, name }: PiecePlace, at: FilePlace, base: number): Promise<LiveLog | undefined> {
    if (at.check.bytes === 0) return undefined;
    const candidates = (await listFiles(root)).filter((other) => dirname(other) === dirname(name));
    for (const candidate of candidates) {
      if (!(await statFile(root, candidate)) || (await inodeOf({ root, name: candidate })) !== at.inode) continue;
      const found = await LiveLog.open({ root, name: candidate });
      if (found?.inode === at.inode && (await found.read(at, base, 1))) return found;
      await found?.close();
    }
    return undefined;
  }

  /** The offset behind its last byte. */
  async end(base: number): Promise<number> {
    const { size } = await this.#handle.stat();
    return base + Math.max(0, size - (await this.#markBytes(base)));
  }

  /** Bytes from the place on, none at the end; undefined when what is before it is not what it was: the file was emptied. */
  async read(place: FilePlace, base: number, bytesMax: number): Promise<Buffer | undefined> {
    const at = place.offset - base + (await this.#markBytes(base));
    const { size } = await this.#handle.stat();
    if (at > size) return undefined;
    if (at === size) return Buffer.alloc(0);
    const back = place.check.bytes <= place.offset - base ? place.check.bytes : 0;
    const { buffer, bytesRead } = await this.#handle.read(Buffer.alloc(back + bytesMax), 0, back + bytesMax, at - back);
    if (back > 0 && !fits(place.check, buffer.subarray(0, Math.min(back, bytesRead)))) return undefined;
    return buffer.subarray(back, Math.max(back, bytesRead));
  }

  /** Its bytes [from, to). */
  async slice(from: number, to: number, base: number): Promise<Buffer> {
    const at = from - base + (await this.#markBytes(base));
    const { buffer, bytesRead } = await this.#handle.read(Buffer.alloc(to - from), 0, to - from, at);
    return buffer.subarray(0, bytesRead);
  }

  /** The file was emptied: the line at its front is gone too. */
  emptied(): void {
    this.#mark = undefined;
  }

  /** Whether another file has its name now. */
  async isReplaced(place: PiecePlace): Promise<boolean> {
    const now = await inodeOf(place);
    return now !== undefined && now !== this.inode;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  /** It changes only when the front is cut off, and then `base` does. */
  async #markBytes(base: number): Promise<number> {
    if (this.#mark?.base !== base) this.#mark = { base, bytes: await markBytes(this.#handle) };
    return this.#mark.bytes;
  }
}

async function inodeOf({ root, name }: PiecePlace): Promise<number | undefined> {
  return lstat(join(root, name)).then(
    ({ ino }) => ino,
    () => undefined,
  );
}
