import { open } from 'node:fs/promises';
import type { CenterService, UploadArtifactRequest } from '../../../generated/muster/v1/center.js';
import { sleep } from '../../kit/clock.js';
import { isCode, messageOf } from '../../kit/errors.js';
import type { Client } from '../../rpc/types.js';
import type { Io } from '../io.js';

/** Bringing an archive to the center, going on where an upload broke off. */

/** Of one message; the contract bears four times as much. */
const PIECE_BYTES = 262_144;
/** How long a center that takes nothing is tried again. */
const PATIENCE_MS = 60_000;
const AGAIN_MS = 500;
/** The center reads the whole archive before it says that it is complete. */
const QUESTION_DEADLINE_MS = 120_000;

export interface LocalArchive {
  readonly path: string;
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Told how an upload goes. */
export interface UploadListener {
  /** The center has so much. */
  readonly at: (bytes: number) => Promise<void> | void;
  /** It broke off, and is tried again; said once until more has arrived. */
  readonly broken: (why: string) => Promise<void> | void;
}

type Center = Pick<Client<typeof CenterService>, 'getUpload' | 'uploadArtifact'>;

async function* pieces(
  { path, digest, sizeBytes }: LocalArchive,
  offset: number,
  listener: UploadListener,
): AsyncGenerator<UploadArtifactRequest> {
  const handle = await open(path, 'r');
  try {
    let at = offset;
    // Also where nothing is left to send: the answer says whether the whole is sound.
    do {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(PIECE_BYTES), 0, PIECE_BYTES, at);
      const first = at === offset;
      yield {
        digest: first ? digest : '',
        sizeBytes: first ? sizeBytes : 0,
        offset: first ? offset : 0,
        data: buffer.subarray(0, bytesRead),
      };
      at += bytesRead;
      await listener.at(at);
      if (bytesRead === 0) return;
    } while (at < sizeBytes);
  } finally {
    await handle.close();
  }
}

/** What may be otherwise at the next try: the center was away, or has more or less than it was asked about. */
function mayPass(error: unknown): boolean {
  return isCode(error, 'unavailable', 'cancelled', 'deadline', 'conflict', 'data_loss');
}

/**
 * Resolves once the center has the whole archive. Returns the bytes that were sent; 0: it had it already.
 * @throws what the center refuses; unavailable when it took nothing for a minute
 */
export async function uploadArchive(
  io: Io,
  center: Center,
  archive: LocalArchive,
  listener: UploadListener,
): Promise<number> {
  let sent = 0;
  let furthest = -1;
  let broken = false;
  let untilMs = io.clock.monotonic() + PATIENCE_MS;
  for (;;) {
    try {
      const options = { signal: io.signal };
      const there = await center.getUpload({ digest: archive.digest }, { ...options, timeoutMs: QUESTION_DEADLINE_MS });
      if (there.complete) return sent;
      if (there.offset > furthest) {
        untilMs = io.clock.monotonic() + PATIENCE_MS;
        broken = false;
      }
      furthest = Math.max(furthest, there.offset);
      await listener.at(there.offset);
      const counted = counting(pieces(archive, there.offset, listener), (bytes) => (sent += bytes));
      if ((await center.uploadArtifact(counted, options)).complete) return sent;
    } catch (error) {
      if (io.signal.aborted || !mayPass(error) || io.clock.monotonic() > untilMs) throw error;
      if (!broken) await listener.broken(messageOf(error));
      broken = true;
    }
    await sleep(io.clock, AGAIN_MS, io.signal);
  }
}

async function* counting(
  messages: AsyncIterable<UploadArtifactRequest>,
  count: (bytes: number) => void,
): AsyncGenerator<UploadArtifactRequest> {
  for await (const message of messages) {
    yield message;
    count(message.data.length);
  }
}
