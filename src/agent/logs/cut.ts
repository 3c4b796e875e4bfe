import type { FileHandle } from 'node:fs/promises';
import type { Clock } from '../../kit/clock.js';
import { runExternal } from '../system/external.js';
import { isMark, padMark } from './names.js';

/** Reading a log file's ends, and taking its front away while a service appends to it. */

const COPY_CHUNK_BYTES = 1024 * 1024;
/** Longest line that is looked for when a place to cut is sought. */
const LINE_BYTES_MAX = 1024 * 1024;
const NEWLINE = 0x0a;
const FALLOCATE_TIMEOUT_MS = 120_000;
const LOCK_GRACE_MS = 5000;
/** A mark is padded up to a block and its own length; nothing longer is one. */
const MARK_BYTES_MAX = 128 * 1024;

/** Bytes of the line that says where earlier lines are, with its end; 0 where there is none. */
export async function markBytes(file: FileHandle): Promise<number> {
  const line = await readFirstLine(file);
  return line !== undefined && isMark(line.toString('utf8')) ? line.length : 0;
}

/** The first line with its end; undefined when it does not end in MARK_BYTES_MAX. */
export async function readFirstLine(file: FileHandle): Promise<Buffer | undefined> {
  for (let bytes = 8192; bytes <= MARK_BYTES_MAX; bytes *= 4) {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
    const end = buffer.subarray(0, bytesRead).indexOf(NEWLINE);
    if (end >= 0) return buffer.subarray(0, end + 1);
    if (bytesRead < bytes) return undefined;
  }
  return undefined;
}

/** The offset behind the last whole line before `size`; undefined when none ends in the last LINE_BYTES_MAX. */
export async function lastLineEnd(file: FileHandle, size: number): Promise<number | undefined> {
  const bytes = Math.min(size, LINE_BYTES_MAX);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, size - bytes);
  const at = buffer.subarray(0, bytesRead).lastIndexOf(NEWLINE);
  return at < 0 ? undefined : size - bytes + at + 1;
}

/** Copies bytes [from, to) to the present end of `target`. */
export async function copyRange(source: FileHandle, target: FileHandle, from: number, to: number): Promise<void> {
  const chunk = Buffer.alloc(Math.min(COPY_CHUNK_BYTES, Math.max(to - from, 0)));
  for (let at = from; at < to;) {
    const { bytesRead } = await source.read(chunk, 0, Math.min(chunk.length, to - at), at);
    if (bytesRead === 0) throw new Error(`the log file ended at ${at} bytes while ${to} were to be copied`);
    let written = 0;
    while (written < bytesRead) written += (await target.write(chunk, written, bytesRead - written)).bytesWritten;
    at += bytesRead;
  }
}

/**
 * Where to cut a file whose lines up to `end` are to go: `cut` is a multiple of the block size, below `end` by at least the length of
 * the mark, which then takes the place of what is between. 0: too short to be cut.
 */
export function cutOffset(end: number, markLength: number, blockBytes: number): number {
  return Math.max(0, Math.floor((end - markLength) / blockBytes) * blockBytes);
}

/**
 * Locks an open log file (flock) against those who cut it. A fallocate that was called inherits the lock, and outlives an agent that is
 * killed: only when it has ended can the next agent know what was cut. Where a service locks its own log, this does without after `waitMs`.
 */
export async function lockAgainstCuts(clock: Clock, file: FileHandle, waitMs: number): Promise<void> {
  const command = ['flock', '--exclusive', '--wait', String(waitMs / 1000), '3'];
  await runExternal(clock, { command, timeoutMs: waitMs + LOCK_GRACE_MS, extra: file.fd });
}

export type CutResult = 'cut' | 'unsupported';

/**
 * Replaces everything before `end` by the line `mark`, with no byte after `end` touched, however fast they are being written:
 * the mark is written over [cut, end), made durable, then the kernel drops [0, cut). Safe to repeat until it has said "cut".
 * @throws when the tool fails for another reason than that the file system cannot do it
 */
export async function collapseFront(
  clock: Clock,
  file: FileHandle,
  place: { readonly end: number; readonly cut: number; readonly mark: string },
): Promise<CutResult> {
  const { end, cut, mark } = place;
  await file.write(padMark(mark, end - cut), 0, end - cut, cut);
  await file.datasync();
  const command = ['fallocate', '--collapse-range', '--offset', '0', '--length', String(cut), '/proc/self/fd/3'];
  const { code, output, timedOut } = await runExternal(clock, {
    command,
    timeoutMs: FALLOCATE_TIMEOUT_MS,
    extra: file.fd,
  });
  if (code === 0) {
    await file.sync();
    return 'cut';
  }
  if (timedOut) throw new Error('fallocate took too long');
  // Not there, or not for this file system: the message is the C library's.
  if (code === undefined || /not supported|Invalid argument|unrecognized option/i.test(output)) return 'unsupported';
  throw new Error(`fallocate: ${output}`);
}
