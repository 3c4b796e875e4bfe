import { open, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { MusterError } from '../../kit/errors.js';
import { markBytes } from './cut.js';
import { openIfThere } from './files.js';
import type { Cut } from './rotation.js';
import { readFully, type LogBytes } from './search/bytes.js';

export interface SnapshotPlace {
  readonly root: string;
  readonly name: string;
  /** Runs work while the front of the file is not being cut. */
  readonly exclusive: <T>(work: () => Promise<T>) => Promise<T>;
}

/** Rotated files that a snapshot keeps open, so that compressing or removing them loses nothing; beyond it their names are all there is. */
const HELD_FILES_MAX = 32;

/** Bytes [from, to) of the file as it was; what was at `x` then is at `x - shift` now. */
interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly shift: number;
  /** Where it was rotated to; empty: dropped. Undefined: still in the live file. */
  readonly away?: string;
  readonly held?: Promise<FileHandle | undefined>;
}

/**
 * A live log as it was at one moment. Its front may be cut away meanwhile: each cut tells (onCut, while nobody reads), and those bytes
 * are then read from the rotated file they went to.
 */
export class LiveSnapshot implements LogBytes {
  readonly size: number;
  readonly begin: number;
  readonly modifiedMs: number;
  readonly #place: SnapshotPlace;
  readonly #live: FileHandle;
  readonly #inode: number;
  /** In order, without gaps; only the last one can be in the live file. */
  #stretches: readonly Stretch[];
  #cutting: Promise<void> = Promise.resolve();

  private constructor(place: SnapshotPlace, live: FileHandle, facts: SnapshotFacts) {
    this.#place = place;
    this.#live = live;
    this.#inode = facts.inode;
    this.size = facts.size;
    this.begin = facts.begin;
    this.modifiedMs = facts.modifiedMs;
    this.#stretches = [{ from: facts.begin, to: facts.size, shift: 0 }];
  }

  /** Undefined where there is no such file. Call it under the file's lock, and hear of cuts from then on. @throws as openInside */
  static async take(place: SnapshotPlace): Promise<LiveSnapshot | undefined> {
    const live = await openIfThere(place.root, place.name);
    if (!live) return undefined;
    try {
      const { size, ino: inode, mtimeMs: modifiedMs } = await live.stat();
      const begin = Math.min(await markBytes(live), size);
      return new LiveSnapshot(place, live, { size, inode, modifiedMs, begin });
    } catch (error) {
      await live.close();
      throw error;
    }
  }

  readonly onCut = (cut: Cut): void => {
    const held = cut.rotated !== '' && this.#mayHold() ? this.#open(cut.rotated) : undefined;
    this.#cutting = this.#cutting.then(() => this.#apply(cut, held));
  };

  async read(at: number, length: number): Promise<Buffer> {
    const end = Math.min(at + length, this.size);
    const parts: Buffer[] = [];
    for (let next = at; next < end;) {
      const part = await this.#readPart(next, end);
      parts.push(part);
      next += part.length;
    }
    return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
  }

  /**
   * Runs work with the live file open for reading from its beginning, while its front is not being cut; undefined where it was cut
   * already. Everybody else who reads the log waits meanwhile: keep it short.
   */
  whole<T>(work: (descriptor: number) => Promise<T>): Promise<T | undefined> {
    return this.#place.exclusive(async () => {
      await this.#cutting;
      const [only] = this.#stretches;
      if (this.#stretches.length !== 1 || !only || only.shift !== 0 || only.away !== undefined) return undefined;
      const file = await open(`/proc/self/fd/${this.#live.fd}`, 'r');
      try {
        return await work(file.fd);
      } finally {
        await file.close();
      }
    });
  }

  async close(): Promise<void> {
    await this.#cutting;
    for (const { held } of this.#stretches) await (await held)?.close();
    this.#stretches = [];
    await this.#live.close();
  }

  #readPart(at: number, end: number): Promise<Buffer> {
    return this.#place.exclusive(async () => {
      await this.#cutting;
      const stretch = this.#stretches.find(({ from, to }) => at >= from && at < to);
      if (!stretch) throw new MusterError('internal', `a snapshot of a log does not hold its byte ${at}`);
      const bytes = await this.#readStretch(stretch, at - stretch.shift, Math.min(end, stretch.to) - at);
      if (bytes.length > 0) return bytes;
      throw gone(`${this.#place.name} was emptied while it was being read`);
    });
  }

  async #readStretch({ away, held }: Stretch, at: number, length: number): Promise<Buffer> {
    if (away === undefined) return readFully(this.#live, at, length);
    if (away === '') throw gone(`lines of ${this.#place.name} were dropped: the disk is nearly full`);
    const open = await held;
    const file = open ?? (await this.#open(away));
    if (!file) throw gone(`${away} was removed or compressed before it was read`);
    try {
      return await readFully(file, at, length);
    } finally {
      if (!open) await file.close();
    }
  }

  async #apply(cut: Cut, held: Stretch['held']): Promise<void> {
    const live = this.#stretches.at(-1);
    const followed = live !== undefined && live.away === undefined && (await this.#isLive());
    const parts = followed ? split(live, cut) : [];
    const moved = parts.some(({ away }) => away !== undefined);
    if (!moved) await (await held)?.close();
    if (!followed) return;
    const kept = parts.map((part) => (part.away === undefined || !held ? part : { ...part, held }));
    this.#stretches = [...this.#stretches.slice(0, -1), ...kept];
  }

  /** A cut of another file of that name says nothing about this one: the service may have put it there. */
  async #isLive(): Promise<boolean> {
    const now = await stat(join(this.#place.root, this.#place.name)).catch(() => undefined);
    return now?.ino === this.#inode;
  }

  #mayHold(): boolean {
    return this.#stretches.filter(({ held }) => held !== undefined).length < HELD_FILES_MAX;
  }

  /** One that cannot be opened is met, and said, when it is read. */
  #open(rotated: string): Promise<FileHandle | undefined> {
    return openIfThere(this.#place.root, join(dirname(this.#place.name), rotated)).catch(() => undefined);
  }
}

interface SnapshotFacts {
  readonly size: number;
  readonly inode: number;
  readonly modifiedMs: number;
  readonly begin: number;
}

/** What a cut makes of the bytes in the live file: those that were moved away, and those that are left; never without any. */
function split(live: Stretch, cut: Cut): Stretch[] {
  const end = Math.min(Math.max(cut.end + live.shift, live.from), live.to);
  const moved = { from: live.from, to: end, shift: live.shift + cut.from, away: cut.rotated };
  const left = { from: end, to: live.to, shift: live.shift + cut.shift };
  return [moved, left].filter(({ from, to }) => from < to);
}

function gone(message: string): MusterError {
  return new MusterError('unavailable', message, { reason: 'LOG_GONE' });
}
