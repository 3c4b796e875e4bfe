/**
 * Parsers of Linux's /proc, pure: text in, numbers out. What a text does not say counts as 0.
 * Formats: proc(5), https://man7.org/linux/man-pages/man5/proc.5.html; diskstats in the kernel's admin-guide/iostats.
 */

/** Time of all processors together since boot, in clock ticks. */
export interface CpuTimes {
  readonly total: number;
  readonly idle: number;
}

/** Counters that only grow, by device. */
export type DeviceCounters = ReadonlyMap<string, TransferCounters>;

/** Bytes since the device appeared. */
export interface TransferCounters {
  /** Received, or read. */
  readonly inBytes: number;
  /** Sent, or written. */
  readonly outBytes: number;
}

export interface MemoryUse {
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly swapUsedBytes: number;
}

/** Always 512 in diskstats, whatever the device's own are. */
const SECTOR_BYTES = 512;
const KIB = 1024;
/** user, nice, system, idle, iowait, irq, softirq, steal; then come the guests'. */
const CPU_FIELDS = 8;

function numbers(text: string): number[] {
  return text
    .trim()
    .split(/\s+/)
    .map(Number)
    .map((value) => (Number.isFinite(value) ? value : 0));
}

/** /proc/stat. Time of guests is in user and nice already. */
export function parseCpuTimes(text: string): CpuTimes {
  const line = /^cpu\s+(.*)$/m.exec(text)?.[1] ?? '';
  const ticks = numbers(line).slice(0, CPU_FIELDS);
  const [, , , idle = 0, iowait = 0] = ticks;
  return { total: ticks.reduce((sum, value) => sum + value, 0), idle: idle + iowait };
}

/** /proc/meminfo. Used is what is not available to programs without swapping: caches that can be dropped are not used. */
export function parseMemory(text: string): MemoryUse {
  const bytes = (field: string): number | undefined => {
    const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
    return found === undefined ? undefined : Number(found) * KIB;
  };
  const totalBytes = bytes('MemTotal') ?? 0;
  // Kernels before 3.14 do not say what is available.
  const guess = (bytes('MemFree') ?? 0) + (bytes('Buffers') ?? 0) + (bytes('Cached') ?? 0);
  const availableBytes = bytes('MemAvailable') ?? guess;
  return {
    totalBytes,
    usedBytes: Math.max(0, totalBytes - availableBytes),
    swapUsedBytes: Math.max(0, (bytes('SwapTotal') ?? 0) - (bytes('SwapFree') ?? 0)),
  };
}

/** /proc/loadavg: over 1, 5 and 15 minutes. */
export function parseLoad(text: string): readonly [number, number, number] {
  const [load1 = 0, load5 = 0, load15 = 0] = numbers(text);
  return [load1, load5, load15];
}

/** /proc/uptime, in milliseconds. */
export function parseUptimeMs(text: string): number {
  const [seconds = 0] = numbers(text);
  return Math.round(seconds * 1000);
}

/** /proc/net/dev, without the loopback. */
export function parseNetwork(text: string): DeviceCounters {
  const found = new Map<string, TransferCounters>();
  for (const line of text.split('\n')) {
    // Old kernels put no space after the colon; the name of an alias holds a colon itself.
    const [, name, rest] = /^\s*(\S+):\s*(\d.*)$/.exec(line) ?? [];
    if (name === undefined || rest === undefined || name === 'lo') continue;
    const fields = numbers(rest);
    found.set(name, { inBytes: fields[0] ?? 0, outBytes: fields[8] ?? 0 });
  }
  return found;
}

/** /proc/diskstats, every block device. */
export function parseDisks(text: string): DeviceCounters {
  const found = new Map<string, TransferCounters>();
  for (const line of text.split('\n')) {
    const [, name, rest] = /^\s*\d+\s+\d+\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    if (name === undefined || rest === undefined) continue;
    const fields = numbers(rest);
    found.set(name, { inBytes: (fields[2] ?? 0) * SECTOR_BYTES, outBytes: (fields[6] ?? 0) * SECTOR_BYTES });
  }
  return found;
}
