import { constants } from 'node:fs';
import { statfs } from 'node:fs/promises';
import type { Clock } from '../../kit/clock.js';
import { formatSize } from '../../kit/durations.js';
import type { Logger } from '../../kit/logger.js';
import type { KeyedMutex } from '../../kit/tasks.js';
import { collapseFront, cutOffset, lastLineEnd, markBytes } from './cut.js';
import { openInside } from '../system/directory.js';
import { isDeclared, logFiles, removeFile, type LogFile, type LoggedService } from './files.js';
import { rotatedAmong, type RotatedFile } from './housekeeping.js';
import { droppedMark } from './names.js';
import type { Pieces } from './pieces.js';
import type { Cut } from './rotation.js';
import { keyOf, type Unfinished } from './unfinished.js';

export interface SpaceOptions {
  readonly services: () => readonly LoggedService[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly exclusive: KeyedMutex;
  readonly onCut: (key: string, cut: Cut) => void;
  readonly pieces: Pick<Pieces, 'dropped'>;
  /** A rotated file is there no more. */
  readonly onRemoved: (logged: LoggedService, name: string) => void;
  /** Their offsets are in a journal: they are left as they are. */
  readonly unfinished: Pick<Unfinished, 'has'>;
  /** Below this much free space the oldest rotated files of all services go, then the oldest lines. */
  readonly floorBytes: number;
  /** Free bytes where the logs are. */
  readonly freeBytes: () => Promise<number>;
}

/** A live file is not shortened below this for the sake of free space. */
const LIVE_BYTES_LEAST = 1024 * 1024;
const BLOCK_BYTES = 4096;

interface Placed<T> {
  readonly logged: LoggedService;
  readonly file: T;
}

/** What may go when the disk is nearly full, in this order: rotated files of all services, the oldest first, then the fronts of live ones. */
export function planSpace(
  all: readonly { readonly logged: LoggedService; readonly files: readonly LogFile[] }[],
  isHeld: (place: { readonly root: string; readonly name: string }) => boolean,
): { readonly rotated: readonly Placed<RotatedFile>[]; readonly live: readonly Placed<LogFile>[] } {
  const rotated = all.flatMap(({ logged, files }) =>
    rotatedAmong(files)
      .filter(({ of }) => !isHeld({ root: logged.root, name: of }))
      .map((file) => ({ logged, file })),
  );
  const live = all.flatMap(({ logged, files }) =>
    files
      .filter(({ name, bytes }) => bytes > LIVE_BYTES_LEAST && isDeclared(logged, name))
      .filter(({ name }) => !isHeld({ root: logged.root, name }))
      .map((file) => ({ logged, file })),
  );
  return { rotated: rotated.sort((a, b) => a.file.atMs - b.file.atMs), live };
}

/** Makes room while the disk is nearly full, as planSpace says; each file and each line dropped is said. */
export async function keepSpace(options: SpaceOptions): Promise<void> {
  const { services, logger, unfinished, freeBytes, floorBytes } = options;
  const isShort = async (): Promise<boolean> => (await freeBytes()) < floorBytes;
  if (!(await isShort())) return;
  const all: { logged: LoggedService; files: LogFile[] }[] = [];
  for (const logged of services()) all.push({ logged, files: await logFiles(logged.root) });
  const plan = planSpace(all, (place) => unfinished.has(place));
  for (const { logged, file } of plan.rotated) {
    if (!(await isShort())) return;
    const facts = { service: logged.service, file: file.name, size: formatSize(file.bytes) };
    logger.warn('the disk is nearly full: an old log was removed', facts);
    await removeFile(logged.root, file.name);
    options.onRemoved(logged, file.name);
  }
  for (const { logged, file } of plan.live) if (await isShort()) await dropFront(options, logged, file);
}

/** The last resort: the older half of a live log goes, and the log and the agent's own say so. */
async function dropFront(options: SpaceOptions, logged: LoggedService, file: LogFile): Promise<void> {
  const { clock, logger, exclusive, onCut, pieces } = options;
  const place = { root: logged.root, name: file.name };
  const key = keyOf(place);
  await exclusive.run(key, async () => {
    const live = await openInside(logged.root, file.name, constants.O_RDWR);
    try {
      const { size: whole, ino: inode } = await live.stat();
      const from = await markBytes(live);
      const end = await lastLineEnd(live, Math.floor(whole / 2));
      if (end === undefined) return;
      const mark = droppedMark(end);
      const cut = cutOffset(end, mark.length + 1, BLOCK_BYTES);
      if (cut <= from) return;
      const result = await collapseFront(clock, live, { end, cut, mark });
      if (result === 'unsupported') {
        const { size } = await live.stat();
        await live.truncate(0);
        logger.warn('the disk is nearly full: a log was emptied', {
          service: logged.service,
          file: file.name,
          bytes: size,
        });
        await pieces.dropped(place, { inode, bytes: size - from, overwritten: 0 });
        onCut(key, { rotated: '', from: 0, end: size, shift: size, begin: 0 });
        return;
      }
      logger.warn('the disk is nearly full: the older half of a log was dropped', {
        service: logged.service,
        file: file.name,
        bytes: end,
      });
      await pieces.dropped(place, { inode, bytes: cut - from, overwritten: end - cut });
      onCut(key, { rotated: '', from: 0, end, shift: cut, begin: 0 });
    } finally {
      await live.close();
    }
  });
}

export async function freeBytesOf(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}
