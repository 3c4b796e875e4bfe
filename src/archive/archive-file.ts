import { createHash, type Hash } from 'node:crypto';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createGzip, type Gzip } from 'node:zlib';
import { errnoOf, MusterError } from '../kit/errors.js';
import { explainFullDisk, syncDirectory } from '../kit/files.js';
import { BLOCK_BYTES } from './tar-reader.js';

/** zlib is given pieces of this size: each costs a turn of the thread pool, and entries are small. */
const PIECE_BYTES = 262_144;

const GZIP_LEVEL = 6;

/** Where a gzip header says which system made it, and what says that it does not. */
const SYSTEM_OFFSET = 9;
const SYSTEM_UNKNOWN = 255;

const END_OF_TAR = Buffer.alloc(2 * BLOCK_BYTES);

/**
 * A tar.gz that is being written, as a new file: bytes of tar are compressed, hashed and written, and those who write wait for the slowest of these.
 * The bytes depend on what is written and on the zlib of this Node, on nothing else of the machine.
 */
export class ArchiveFile {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #gzip: Gzip = createGzip({ level: GZIP_LEVEL, chunkSize: PIECE_BYTES });
  readonly #hash: Hash = createHash('sha256');
  readonly #written: Promise<void>;
  #failure: { readonly error: unknown } | undefined;
  #piece = Buffer.allocUnsafe(PIECE_BYTES);
  #pieceBytes = 0;
  #sizeBytes = 0;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
    this.#written = this.#drain().catch((error: unknown) => {
      this.#failure = { error: explainFullDisk(error, dirname(path)) };
      this.#gzip.destroy();
    });
  }

  /** `flag` w: over an empty file that is there. @throws exists when something is there that must not be */
  static async create(path: string, flag: 'wx' | 'w' = 'wx'): Promise<ArchiveFile> {
    try {
      return new ArchiveFile(path, await open(path, flag, 0o600));
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw explainFullDisk(error, dirname(path));
      throw new MusterError('exists', `${path} is there: archives are written as new files`, { cause: error });
    }
  }

  /** Resolves when more may be written; `bytes` may be used again then. @throws exhausted on a full disk, a system error */
  async write(bytes: Buffer): Promise<void> {
    for (let offset = 0; offset < bytes.length;) {
      const taken = bytes.copy(this.#piece, this.#pieceBytes, offset);
      offset += taken;
      this.#pieceBytes += taken;
      if (this.#pieceBytes === PIECE_BYTES) await this.#compress();
    }
  }

  /** Ends the tar and makes the file durable. */
  async finish(): Promise<{ readonly digest: string; readonly sizeBytes: number }> {
    await this.write(END_OF_TAR);
    await this.#compress();
    this.#gzip.end();
    await this.#written;
    this.#check();
    await this.#file.sync();
    await this.#file.close();
    await syncDirectory(dirname(this.#path));
    return { digest: this.#hash.digest('hex'), sizeBytes: this.#sizeBytes };
  }

  /** Removes what was written. */
  async abandon(): Promise<void> {
    this.#gzip.destroy();
    await this.#written;
    await this.#file.close().catch(() => undefined);
    await rm(this.#path, { force: true });
  }

  async #compress(): Promise<void> {
    this.#check();
    const piece = this.#piece.subarray(0, this.#pieceBytes);
    this.#piece = Buffer.allocUnsafe(PIECE_BYTES);
    this.#pieceBytes = 0;
    if (piece.length === 0 || this.#gzip.write(piece)) return;
    await new Promise<void>((resolve) => {
      const ready = (): void => {
        this.#gzip.off('drain', ready).off('close', ready);
        resolve();
      };
      this.#gzip.on('drain', ready).on('close', ready);
    });
    this.#check();
  }

  async #drain(): Promise<void> {
    for await (const piece of this.#gzip as AsyncIterable<Buffer>) {
      if (this.#sizeBytes === 0) piece[SYSTEM_OFFSET] = SYSTEM_UNKNOWN;
      this.#hash.update(piece);
      this.#sizeBytes += piece.length;
      await this.#file.writeFile(piece);
    }
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error;
  }
}
