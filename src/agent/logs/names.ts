/** Names of log files and of what is rotated out of them. */

const DIGITS = 6;
const ROTATED = /^(.+)\.(\d{6,})(\.gz)?$/;

export interface RotatedName {
  /** The whole name, relative to the log directory. */
  readonly name: string;
  /** The file it was rotated out of. */
  readonly of: string;
  /** Rises with each rotation of that file. */
  readonly number: number;
  readonly compressed: boolean;
}

/** `orders.log.000017`. */
export function rotatedName(of: string, number: number): string {
  return `${of}.${String(number).padStart(DIGITS, '0')}`;
}

/** Undefined for a name that no rotation made. */
export function parseRotated(name: string): RotatedName | undefined {
  const found = ROTATED.exec(name);
  const [, of, digits, ending] = found ?? [];
  if (of === undefined || digits === undefined) return undefined;
  return { name, of, number: Number(digits), compressed: ending !== undefined };
}

/** A name for a file that is still being written; a crash may leave it behind. */
export function unfinishedName(base: string): string {
  return `.${base}.part`;
}

export function isUnfinished(name: string): boolean {
  return /(?:^|\/)\.[^/]+\.part$/.test(name);
}

const MARK = '[muster: earlier lines are in ';
const DROPPED = '[muster: ';

/** The first line of a file whose front was cut off, without padding. */
export function markOf(rotated: string): string {
  return `${MARK}${rotated}]`;
}

/** The first line of a file whose front had to be thrown away. */
export function droppedMark(bytes: number): string {
  return `${DROPPED}${bytes} bytes of earlier lines were dropped: the disk is nearly full]`;
}

/** Whether a first line says that earlier ones are elsewhere: it is not the service's own. */
export function isMark(line: string): boolean {
  return line.startsWith(MARK) && line.trimEnd().endsWith(']');
}

/** `mark` as a line of exactly `bytes` bytes, its end included. Marks are ASCII but for file names. */
export function padMark(mark: string, bytes: number): Buffer {
  const line = Buffer.alloc(bytes, ' ');
  line.write(mark, 0, bytes - 1, 'utf8');
  line[bytes - 1] = 0x0a;
  return line;
}
