import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InventoryKeeper } from '../../../../src/agent/resources/inventory.js';
import { inventoryOf, type NodeFacts, type SystemFacts } from '../../../../src/agent/resources/inventory-facts.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import type { Inventory } from '../../../../src/model/machine.js';
import {
  fromWireInventory,
  fromWireResources,
  toWireInventory,
  toWireResources,
} from '../../../../src/wire/machine.js';

const address = (text: string, internal = false) =>
  ({ address: text, netmask: '', family: 'IPv4', mac: '02:00:00:00:00:01', internal, cidr: null }) as const;

const NODE: NodeFacts = {
  hostname: 'web-1',
  platform: 'Linux',
  kernel: '6.1.0',
  architecture: 'x64',
  cpuModel: 'Some CPU',
  cores: 4,
  memoryBytes: 8_000_000_000,
  interfaces: { lo: [address('127.0.0.1', true)], eth0: [address('192.0.2.7'), address('fd00::7')] },
};

const SYSTEM: SystemFacts = {
  os: { distro: 'Debian GNU/Linux', release: '12', kernel: '6.1.0-18', arch: 'x86_64' },
  cpu: { manufacturer: 'Intel', brand: 'Xeon ' },
  disks: [
    { mount: '/', type: 'ext4', size: 1000, used: 400 },
    { mount: '/empty', type: 'autofs', size: 0, used: 0 },
  ],
};

const WHOLE: Inventory = {
  hostname: 'web-1',
  os: 'Debian GNU/Linux 12',
  kernel: '6.1.0-18',
  architecture: 'x86_64',
  cpuModel: 'Intel Xeon',
  cores: 4,
  memoryBytes: 8_000_000_000,
  disks: [{ mount: '/', filesystem: 'ext4', sizeBytes: 1000, usedBytes: 400 }],
  interfaces: [{ name: 'eth0', addresses: ['192.0.2.7', 'fd00::7'], mac: '02:00:00:00:00:01' }],
  collectedMs: 123,
};

describe('the inventory', () => {
  it('joins what the system and Node.js tell', () => {
    assert.deepEqual(inventoryOf(NODE, SYSTEM, 123), WHOLE);
  });

  it('does without the system', () => {
    const { os, kernel, cpuModel, disks, cores } = inventoryOf(NODE, undefined, 0);
    assert.deepEqual(
      { os, kernel, cpuModel, disks, cores },
      { os: 'Linux', kernel: '6.1.0', cpuModel: 'Some CPU', disks: [], cores: 4 },
    );
  });

  it('is bounded on hosts with thousands of containers', () => {
    const many = Array.from({ length: 5000 }, (_, index) => index);
    const interfaces = Object.fromEntries(many.map((index) => [`veth${index}`, [address('192.0.2.1')]]));
    const disks = many.map((index) => ({ mount: `/m${index}`, type: 'overlay', size: 1, used: 1 }));
    const { disks: kept, interfaces: shown } = inventoryOf({ ...NODE, interfaces }, { ...SYSTEM, disks }, 0);
    assert.deepEqual([kept.length, shown.length], [64, 64]);
  });

  it('survives the way through the contract', () => {
    assert.deepEqual(fromWireInventory(toWireInventory(WHOLE)), WHOLE);
    const resources = {
      ...{ load1: 1, load5: 2, load15: 3, cpuPercent: 4.5, memoryTotalBytes: 5, memoryUsedBytes: 6, swapUsedBytes: 7 },
      ...{ networkReceiveBytesPerSecond: 8, networkSendBytesPerSecond: 9, diskReadBytesPerSecond: 10 },
      ...{ diskWriteBytesPerSecond: 11, dataFreeBytes: 12, dataTotalBytes: 13, uptimeMs: 14_500 },
      ...{ agentMemoryBytes: 15, agentCpuPercent: 16.5 },
    };
    assert.deepEqual(fromWireResources(toWireResources(resources)), resources);
  });
});

describe('keeping the inventory', () => {
  it('collects at the start and every six hours, and tells', async () => {
    const clock = new ManualClock();
    let asked = 0;
    const keeper = new InventoryKeeper({
      clock,
      logger: silentLogger,
      ask: () => {
        asked += 1;
        return asked === 2 ? Promise.reject(new Error('no lsblk')) : Promise.resolve(SYSTEM);
      },
    });
    const told: string[] = [];
    const stopTelling = keeper.onCollected((inventory) => told.push(inventory.os));
    const os = (): string | undefined => keeper.latest?.os;
    assert.equal(os(), undefined);
    const controller = new AbortController();
    const running = keeper.run(controller.signal);
    await clock.advance(0);
    assert.equal(os(), 'Debian GNU/Linux 12');
    await clock.advance(6 * 3_600_000 - 1);
    assert.equal(asked, 1);
    await clock.advance(1);
    stopTelling();
    await clock.advance(6 * 3_600_000);
    assert.equal(asked, 3);
    assert.equal(told.length, 2);
    assert.notEqual(told[1], 'Debian GNU/Linux 12', 'Node.js alone knows less');
    controller.abort();
    await running;
    assert.equal(clock.pending, 0);
  });
});
