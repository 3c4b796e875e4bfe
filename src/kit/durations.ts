import { MusterError } from './errors.js';

const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

/**
 * Milliseconds of a duration as people type it: `250ms`, `10s`, `1h30m`, `14d`.
 * @throws invalid
 */
export function parseDuration(text: string): number {
  const part = /(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/y;
  let totalMs = 0;
  while (part.lastIndex < text.length) {
    const found = part.exec(text);
    if (!found) throw new MusterError('invalid', `"${text}" is not a duration: write it like 250ms, 10s, 1h30m or 14d`);
    totalMs += Number(found[1]) * UNIT_MS[found[2] as keyof typeof UNIT_MS];
  }
  if (text.length === 0) throw new MusterError('invalid', 'a duration is missing: write it like 10s');
  if (totalMs > Number.MAX_SAFE_INTEGER)
    throw new MusterError('invalid', `"${text}" is too long: write less than 100000d`);
  return totalMs;
}

const SIZE_BYTES = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
} as const;

/**
 * Bytes of a size as people type it: `4096`, `50MB`, `64KiB`.
 * @throws invalid
 */
export function parseSize(text: string): number {
  const found = /^(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$/.exec(text);
  if (!found) throw new MusterError('invalid', `"${text}" is not a size: write it like 50MB, 64KiB or 4096`);
  const bytes = Math.round(Number(found[1]) * SIZE_BYTES[(found[2] ?? 'B') as keyof typeof SIZE_BYTES]);
  if (bytes > Number.MAX_SAFE_INTEGER) throw new MusterError('invalid', `"${text}" is too large: write at most 9000TB`);
  return bytes;
}

/** A duration for people, at most two units: `12s`, `3m 20s`, `2d 4h`. */
export function formatDuration(ms: number): string {
  const wholeMs = Math.max(0, Math.round(ms));
  if (wholeMs < 1000) return `${wholeMs}ms`;
  const parts: string[] = [];
  let rest = Math.floor(wholeMs / 1000);
  for (const [unit, seconds] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(rest / seconds);
    rest -= count * seconds;
    if (count > 0) parts.push(`${count}${unit}`);
    if (parts.length === 2 || (parts.length === 1 && rest === 0)) break;
  }
  return parts.join(' ');
}

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB', 'PB'] as const;

/** A size for people, three digits at most: `812 B`, `1.4 MB`, `250 GB`. */
export function formatSize(bytes: number): string {
  let value = Math.round(bytes);
  let unit = 0;
  // 999.95 would be shown as 1000: it belongs to the next unit.
  while (Math.round(value) >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const whole = unit === 0 || value >= 99.95;
  return `${whole ? Math.round(value) : value.toFixed(1)} ${UNITS[unit] ?? ''}`;
}
