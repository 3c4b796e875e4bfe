import { access, readdir, readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../kit/clock.js';
import type { Resources } from '../../model/machine.js';
import {
  parseCpuTimes,
  parseDisks,
  parseLoad,
  parseMemory,
  parseNetwork,
  parseUptimeMs,
  type CpuTimes,
  type DeviceCounters,
  type TransferCounters,
} from './proc.js';
import { busyPercent, hardwareInterfaces, transferred, wholeDisks } from './rates.js';

export interface SamplerOptions {
  /** The agent's data directory: its file system's free space is told. */
  readonly dataDirectory: string;
  readonly clock: Clock;
  /** `/proc` and `/sys` unless said. */
  readonly procDirectory?: string;
  readonly sysDirectory?: string;
}

interface Reading {
  readonly monotonicMs: number;
  readonly cpu: CpuTimes;
  readonly network: DeviceCounters;
  readonly disks: DeviceCounters;
  /** CPU time of this process, microseconds. */
  readonly ownCpu: number;
}

/** Fast measurements of the machine, cheap enough for every heartbeat: a dozen small files, no programs. */
export class ResourceSampler {
  readonly #options: SamplerOptions;
  readonly #proc: string;
  readonly #sys: string;
  #last: Reading | undefined;

  constructor(options: SamplerOptions) {
    this.#options = options;
    this.#proc = options.procDirectory ?? '/proc';
    this.#sys = options.sysDirectory ?? '/sys';
  }

  /** Rates are averages since the call before. What the machine does not tell is 0. Never rejects. */
  async sample(): Promise<Resources> {
    const [reading, memory, load, uptime, space] = await Promise.all([
      this.#read(),
      this.#text('meminfo'),
      this.#text('loadavg'),
      this.#text('uptime'),
      spaceOf(this.#options.dataDirectory),
    ]);
    const before = this.#last;
    this.#last = reading;
    const { totalBytes, usedBytes, swapUsedBytes } = parseMemory(memory);
    const [load1, load5, load15] = parseLoad(load);
    return {
      load1,
      load5,
      load15,
      cpuPercent: busyPercent(before?.cpu, reading.cpu),
      memoryTotalBytes: totalBytes,
      memoryUsedBytes: usedBytes,
      swapUsedBytes,
      ...transferRates(before, reading),
      dataFreeBytes: space.freeBytes,
      dataTotalBytes: space.totalBytes,
      uptimeMs: parseUptimeMs(uptime),
      agentMemoryBytes: process.memoryUsage.rss(),
      agentCpuPercent: ownCpuPercent(before, reading),
    };
  }

  async #read(): Promise<Reading> {
    const [stat, network, disks, hardware, listed] = await Promise.all([
      this.#text('stat'),
      this.#text('net/dev'),
      this.#text('diskstats'),
      this.#hardware(),
      namesIn(join(this.#sys, 'block')),
    ]);
    const { user, system } = process.cpuUsage();
    return {
      monotonicMs: this.#options.clock.monotonic(),
      cpu: parseCpuTimes(stat),
      network: hardwareInterfaces(parseNetwork(network), hardware),
      disks: wholeDisks(parseDisks(disks), listed),
      ownCpu: user + system,
    };
  }

  /** Only hardware has a `device` in sysfs. */
  async #hardware(): Promise<ReadonlySet<string>> {
    const folder = join(this.#sys, 'class', 'net');
    const names = [...((await namesIn(folder)) ?? [])];
    const real = await Promise.all(names.map((name) => exists(join(folder, name, 'device'))));
    return new Set(names.filter((_, index) => real[index]));
  }

  async #text(name: string): Promise<string> {
    try {
      return await readFile(join(this.#proc, name), 'utf8');
    } catch {
      return '';
    }
  }
}

type TransferRates = Pick<
  Resources,
  'networkReceiveBytesPerSecond' | 'networkSendBytesPerSecond' | 'diskReadBytesPerSecond' | 'diskWriteBytesPerSecond'
>;

function transferRates(before: Reading | undefined, now: Reading): TransferRates {
  const seconds = before ? (now.monotonicMs - before.monotonicMs) / 1000 : 0;
  const rate = (bytes: number): number => (seconds > 0 ? bytes / seconds : 0);
  const network = before ? transferred(before.network, now.network) : NOTHING;
  const disk = before ? transferred(before.disks, now.disks) : NOTHING;
  return {
    networkReceiveBytesPerSecond: rate(network.inBytes),
    networkSendBytesPerSecond: rate(network.outBytes),
    diskReadBytesPerSecond: rate(disk.inBytes),
    diskWriteBytesPerSecond: rate(disk.outBytes),
  };
}

const NOTHING: TransferCounters = { inBytes: 0, outBytes: 0 };

function ownCpuPercent(before: Reading | undefined, now: Reading): number {
  if (!before || now.monotonicMs <= before.monotonicMs) return 0;
  const busyMs = (now.ownCpu - before.ownCpu) / 1000;
  return Math.max(0, (busyMs / (now.monotonicMs - before.monotonicMs)) * 100);
}

async function spaceOf(directory: string): Promise<{ freeBytes: number; totalBytes: number }> {
  try {
    const { bavail, blocks, bsize } = await statfs(directory);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  } catch {
    return { freeBytes: 0, totalBytes: 0 };
  }
}

async function namesIn(directory: string): Promise<ReadonlySet<string> | undefined> {
  try {
    return new Set(await readdir(directory));
  } catch {
    return undefined;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
