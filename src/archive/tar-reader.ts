import { Header } from 'tar/header';
import { refused, refusedArchive, shown } from './names.js';
import { readPax, type PaxFields } from './pax.js';

/** Of tar: everything is in blocks of this many bytes. */
export const BLOCK_BYTES = 512;

/** Of what describes an entry before it: long names, pax records. */
const META_BYTES_MAX = 1_048_576;

/** Offset and length of mode, uid, gid, size and mtime in a header. */
const NUMBER_FIELDS = [
  [100, 8],
  [108, 8],
  [116, 8],
  [124, 12],
  [136, 12],
] as const;

/** Digits of octal with spaces or NULs around, or nothing at all. */
const OCTAL = /^ *[0-7]*[ \0]*$/;

/** Set in the first byte of a number that is binary, as GNU's tar writes those that are too large for octal. */
const BINARY = 0x80;

export interface TarEntry {
  readonly type: 'file' | 'directory' | 'symlink';
  /** As the archive says it. */
  readonly path: string;
  /** Of a link; empty for others. */
  readonly target: string;
  /** 0 for all but files. */
  readonly sizeBytes: number;
  /** Permissions with set-user-ID, set-group-ID and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeS: number;
}

/** What a reader tells, in the archive's order. What it throws ends the reading. */
export interface TarSink {
  entry(entry: TarEntry): void;
  /** Bytes of the file that was told last; not to be kept. */
  data(bytes: Buffer): void;
  /** The file that was told last is whole. Not called for others. */
  fileEnd(): void;
}

type Meta = 'path' | 'target' | 'pax' | 'global';

/** By the type letters of tar. */
const METAS: ReadonlyMap<string, Meta> = new Map([
  ['L', 'path'],
  ['K', 'target'],
  ['x', 'pax'],
  ['g', 'global'],
]);

const REFUSED_TYPES: ReadonlyMap<string, string> = new Map([
  ['1', 'is a hard link: pack with tar --hard-dereference, or let muster pack the directory'],
  ['3', 'is a device'],
  ['4', 'is a device'],
  ['6', 'is a named pipe'],
  ['S', 'is a sparse file: pack without --sparse'],
]);

/** What the bytes after a header are for. */
type Body = { readonly of: 'file' } | { readonly of: Meta; readonly pieces: Buffer[] };

/**
 * Reads tar as it arrives, strictly: what two programs could read differently is refused. Knows ustar, GNU's long names and pax. Holds one header
 * and what describes one entry, never content. The fields of a header are decoded by the tar package.
 */
export class TarReader {
  readonly #sink: TarSink;
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #blockBytes = 0;
  #body: Body | undefined;
  /** Of the body and of the padding behind it. */
  #bodyLeft = 0;
  #paddingLeft = 0;
  /** Blocks of zeros seen in a row; two end the archive. */
  #zeroBlocks = 0;
  #longPath: string | undefined;
  #longTarget: string | undefined;
  #pax: PaxFields | undefined;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** @throws invalid, or what the sink throws */
  push(chunk: Buffer): void {
    for (let offset = 0; offset < chunk.length;) offset += this.#take(chunk, offset);
  }

  /** @throws invalid when the archive is not whole */
  end(): void {
    if (this.#zeroBlocks < 2 || this.#blockBytes > 0) {
      throw refusedArchive('it ends in the middle: it was cut off, or is no tar. Make it again');
    }
  }

  /** How many bytes were taken, at least 1. */
  #take(chunk: Buffer, offset: number): number {
    if (this.#body) return this.#takeBody(this.#body, chunk.subarray(offset, offset + this.#bodyLeft));
    if (this.#paddingLeft > 0) {
      const taken = Math.min(this.#paddingLeft, chunk.length - offset);
      this.#paddingLeft -= taken;
      return taken;
    }
    const taken = chunk.copy(this.#block, this.#blockBytes, offset, offset + BLOCK_BYTES - this.#blockBytes);
    this.#blockBytes += taken;
    if (this.#blockBytes === BLOCK_BYTES) {
      this.#blockBytes = 0;
      this.#takeBlock();
    }
    return taken;
  }

  #takeBody(body: Body, bytes: Buffer): number {
    if (body.of === 'file') this.#sink.data(bytes);
    else body.pieces.push(Buffer.from(bytes));
    this.#bodyLeft -= bytes.length;
    if (this.#bodyLeft === 0) this.#endBody(body);
    return bytes.length;
  }

  #endBody(body: Body): void {
    this.#body = undefined;
    if (body.of === 'file') this.#sink.fileEnd();
    else this.#describe(body.of, Buffer.concat(body.pieces));
  }

  #begin(body: Body, sizeBytes: number): void {
    this.#bodyLeft = sizeBytes;
    this.#paddingLeft = paddingOf(sizeBytes);
    this.#body = body;
    if (sizeBytes === 0) this.#endBody(body);
  }

  #takeBlock(): void {
    const zeros = this.#block.every((byte) => byte === 0);
    if (this.#zeroBlocks > 0 && !zeros) throw refusedArchive('something follows its end. Make it again');
    if (zeros) {
      if (this.#described) throw refusedArchive('it describes an entry that it does not have. Make it again');
      this.#zeroBlocks += 1;
    } else {
      this.#takeHeader(new Header(this.#block));
    }
  }

  get #described(): boolean {
    return this.#longPath !== undefined || this.#longTarget !== undefined || this.#pax !== undefined;
  }

