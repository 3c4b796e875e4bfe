import { gzipSync } from 'node:zlib';

/** A tar made byte by byte, so that it can say what no program would. */
export interface TarPiece {
  readonly path: string;
  /** The letter of its type. */
  readonly type?: string;
  readonly content?: string | Buffer;
  readonly target?: string;
  readonly mode?: number;
  /** What the header says, instead of the content's size. */
  readonly size?: number | string;
  /** Instead of the right one. */
  readonly checksum?: number;
}

const BLOCK = 512;

export function tarHeader({
  path,
  type = '0',
  content = '',
  target = '',
  mode = 0o644,
  size,
  checksum,
}: TarPiece): Buffer {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, offset: number, length: number): void => {
    header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset, length, 'latin1');
  };
  header.write(path, 0, 100);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  if (typeof size === 'string') header.write(size, 124, 12, 'latin1');
  else octal(size ?? Buffer.byteLength(content), 124, 12);
  octal(0, 136, 12);
  header.write('        ', 148, 8);
  header.write(type, 156, 1, 'latin1');
  header.write(target, 157, 100);
  header.write('ustar\u000000', 257, 8, 'latin1');
  octal(checksum ?? header.reduce((sum, byte) => sum + byte, 0), 148, 7);
  return header;
}

function padded(content: string | Buffer): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);
}

/** Without its end. */
export function tarPieces(...pieces: readonly TarPiece[]): Buffer {
  return Buffer.concat(pieces.flatMap((piece) => [tarHeader(piece), padded(piece.content ?? '')]));
}

export const TAR_END = Buffer.alloc(2 * BLOCK);

export function tarGz(...pieces: readonly TarPiece[]): Buffer {
  return gzipSync(Buffer.concat([tarPieces(...pieces), TAR_END]));
}

/** The content of a pax header. */
export function paxRecords(records: Readonly<Record<string, string>>): string {
  return Object.entries(records)
    .map(([key, value]) => {
      const rest = Buffer.byteLength(` ${key}=${value}\n`);
      const length = [1, 2, 3, 4, 5].map((digits) => rest + digits).find((sum, at) => String(sum).length === at + 1);
      return `${length ?? 0} ${key}=${value}\n`;
    })
    .join('');
}
