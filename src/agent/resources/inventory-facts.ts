import type { NetworkInterfaceInfo } from 'node:os';
import type { Disk, Inventory, NetworkInterface } from '../../model/machine.js';

/** From what the system tells to an inventory, pure. Every list has a bound: a host of containers has thousands of each. */

const DISKS_MAX = 64;
const INTERFACES_MAX = 64;
const ADDRESSES_MAX = 16;

/** The parts of systeminformation's answers that are used. */
export interface SystemFacts {
  readonly os: { readonly distro: string; readonly release: string; readonly kernel: string; readonly arch: string };
  readonly cpu: { readonly manufacturer: string; readonly brand: string };
  readonly disks: readonly {
    readonly mount: string;
    readonly type: string;
    readonly size: number;
    readonly used: number;
  }[];
}

/** What Node itself knows: enough for an inventory without disks. */
export interface NodeFacts {
  readonly hostname: string;
  readonly platform: string;
  readonly kernel: string;
  readonly architecture: string;
  readonly cpuModel: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly interfaces: Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>;
}

export function inventoryOf(node: NodeFacts, system: SystemFacts | undefined, collectedMs: number): Inventory {
  return {
    hostname: node.hostname,
    os: system ? joined(system.os.distro, system.os.release) || node.platform : node.platform,
    kernel: system?.os.kernel || node.kernel,
    architecture: system?.os.arch || node.architecture,
    cpuModel: system ? joined(system.cpu.manufacturer, system.cpu.brand) || node.cpuModel : node.cpuModel,
    cores: node.cores,
    memoryBytes: node.memoryBytes,
    disks: system ? disksOf(system.disks) : [],
    interfaces: interfacesOf(node.interfaces),
    collectedMs,
  };
}

function joined(...words: readonly string[]): string {
  return words
    .map((word) => word.trim())
    .filter((word) => word !== '')
    .join(' ');
}

/** One entry per mount point: what is mounted over is hidden. */
function disksOf(disks: SystemFacts['disks']): Disk[] {
  const found = new Map<string, Disk>();
  for (const { mount, type, size, used } of disks) {
    if (size > 0) found.set(mount, { mount, filesystem: type, sizeBytes: size, usedBytes: used });
  }
  return [...found.values()].slice(0, DISKS_MAX);
}

function interfacesOf(interfaces: NodeFacts['interfaces']): NetworkInterface[] {
  const found: NetworkInterface[] = [];
  for (const [name, all = []] of Object.entries(interfaces)) {
    const outside = all.filter((one) => !one.internal);
    const [first] = outside;
    if (!first) continue;
    const addresses = outside.map((one) => one.address).slice(0, ADDRESSES_MAX);
    found.push({ name, addresses, mac: first.mac });
  }
  return found.slice(0, INTERFACES_MAX);
}
