import type { FileHandle } from 'node:fs/promises';
import { constants, createGunzip } from 'node:zlib';
import { readFully } from './bytes.js';
import { TIME_CHARACTERS, timeOf } from './times.js';

/** Of the beginning of a compressed file, to find its first time. */
const PACKED_BYTES = 8 * 1024;
/** Looked at of what that holds: it may be a thousand times as much, and is looked at on the agent's own thread. */
export const HEAD_BYTES_MAX = 64 * 1024;
/** Unpacked together: what comes before damage is lost within it. */
const CHUNK_BYTES = 4 * 1024;
const NEWLINE = 0x0a;

/** Of the first line near the beginning of a compressed log that carries a time. Reading it lets others run. */
export async function firstTimeOf(file: FileHandle, modifiedMs: number): Promise<number | undefined> {
  const text = await headOf(await readFully(file, 0, PACKED_BYTES));
  for (let start = 0; start < text.length;) {
    const end = lineEnd(text, start);
    const head = text.toString('latin1', start, Math.min(end, start + TIME_CHARACTERS));
    const time = head === '' ? undefined : timeOf(head, modifiedMs);
    if (time) return time.ms;
    start = end + 1;
  }
  return undefined;
}

/** HEAD_BYTES_MAX at most, of one that is damaged what comes before that: gzip says so when it is searched. */
async function headOf(packed: Buffer): Promise<Buffer> {
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES, finishFlush: constants.Z_SYNC_FLUSH });
  gunzip.end(packed);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes >= HEAD_BYTES_MAX) break;
    }
  } catch {
    // What came before has been kept.
  }
  return Buffer.concat(chunks).subarray(0, HEAD_BYTES_MAX);
}

function lineEnd(text: Buffer, start: number): number {
  const end = text.indexOf(NEWLINE, start);
  return end < 0 ? text.length : end;
}
