import { open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../../kit/clock.js';
import { formatSize } from '../../kit/durations.js';
import { errnoOf, messageOf, MusterError } from '../../kit/errors.js';
import { explainFullDisk, makeDirectory, syncDirectory } from '../../kit/files.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Artifact } from '../../model/release.js';
import { ArchiveRoom, type RoomOptions } from './archive-room.js';
import { Soundness } from './soundness.js';

/** Largest archive. */
export const ARCHIVE_BYTES_MAX = 4 * 1024 * 1024 * 1024;
/** Of a message of a fetch. */
export const FETCH_CHUNK_BYTES = 64 * 1024;

/** Archives being sent at once: each may have about a mebibyte on its way. More are refused and tried again by their agents. */
export const FETCHES_MAX = 128;
const FETCH_RETRY_MS = 2000;

const WHOLE = '.tar.gz';
const PART = '.part';
const DIGEST = /^[0-9a-f]{64}$/;

export interface ArchivesOptions extends RoomOptions {
  /** Absolute; made where it is missing. */
  readonly directory: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How much of an archive there is. */
export interface Uploaded {
  /** Bytes on the disk. */
  readonly offset: number;
  /** It is whole, and its digest was checked. */
  readonly complete: boolean;
}

export interface UploadOrder {
  readonly digest: string;
  /** Of the whole archive. */
  readonly sizeBytes: number;
  /** Where the chunks begin in it. */
  readonly offset: number;
}

/** A file of the store: an archive, or a part of one. */
interface Stored {
  readonly sizeBytes: number;
  /** When it was last written, or asked for by who wants to upload it. Wall clock. */
  readonly sinceMs: number;
}

/** @throws invalid for what is no SHA-256 in hexadecimal digits */
export function assertDigest(digest: string): void {
  if (DIGEST.test(digest)) return;
  throw new MusterError('invalid', 'digest must be a SHA-256 of 64 hexadecimal digits in lower case', {
    reason: 'DIGEST',
    fields: [{ field: 'digest', description: '64 hexadecimal digits' }],
  });
}

/**
 * Archives on the center's disk, each once, by its SHA-256: `HH/DIGEST.tar.gz` is whole, `HH/DIGEST.part` is on its way, HH being the digest's
 * first two digits. A file gets its final name only once it is synced and its digest was checked, so that whatever bears one is whole after
 * any crash; the disk alone can damage it later, which `problemWith` and `read` say.
 */
export class Archives {
  readonly #options: ArchivesOptions;
  readonly #room: ArchiveRoom;
  readonly #soundness = new Soundness();
  readonly #turns = new KeyedMutex();
  readonly #whole = new Map<string, Stored>();
  readonly #parts = new Map<string, Stored>();
  #fetches = 0;

  private constructor(options: ArchivesOptions) {
    this.#options = options;
    this.#room = new ArchiveRoom(options);
  }

  /** Looks at what there is. @throws precondition when the directory cannot be made; system errors of a disk that cannot be read */
  static async open(options: ArchivesOptions): Promise<Archives> {
    const archives = new Archives(options);
    await makeDirectory(options.directory, 0o700);
    await syncDirectory(dirname(options.directory));
    await archives.#scan();
    return archives;
  }

  /** Bytes of a whole archive; undefined: it is not here. */
  sizeOf(digest: string): number | undefined {
    return this.#whole.get(digest)?.sizeBytes;
  }

  /** Digests of whole archives. */
  digests(): string[] {
    return [...this.#whole.keys()];
  }

  /** Since when a whole archive is here, or was last asked for by who wants to upload it. Wall clock. */
  sinceMs(digest: string): number {
    return this.#whole.get(digest)?.sinceMs ?? 0;
  }

  /** Why the archive cannot be sent, for people; undefined: as far as is known, it can. */
  problemWith({ digest, sizeBytes }: Artifact): string | undefined {
    const found = this.sizeOf(digest);
    const again = `Push the same archive again (${digest.slice(0, 12)}): it takes its place`;
    if (found === undefined) return `its archive is not on the center's disk any more. ${again}`;
    if (found !== sizeBytes)
      return `its archive has ${found} bytes on the center's disk instead of ${sizeBytes}. ${again}`;
    const damage = this.#soundness.damageOf(digest);
    return damage === undefined ? undefined : `${damage}. ${again}`;
  }

  /** As problemWith, for a record that was stored by an earlier run: a file of another size is damaged, whatever it is. */
  reconcile(artifact: Artifact): string | undefined {
    const found = this.sizeOf(artifact.digest);
    if (found !== undefined && found !== artifact.sizeBytes) {
      this.#soundness.damaged(artifact.digest, "its archive on the center's disk is not as long as it was");
    }
    return this.problemWith(artifact);
  }

  /** How much of it there is, so that an upload goes on there. A damaged one is begun again. @throws invalid */
  uploaded(digest: string): Uploaded {
    assertDigest(digest);
    const whole = this.#whole.get(digest);
    if (whole && this.#soundness.damageOf(digest) === undefined) {
      this.#whole.set(digest, { ...whole, sinceMs: this.#options.clock.now() });
      return { offset: whole.sizeBytes, complete: true };
    }
    return { offset: this.#parts.get(digest)?.sizeBytes ?? 0, complete: false };
  }

  /**
   * Takes the bytes of an archive from an offset on. One upload of an archive at a time: who comes second waits, and what is there then is
   * skipped. Each chunk is on its way to the disk before the next is asked for. Resolves with how much is durable: where that is all of
   * it, its digest was checked and it has its final name. When the chunks break off, what came is kept.
   * @throws invalid for an order that cannot be; conflict with reason OFFSET when bytes before the offset are missing; data_loss when the whole
   *   is not what its digest says, and it is gone then; exhausted when the disk or a bound is full; what the chunks throw
   */
  async receive(order: UploadOrder, chunks: AsyncIterable<Uint8Array>): Promise<Uploaded> {
    assertOrder(order);
    return this.#turns.run(order.digest, async () => {
      const before = this.uploaded(order.digest);
      if (before.complete) return before;
      if (order.offset > before.offset) throw missingBytes(order, before.offset);
      await this.#makeRoom(order, before.offset);
      const leave = await this.#room.reserve(order.digest, order.sizeBytes - before.offset);
      try {
        return await this.#take(order, chunks);
      } catch (error) {
        throw explainFullDisk(error, this.#options.directory);
      } finally {
        leave();
      }
    });
  }

  /**
   * The bytes of a whole archive from an offset on, in pieces of at most FETCH_CHUNK_BYTES. Before the first piece its digest is checked, once
   * for as long as the file stays the same: what does not match is never sent.
   * @throws not_found when it is not here; invalid for an offset behind its end; data_loss when it is damaged; unavailable at FETCHES_MAX
   */
  async *read(digest: string, offset: number): AsyncGenerator<Uint8Array> {
    const sizeBytes = this.sizeOf(digest) ?? 0;
    if (sizeBytes > 0 && !(offset >= 0 && offset <= sizeBytes)) {
      throw new MusterError('invalid', `the archive has ${sizeBytes} bytes: ask for an offset from 0 to that`, {
        reason: 'OFFSET',
      });
    }
    if (this.#fetches >= FETCHES_MAX) {
      const message = `${FETCHES_MAX} archives are being sent: try again in a moment`;
      throw new MusterError('unavailable', message, { reason: 'FETCHES_MAX', retryAfterMs: FETCH_RETRY_MS });
    }
    this.#fetches += 1;
    try {
      await this.#assertSound(digest);
      yield* this.#send(digest, offset, sizeBytes);
    } finally {
      this.#fetches -= 1;
    }
  }

  async *#send(digest: string, offset: number, sizeBytes: number): AsyncGenerator<Uint8Array> {
    const handle = await open(this.#pathOf(digest), 'r');
    try {
      for (let at = offset; at < sizeBytes;) {
        const piece = Buffer.allocUnsafe(Math.min(FETCH_CHUNK_BYTES, sizeBytes - at));
        const { bytesRead } = await handle.read(piece, 0, piece.length, at);
        if (bytesRead === 0) throw new MusterError('data_loss', `the archive ${digest} ended before its size`);
        at += bytesRead;
        yield piece.subarray(0, bytesRead);
      }
    } finally {
      await handle.close();
    }
  }

  /** Makes sure that a whole archive is what its digest says; the path of its file. @throws not_found; data_loss */
  async check(digest: string): Promise<string> {
    await this.#assertSound(digest);
    return this.#pathOf(digest);
  }

  /** Removes a whole archive; one that is not there is fine. Who reads it goes on reading. */
  async remove(digest: string): Promise<void> {
    await this.#turns.run(digest, async () => {
      this.#whole.delete(digest);
      this.#soundness.forget(digest);
      await rm(this.#pathOf(digest), { force: true });
    });
  }

  /** Removes parts that nobody has written to for so long. Resolves with how many. */
  async removeParts(idleMs: number): Promise<number> {
    const now = this.#options.clock.now();
    const stale = [...this.#parts].filter(
      ([digest, { sinceMs }]) => now - sinceMs > idleMs && !this.#turns.busy(digest),
    );
    for (const [digest] of stale) await this.#turns.run(digest, () => this.#dropPart(digest));
    return stale.length;
  }

  #pathOf(digest: string): string {
    return this.#file(digest, WHOLE);
  }

  #file(digest: string, ending: string): string {
    return join(this.#options.directory, digest.slice(0, 2), digest + ending);
  }

  async #scan(): Promise<void> {
    const { directory, clock } = this.#options;
    for (const folder of await readdir(directory)) {
      if (!/^[0-9a-f]{2}$/.test(folder)) continue;
      for (const name of await readdir(join(directory, folder))) {
        const ending = [WHOLE, PART].find((one) => name.endsWith(one)) ?? '';
        const digest = name.slice(0, name.length - ending.length);
        if (ending === '' || !DIGEST.test(digest) || !digest.startsWith(folder)) continue;
        const { size, mtimeMs } = await stat(join(directory, folder, name));
        // A clock that was wrong must not keep it for ever.
        const stored = { sizeBytes: size, sinceMs: Math.min(mtimeMs, clock.now()) };
        (ending === WHOLE ? this.#whole : this.#parts).set(digest, stored);
      }
    }
  }

  async #makeRoom({ digest, sizeBytes }: UploadOrder, offset: number): Promise<void> {
    // More bytes than the archive has cannot become it.
    if (offset > sizeBytes) await this.#dropPart(digest);
    const victim = this.#room.partToDrop(digest, this.#parts);
    if (victim === undefined) return;
    this.#options.logger.warn('an unfinished upload makes room for another: it begins again', { digest: victim });
    await this.#dropPart(victim);
  }

  async #take(order: UploadOrder, chunks: AsyncIterable<Uint8Array>): Promise<Uploaded> {
    const { digest, sizeBytes } = order;
    const path = this.#file(digest, PART);
    await makeDirectory(dirname(path), 0o700);
    const handle = await open(path, 'a', 0o600);
    try {
      await append(handle, order, chunks);
    } finally {
      await this.#close(handle, digest);
    }
    const offset = this.#parts.get(digest)?.sizeBytes ?? 0;
    if (offset < sizeBytes) return { offset, complete: false };
    await this.#complete(digest);
    return { offset, complete: true };
  }

  /** Makes durable what came. What could not be synced is not known to be on the disk: it goes. */
  async #close(handle: FileHandle, digest: string): Promise<void> {
    try {
      await handle.sync();
      const { size } = await handle.stat();
      this.#parts.set(digest, { sizeBytes: size, sinceMs: this.#options.clock.now() });
    } catch (error) {
      await this.#dropPart(digest);
      throw error;
    } finally {
      await handle.close();
    }
  }

  async #complete(digest: string): Promise<void> {
    const part = this.#file(digest, PART);
    const { digest: found, sizeBytes, stamp } = await this.#soundness.digest(part);
    if (found !== digest) {
      await this.#dropPart(digest);
      throw new MusterError(
        'data_loss',
        `what arrived is ${found} instead of ${digest}: it is gone, push the archive again from its beginning`,
        { reason: 'DIGEST_MISMATCH' },
      );
    }
    const path = this.#pathOf(digest);
    await rename(part, path);
    await syncDirectory(dirname(path));
    await syncDirectory(this.#options.directory);
    this.#parts.delete(digest);
    this.#soundness.sound(digest, stamp);
    this.#whole.set(digest, { sizeBytes, sinceMs: this.#options.clock.now() });
  }

  async #dropPart(digest: string): Promise<void> {
    this.#parts.delete(digest);
    await rm(this.#file(digest, PART), { force: true });
  }

  async #assertSound(digest: string): Promise<void> {
    const sizeBytes = this.sizeOf(digest);
    if (sizeBytes === undefined) throw notHere(digest);
    try {
      await this.#soundness.check(digest, { path: this.#pathOf(digest), sizeBytes });
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') {
        this.#whole.delete(digest);
        throw notHere(digest);
      }
      this.#options.logger.error('an archive is damaged on the disk', { digest, problem: messageOf(error) });
      throw error;
    }
  }
}

