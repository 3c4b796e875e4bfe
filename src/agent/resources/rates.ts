import type { CpuTimes, DeviceCounters, TransferCounters } from './proc.js';

/** From two readings of counters to what happened between them. Pure. */

/** Block devices whose transfers are another device's too, or none's: they would be counted twice. */
const LAYERED_DISK = /^(?:loop|ram|zram|dm-|md|sr|fd)\d/;
/** How whole disks are called where the kernel does not list them: no trailing partition. */
const WHOLE_DISK = /^(?:(?:sd|hd|vd|xvd)[a-z]+|nvme\d+n\d+|mmcblk\d+)$/;

/** Counters of 32 bits, on old or small kernels, begin again at 0 beyond this. */
const WRAP = 2 ** 32;

/** Share of all cores that was busy between two readings, 0 to 100. */
export function busyPercent(before: CpuTimes | undefined, now: CpuTimes): number {
  if (!before) return 0;
  const total = now.total - before.total;
  // Waiting for input and output may be corrected downwards by the kernel.
  const idle = Math.max(0, now.idle - before.idle);
  return total <= 0 ? 0 : Math.min(100, Math.max(0, ((total - idle) / total) * 100));
}

/**
 * What was transferred between two readings, over the devices of both. A device that was not there before, or that began anew,
 * adds nothing: how much of its count is of this time cannot be known.
 */
export function transferred(before: DeviceCounters, now: DeviceCounters): TransferCounters {
  let inBytes = 0;
  let outBytes = 0;
  for (const [name, counters] of now) {
    const old = before.get(name);
    if (!old) continue;
    inBytes += grown(old.inBytes, counters.inBytes);
    outBytes += grown(old.outBytes, counters.outBytes);
  }
  return { inBytes, outBytes };
}

/** How much a counter grew. One that fell has wrapped if that is less than half its range away, else it began anew. */
function grown(before: number, now: number): number {
  if (now >= before) return now - before;
  const wrapped = now + WRAP - before;
  return before < WRAP && wrapped < WRAP / 2 ? wrapped : 0;
}

/** Whole disks only. `listed` are the kernel's own whole disks (/sys/block), undefined where it does not say. */
export function wholeDisks(counters: DeviceCounters, listed: ReadonlySet<string> | undefined): DeviceCounters {
  const isWhole = (name: string): boolean =>
    listed ? listed.has(name) && !LAYERED_DISK.test(name) : WHOLE_DISK.test(name);
  return only(counters, isWhole);
}

/** Interfaces with hardware behind them (bridges, bonds and containers pass on the same bytes); where there is none, all. */
export function hardwareInterfaces(counters: DeviceCounters, hardware: ReadonlySet<string>): DeviceCounters {
  const found = only(counters, (name) => hardware.has(name));
  return found.size > 0 ? found : counters;
}

function only(counters: DeviceCounters, wanted: (name: string) => boolean): DeviceCounters {
  return new Map([...counters].filter(([name]) => wanted(name)));
}
