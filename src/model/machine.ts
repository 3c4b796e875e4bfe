/** What a machine is and what it is doing. Times are wall-clock milliseconds since the Unix epoch. */

export interface Disk {
  readonly mount: string;
  readonly filesystem: string;
  readonly sizeBytes: number;
  readonly usedBytes: number;
}

export interface NetworkInterface {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly mac: string;
}

/** What a machine is; changes rarely. */
export interface Inventory {
  readonly hostname: string;
  readonly os: string;
  readonly kernel: string;
  readonly architecture: string;
  readonly cpuModel: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly disks: readonly Disk[];
  readonly interfaces: readonly NetworkInterface[];
  readonly collectedMs: number;
}

/** What a machine is doing, as of one heartbeat. Rates are averages since the sample before, 0 in the first. */
export interface Resources {
  readonly load1: number;
  readonly load5: number;
  readonly load15: number;
  /** Share of all cores that was busy, 0 to 100. */
  readonly cpuPercent: number;
  readonly memoryTotalBytes: number;
  readonly memoryUsedBytes: number;
  readonly swapUsedBytes: number;
  readonly networkReceiveBytesPerSecond: number;
  readonly networkSendBytesPerSecond: number;
  readonly diskReadBytesPerSecond: number;
  readonly diskWriteBytesPerSecond: number;
  /** Free for the agent's user, where it keeps its data. */
  readonly dataFreeBytes: number;
  readonly dataTotalBytes: number;
  readonly uptimeMs: number;
  readonly agentMemoryBytes: number;
  /** Share of one core: above 100 where several were busy. */
  readonly agentCpuPercent: number;
}
