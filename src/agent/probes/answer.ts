import { CHECK_OUTPUT_BYTES_MAX } from '../../model/instance.js';

/** What one run of a check found. `warn` is the service's own word for "works, but look at me": neither a pass nor a failure. */
export type Verdict = 'pass' | 'warn' | 'fail';

export interface Answer {
  readonly verdict: Verdict;
  /** What was seen, for people: of any length, cut by who keeps it. */
  readonly output: string;
}

/**
 * Asks once. Rejects as soon as `signal` aborts (with its reason) and on anything that kept it from asking;
 * settles only when whatever it opened is destroyed.
 */
export type Probe = (signal: AbortSignal) => Promise<Answer>;

const CONTINUATION_MASK = 0b1100_0000;
const CONTINUATION = 0b1000_0000;

function continues(byte: number | undefined): boolean {
  return byte !== undefined && (byte & CONTINUATION_MASK) === CONTINUATION;
}

/** The longest beginning of `bytes` that fits `bytesMax` and does not end inside a character. */
export function cutEnd(bytes: Buffer, bytesMax: number): Buffer {
  if (bytes.length <= bytesMax) return bytes;
  let end = bytesMax;
  while (end > 0 && continues(bytes[end])) end -= 1;
  return bytes.subarray(0, end);
}

/** The longest end of `bytes` that fits `bytesMax` and does not begin inside a character. */
export function cutStart(bytes: Buffer, bytesMax: number): Buffer {
  if (bytes.length <= bytesMax) return bytes;
  let start = bytes.length - bytesMax;
  while (start < bytes.length && continues(bytes[start])) start += 1;
  return bytes.subarray(start);
}

/** `text` as it is kept and sent: well-formed, at most CHECK_OUTPUT_BYTES_MAX bytes. */
export function keptOutput(text: string): string {
  return cutEnd(Buffer.from(text.trimEnd()), CHECK_OUTPUT_BYTES_MAX).toString();
}