function notHere(digest: string): MusterError {
  return new MusterError('not_found', `the archive ${digest} is not on the center's disk: push it again`, {
    reason: 'ARTIFACT_MISSING',
  });
}

/** @throws invalid, exhausted */
function assertOrder({ digest, sizeBytes, offset }: UploadOrder): void {
  assertDigest(digest);
  if (!(sizeBytes > 0) || !(offset >= 0 && offset <= sizeBytes)) {
    const message = 'size_bytes must be above 0, and offset from 0 to that: say them in the first message';
    throw new MusterError('invalid', message, { reason: 'UPLOAD_SIZE' });
  }
  if (sizeBytes <= ARCHIVE_BYTES_MAX) return;
  const message = `an archive has at most ${formatSize(ARCHIVE_BYTES_MAX)}, this one has ${formatSize(sizeBytes)}: leave out what the service does not need`;
  throw new MusterError('exhausted', message, { reason: 'ARCHIVE_SIZE' });
}

function missingBytes({ offset }: UploadOrder, there: number): MusterError {
  return new MusterError('conflict', `${there} bytes are here, not ${offset}: go on from there`, {
    reason: 'OFFSET',
    metadata: { offset: String(there) },
  });
}

/** @throws invalid when more comes than the archive has; what the chunks throw; system errors */
async function append(handle: FileHandle, order: UploadOrder, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  let { size: end } = await handle.stat();
  let at = order.offset;
  for await (const chunk of chunks) {
    if (at + chunk.length > order.sizeBytes) {
      const message = `more bytes came than the ${order.sizeBytes} that were announced: send what the archive has`;
      throw new MusterError('invalid', message, { reason: 'UPLOAD_SIZE' });
    }
    const known = Math.max(0, Math.min(chunk.length, end - at));
    at += chunk.length;
    if (known === chunk.length) continue;
    await handle.appendFile(chunk.subarray(known));
    end = at;
  }
}
