import { parseRotated, type RotatedName } from './names.js';

/** Which rotated files go, decided without effects. */

export interface RotatedFile extends RotatedName {
  readonly bytes: number;
  /** Wall-clock milliseconds of its last write: of its rotation. */
  readonly atMs: number;
}

export interface LogLimits {
  /** Rotated files kept per log file. */
  readonly keep: number;
  readonly maxAgeMs: number;
  /** All of a service's log files together, live ones included. */
  readonly serviceBytesMax: number;
}

export interface Removal {
  readonly file: RotatedFile;
  readonly why: 'keep' | 'max_age' | 'service cap';
}

/** The rotated files among names with their sizes and times. */
export function rotatedAmong(files: readonly { name: string; bytes: number; atMs: number }[]): RotatedFile[] {
  return files.flatMap(({ name, bytes, atMs }) => {
    const parsed = parseRotated(name);
    return parsed ? [{ ...parsed, bytes, atMs }] : [];
  });
}

/** The number of the next rotation of a file. */
export function nextNumber(rotated: readonly RotatedName[], of: string): number {
  return 1 + Math.max(0, ...rotated.filter((file) => file.of === of).map((file) => file.number));
}

/** Oldest first: by number within a file, by time between files. */
function oldestFirst(a: RotatedFile, b: RotatedFile): number {
  return a.of === b.of ? a.number - b.number : a.atMs - b.atMs;
}

/** What to remove, oldest first. */
export function planRemovals(
  rotated: readonly RotatedFile[],
  liveBytes: number,
  limits: LogLimits,
  nowMs: number,
): Removal[] {
  const removals: Removal[] = [];
  const left: RotatedFile[] = [];
  for (const of of new Set(rotated.map((file) => file.of))) {
    const files = rotated.filter((file) => file.of === of).sort((a, b) => b.number - a.number);
    for (const [index, file] of files.entries()) {
      if (index >= limits.keep) removals.push({ file, why: 'keep' });
      else if (nowMs - file.atMs > limits.maxAgeMs) removals.push({ file, why: 'max_age' });
      else left.push(file);
    }
  }
  let bytes = liveBytes + left.reduce((sum, file) => sum + file.bytes, 0);
  for (const file of left.sort(oldestFirst)) {
    if (bytes <= limits.serviceBytesMax) break;
    removals.push({ file, why: 'service cap' });
    bytes -= file.bytes;
  }
  return removals;
}

/** What to compress: all but the newest of each file, which tail still reads. */
export function planCompression(rotated: readonly RotatedFile[]): RotatedFile[] {
  return rotated.filter(
    (file) => !file.compressed && rotated.some((other) => other.of === file.of && other.number > file.number),
  );
}
