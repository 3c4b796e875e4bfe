import { constants } from 'node:fs';
import { lstat, rename, rm, type FileHandle } from 'node:fs/promises';
import type { Clock } from '../../kit/clock.js';
import { errnoOf } from '../../kit/errors.js';
import { collapseFront, copyRange, cutOffset, lastLineEnd, lockAgainstCuts, markBytes, readFirstLine } from './cut.js';
import { inParent, openRegular, pathIn } from '../system/directory.js';
import type { Journal, RotationEntry } from './journal.js';
import type { Pieces } from './pieces.js';
import { isMark, markOf, padMark, parseRotated, rotatedName, unfinishedName } from './names.js';

/** One log file, as rotation and tail meet at it. */
export interface LogPlace {
  readonly service: string;
  /** Absolute log directory. */
  readonly root: string;
  /** Relative to it. */
  readonly name: string;
}

/** What a cut did to offsets: what followers of the file need to go on without a gap or a repeat. */
export interface Cut {
  /** Where the bytes [from, end) went; empty: they were dropped. */
  readonly rotated: string;
  readonly from: number;
  readonly end: number;
  /** An offset at or behind `end` is now less by this. */
  readonly shift: number;
  /** Where the service's own lines begin now. */
  readonly begin: number;
}

/** Called as soon as the front is cut, whatever fails after that: followers of the file must not miss it. */
export type TellCut = (cut: Cut) => void;

export interface RotationTools {
  readonly clock: Clock;
  readonly journal: Journal;
  readonly pieces: Pieces;
  /** Called, at most once a log directory, when its file system cannot shorten a file from the front. */
  readonly onFallback: (place: LogPlace) => void;
  /** False: the fallback is used without asking the file system. */
  readonly collapse: boolean;
}

/** How long a cut that an agent left behind when it was killed is waited for. */
const EARLIER_CUT_MAX_MS = 10_000;
const { O_RDWR, O_CREAT, O_EXCL, O_APPEND } = constants;
/** Collapsing works in blocks of the file system; blocks of all in use divide this. */
const BLOCK_BYTES = 4096;
/** Less is not worth a rotation; it is more than a mark of any name takes. */
const ROTATED_BYTES_LEAST = 16 * 1024;

/**
 * Moves the whole lines of a file's front, `bytesMax` at most, into a new rotated file: copy, sync, rename, then cut the front of the live file off. A journal, synced
 * before each side effect, lets a later agent undo (the copy was not finished: the live file is whole) or finish (it was: the front must go).
 * @returns what was cut; undefined when there was nothing to rotate
 */
export async function rotate(
  tools: RotationTools,
  place: LogPlace,
  order: { readonly number: number; readonly anyLine: boolean; readonly bytesMax: number },
  exclusive: (work: (tell: TellCut) => Promise<Cut | undefined>) => Promise<Cut | undefined>,
): Promise<Cut | undefined> {
  return inParent(place.root, place.name, async (parent, base) => {
    const live = await openRegular(parent, base, O_RDWR);
    try {
      const { size, ino } = await live.stat();
      const from = await markBytes(live);
      const until = Math.min(size, from + order.bytesMax);
      const lineEnd = (await lastLineEnd(live, until)) ?? (order.anyLine ? until : undefined);
      if (lineEnd === undefined || lineEnd - from < ROTATED_BYTES_LEAST) return undefined;
      const target = rotatedName(base, order.number);
      const entry: RotationEntry = {
        ...place,
        inode: ino,
        base,
        target,
        from,
        end: lineEnd,
        step: 'copy',
        way: 'collapse',
      };
      await tools.journal.write(entry);
      await copyOut(parent, live, entry);
      await tools.journal.write({ ...entry, step: 'cut' });
      await lockAgainstCuts(tools.clock, live, 0);
      const cut = await exclusive(async (tell) => {
        const done = await finishCut(tools, parent, live, { ...entry, step: 'cut' });
        if (done) tell(done);
        await remember(tools, parent, entry);
        return done;
      });
      await tools.journal.clear(entry);
      return cut;
    } finally {
      await live.close();
    }
  });
}

