/** Which bytes a search may read, decided without effects. */

export interface Wanted {
  readonly bytes: number;
  /** Wall-clock milliseconds of its last write. */
  readonly modifiedMs: number;
  /** Its end can be read alone. */
  readonly divisible: boolean;
}

/**
 * How many bytes of each, counted from its end, may be read: the newest first. Where one does not fit, nothing older is read either,
 * so that what was seen has no hole.
 */
export function shareBytes(wanted: readonly Wanted[], bytesMax: number): readonly number[] {
  const shares = wanted.map(() => 0);
  const newestFirst = wanted
    .map(({ modifiedMs }, index) => ({ modifiedMs, index }))
    .sort((a, b) => b.modifiedMs - a.modifiedMs || b.index - a.index);
  let left = bytesMax;
  for (const { index } of newestFirst) {
    const { bytes, divisible } = wanted[index] ?? { bytes: 0, divisible: false };
    if (bytes > left) {
      if (divisible) shares[index] = left;
      break;
    }
    shares[index] = bytes;
    left -= bytes;
  }
  return shares;
}
