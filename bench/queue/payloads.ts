import { randomBytes } from 'node:crypto';
import { nowMs } from './port.js';

/** Different messages made before the clock runs; enough of them that nothing learns them by heart. */
const DIFFERENT = 1024;

/** Payloads that do not compress: a system that compresses gains nothing, one that does not loses nothing. */
export function payloadsOf(bytes: number): () => Buffer {
  const payloads = Array.from({ length: DIFFERENT }, () => randomBytes(bytes));
  let next = 0;
  return () => {
    next = (next + 1) % DIFFERENT;
    return payloads[next] ?? Buffer.alloc(bytes);
  };
}

/** A payload that says when it was handed to the client. */
export function stamped(payload: Buffer): Buffer {
  const copy = Buffer.from(payload);
  copy.writeDoubleLE(nowMs(), 0);
  return copy;
}

/** How long ago a stamped payload was handed to its client, milliseconds. */
export function ageMs(payload: Uint8Array, atMs: number): number {
  return atMs - new DataView(payload.buffer, payload.byteOffset, 8).getFloat64(0, true);
}