/** Carries an interrupted rotation to one end or the other, and tells what was cut now. */
export async function recover(tools: RotationTools, entry: RotationEntry, tell: TellCut): Promise<void> {
  try {
    await inParent(entry.root, entry.name, (parent) =>
      entry.step === 'copy' ? undo(parent, entry) : finish(tools, parent, entry, tell),
    );
  } catch (error) {
    // The service took its file away: what was copied is all there is.
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
  await tools.journal.clear(entry);
}

async function undo(parent: FileHandle, { target }: RotationEntry): Promise<void> {
  await rm(pathIn(parent, unfinishedName(target)), { force: true });
  await rm(pathIn(parent, target), { force: true });
}

async function finish(tools: RotationTools, parent: FileHandle, entry: RotationEntry, tell: TellCut): Promise<void> {
  const live = await openRegular(parent, entry.base, O_RDWR);
  try {
    const same = (await live.stat()).ino === entry.inode;
    await lockAgainstCuts(tools.clock, live, EARLIER_CUT_MAX_MS);
    const cut = same ? await finishCut(tools, parent, live, entry) : undefined;
    if (cut) tell(cut);
    if (same || (await sizeOf(parent, entry.target)) !== undefined) await remember(tools, parent, entry);
  } finally {
    await live.close();
  }
}

/**
 * Before the rotation counts as done: which bytes of the log the rotated file holds. It is whole, and nobody has compressed it yet; one
 * that was removed meanwhile held what was to be cut.
 */
async function remember(tools: RotationTools, parent: FileHandle, entry: RotationEntry): Promise<void> {
  const { inode, target, from, end } = entry;
  const number = parseRotated(target)?.number ?? 0;
  const bytes = (await sizeOf(parent, target)) ?? end - from;
  await tools.pieces.rotated(entry, { inode, number, bytes });
}

async function sizeOf(parent: FileHandle, name: string): Promise<number | undefined> {
  return lstat(pathIn(parent, name)).then(
    ({ size }) => size,
    () => undefined,
  );
}

async function copyOut(parent: FileHandle, live: FileHandle, { target, from, end }: RotationEntry): Promise<void> {
  const unfinished = unfinishedName(target);
  await rm(pathIn(parent, unfinished), { force: true });
  const copy = await openRegular(parent, unfinished, O_RDWR | O_CREAT | O_EXCL, 0o640);
  try {
    const { uid, gid, mode } = await live.stat();
    if (process.getuid?.() === 0) await copy.chown(uid, gid);
    await copy.chmod(mode & 0o777);
    await copyRange(live, copy, from, end);
    await copy.sync();
  } catch (error) {
    await rm(pathIn(parent, unfinished), { force: true });
    throw error;
  } finally {
    await copy.close();
  }
  await rename(pathIn(parent, unfinished), pathIn(parent, target));
  await parent.sync();
}

/** Everything before `entry.end` is in the rotated file: takes it away from the live one. Safe to repeat. */
async function finishCut(
  tools: RotationTools,
  parent: FileHandle,
  live: FileHandle,
  entry: RotationEntry,
): Promise<Cut | undefined> {
  const { from, end, target } = entry;
  const mark = markOf(target);
  if (entry.way === 'truncate') return truncateFront(parent, live, entry);
  const marked = await hasMark(live, mark);
  const { size } = await live.stat();
  // Already cut, or emptied by others since.
  if (marked || size < end) return undefined;
  const cut = cutOffset(end, Buffer.byteLength(mark) + 1, BLOCK_BYTES);
  if (tools.collapse && cut > 0 && (await collapseFront(tools.clock, live, { end, cut, mark })) === 'cut') {
    return { rotated: target, from, end, shift: cut, begin: end - cut };
  }
  tools.onFallback(entry);
  const fallback: RotationEntry = { ...entry, way: 'truncate' };
  await live.write(padMark(mark, Buffer.byteLength(mark) + 1), 0, Buffer.byteLength(mark) + 1, 0);
  await live.datasync();
  await tools.journal.write(fallback);
  return truncateFront(parent, live, fallback);
}

/**
 * The fallback: copies what came since, then empties the file. What is written between the last copy and the truncation is lost.
 * A mark at the front says that it has not been emptied yet.
 */
async function truncateFront(parent: FileHandle, live: FileHandle, entry: RotationEntry): Promise<Cut | undefined> {
  const { from, end, target } = entry;
  if (!(await hasMark(live, markOf(target)))) return undefined;
  const copy = await openRegular(parent, target, O_RDWR);
  let copied = end;
  try {
    await copy.truncate(end - from);
    const appending = await openRegular(parent, target, O_RDWR | O_APPEND);
    try {
      copied = await copyUntilCaughtUp(live, appending, end).catch(async (error: unknown) => {
        // Room that was not enough for this is given back; the file is still whole.
        await copy.truncate(end - from);
        throw error;
      });
      await live.truncate(0);
      await appending.sync();
    } finally {
      await appending.close();
    }
  } finally {
    await copy.close();
  }
  return { rotated: target, from, end: copied, shift: copied, begin: 0 };
}

/** @returns the size of the live file that it has caught up with */
async function copyUntilCaughtUp(live: FileHandle, copy: FileHandle, from: number): Promise<number> {
  let copied = from;
  for (let { size } = await live.stat(); size > copied; { size } = await live.stat()) {
    await copyRange(live, copy, copied, size);
    copied = size;
  }
  return copied;
}

async function hasMark(file: FileHandle, mark: string): Promise<boolean> {
  const line = (await readFirstLine(file))?.toString('utf8');
  return line !== undefined && isMark(line) && line.trimEnd() === mark;
}
