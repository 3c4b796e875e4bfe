import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { sleep, type Clock } from '../kit/clock.js';
import { errnoOf } from '../kit/errors.js';
import { writeFileDurably } from '../kit/files.js';

const FILE = 'acknowledged';
/** Between two writes of the record while commits go on, milliseconds: each costs a turn of the thread pool that LevelDB's writes need. */
const SPACING_MS = 20;
const SLOT_BYTES = 512;
const REVISION_BYTES = 8;
const RECORD_BYTES = REVISION_BYTES + 4;

function encodeSlot(revision: number): Buffer {
  const bytes = Buffer.alloc(RECORD_BYTES);
  bytes.writeBigUInt64LE(BigInt(revision), 0);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, REVISION_BYTES)), REVISION_BYTES);
  return bytes;
}

function decodeSlot(bytes: Buffer): number {
  if (bytes.length < RECORD_BYTES) return 0;
  const revision = bytes.subarray(0, REVISION_BYTES);
  return crc32(revision) === bytes.readUInt32LE(REVISION_BYTES) ? Number(revision.readBigUInt64LE(0)) : 0;
}

/**
 * A lower bound of the acknowledged revision, kept outside LevelDB. LevelDB takes a damaged end of its log for a write that was
 * cut off by a crash and drops it; this file shows that the write had been acknowledged.
 * Invariant: recorded <= durable in LevelDB, because a revision is recorded only after its batch is synced. The record itself is
 * synced only at close: after a power loss it may be older, which makes the check weaker and never wrong.
 * Two slots are written in turn, so that one torn write leaves the other.
 */
export class Acknowledged {
  readonly #handle: FileHandle;
  #slot = 0;
  #wanted = 0;
  #recorded = 0;
  #writing: Promise<void> | undefined;
  readonly #clock: Clock;
  readonly #settling = new AbortController();

  private constructor(handle: FileHandle, clock: Clock) {
    this.#handle = handle;
    this.#clock = clock;
  }

  /** Opens or creates the record in the directory `path`, and says what it holds: 0 when nothing valid. */
  static async open(path: string, clock: Clock): Promise<{ record: Acknowledged; revision: number }> {
    const file = join(path, FILE);
    const handle = await openExisting(file);
    const bytes = Buffer.alloc(2 * SLOT_BYTES);
    await handle.read(bytes, 0, bytes.length, 0);
    const revision = Math.max(decodeSlot(bytes), decodeSlot(bytes.subarray(SLOT_BYTES)));
    return { record: new Acknowledged(handle, clock), revision };
  }

  /** Records `revision` soon, without holding up the caller; what cannot be written is tried again by settle(). */
  record(revision: number): void {
    this.#wanted = revision;
    this.#writing ??= this.#write();
  }

  /** Waits for the record and syncs it. @throws the system's error when it could not be written */
  async settle(): Promise<void> {
    this.#settling.abort();
    await this.#writing;
    if (this.#wanted > this.#recorded) await this.#writeSlot();
    await this.#handle.sync();
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#handle.close();
  }

  async #write(): Promise<void> {
    try {
      while (this.#wanted > this.#recorded) {
        await this.#writeSlot();
        await sleep(this.#clock, SPACING_MS, this.#settling.signal).catch(() => undefined);
      }
    } catch {
      // The record is only a lower bound: it stays older, and settle() tries once more and reports.
    } finally {
      this.#writing = undefined;
    }
  }

  async #writeSlot(): Promise<void> {
    const revision = this.#wanted;
    await this.#handle.write(encodeSlot(revision), 0, RECORD_BYTES, this.#slot * SLOT_BYTES);
    this.#slot = 1 - this.#slot;
    this.#recorded = revision;
  }
}

async function openExisting(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r+');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    await writeFileDurably(file, new Uint8Array(2 * SLOT_BYTES));
    return open(file, 'r+');
  }
}