  #takeHeader(header: Header): void {
    const path = header.path ?? '';
    if (!header.cksumValid || header.path === undefined) {
      throw refusedArchive('it holds a header whose checksum is wrong: it is damaged, or is no tar. Make it again');
    }
    checkNumbers(this.#block, path);
    const sizeBytes = sizeOf(this.#block, header, path);
    // The decoder says type 5 of a file whose name ends with a slash, and size 0 of a directory.
    const letter = this.#block.toString('latin1', 156, 157).replace('\0', '0');
    const meta = METAS.get(letter);
    if (meta === undefined) {
      this.#takeEntry(header, letter, sizeBytes);
      return;
    }
    if (sizeBytes > META_BYTES_MAX) throw refused(path, `describes another with more than ${META_BYTES_MAX} bytes`);
    this.#begin({ of: meta, pieces: [] }, sizeBytes);
  }

  #describe(meta: Meta, bytes: Buffer): void {
    switch (meta) {
      case 'path':
        if (this.#longPath !== undefined) throw refusedArchive('it gives an entry two names');
        this.#longPath = longNameOf(bytes);
        return;
      case 'target':
        if (this.#longTarget !== undefined) throw refusedArchive('it gives a link two targets');
        this.#longTarget = longNameOf(bytes);
        return;
      case 'pax':
        if (this.#pax !== undefined) throw refusedArchive('it describes an entry twice');
        this.#pax = readPax(bytes);
        return;
      case 'global': {
        const { path, target, sizeBytes } = readPax(bytes);
        const names = [path, target, sizeBytes].some((value) => value !== undefined);
        if (names) throw refusedArchive('it gives all its entries one name, link or size');
      }
    }
  }

  #takeEntry(header: Header, letter: string, sizeBytes: number): void {
    const path = oneOf('names', header.path, [this.#pax?.path, this.#longPath]);
    const target = oneOf('targets', header.linkpath, [this.#pax?.target, this.#longTarget]);
    this.#checkPaxSize(path, sizeBytes);
    const type = entryType(letter, path);
    if (type !== 'file' && sizeBytes !== 0) throw refused(path, 'has a size, and is no file');
    this.#longPath = this.#longTarget = this.#pax = undefined;
    this.#sink.entry({ type, path, target: type === 'symlink' ? target : '', sizeBytes, ...attributesOf(header) });
    if (type === 'file') this.#begin({ of: 'file' }, sizeBytes);
  }

  #checkPaxSize(path: string, sizeBytes: number): void {
    const said = this.#pax?.sizeBytes;
    if (said !== undefined && said !== sizeBytes) throw refused(path, 'has two sizes');
  }
}

function entryType(letter: string, path: string): TarEntry['type'] {
  if (letter === '5' || (letter === '0' && path.endsWith('/'))) return 'directory';
  if (letter === '0') return 'file';
  if (letter === '2') return 'symlink';
  throw refused(path, REFUSED_TYPES.get(letter) ?? `is of a kind (${shown(letter)}) that is not taken`);
}

function attributesOf({
  mode = 0,
  uid = 0,
  gid = 0,
  mtime,
}: Header): Omit<TarEntry, 'type' | 'path' | 'target' | 'sizeBytes'> {
  return { mode: mode & 0o7777, uid, gid, mtimeS: (mtime?.getTime() ?? 0) / 1000 };
}

/** The one that was said before the header, or the header's. @throws invalid when two were: programs differ in which one they believe */
function oneOf(what: string, inHeader: string | undefined, before: readonly (string | undefined)[]): string {
  const [name, another] = before.filter((one) => one !== undefined);
  if (another !== undefined) throw refused(another, `has two ${what}`);
  return name ?? inHeader ?? '';
}

/** Bytes from the end of content of so many bytes to the end of its last block. */
export function paddingOf(sizeBytes: number): number {
  return (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** GNU's long names end with a NUL. */
function longNameOf(bytes: Buffer): string {
  const text = bytes.toString('utf8').replace(/\0$/, '');
  if (text === '' || text.includes('\0')) throw refused(text, 'has a NUL in its name');
  return text;
}

/** @throws invalid for numbers that programs read differently */
function checkNumbers(block: Buffer, path: string): void {
  for (const [offset, length] of NUMBER_FIELDS) {
    const binary = ((block[offset] ?? 0) & BINARY) !== 0;
    if (!binary && !OCTAL.test(block.toString('latin1', offset, offset + length))) {
      throw refused(path, 'has a number that is none in its header');
    }
  }
}

/** As the header says it, whatever the type: the decoder says 0 of every directory. */
function sizeOf(block: Buffer, header: Header, path: string): number {
  const [offset, length] = [124, 12];
  const octal = block.toString('latin1', offset, offset + length).replace(/[ \0]+/g, '');
  const binary = ((block[offset] ?? 0) & BINARY) !== 0;
  const size = binary ? header.size : Number.parseInt(octal === '' ? '0' : octal, 8);
  if (size === undefined || !Number.isSafeInteger(size) || size < 0) throw refused(path, 'has a size that is none');
  return size;
}
