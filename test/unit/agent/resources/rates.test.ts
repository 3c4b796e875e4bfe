import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { DeviceCounters } from '../../../../src/agent/resources/proc.js';
import { busyPercent, hardwareInterfaces, transferred, wholeDisks } from '../../../../src/agent/resources/rates.js';

function devices(counters: Readonly<Record<string, readonly [number, number]>>): DeviceCounters {
  return new Map(Object.entries(counters).map(([name, [inBytes, outBytes]]) => [name, { inBytes, outBytes }]));
}

const named = (...names: string[]): DeviceCounters => devices(Object.fromEntries(names.map((name) => [name, [1, 1]])));

describe('rates between two readings', () => {
  it('the busy share of all cores', () => {
    assert.equal(busyPercent(undefined, { total: 1000, idle: 400 }), 0);
    assert.equal(busyPercent({ total: 1000, idle: 400 }, { total: 1200, idle: 550 }), 25);
    assert.equal(busyPercent({ total: 1000, idle: 400 }, { total: 1000, idle: 400 }), 0);
    assert.equal(busyPercent({ total: 1000, idle: 400 }, { total: 1200, idle: 390 }), 100);
  });

  it('is always between 0 and 100', () => {
    const times = fc.record({ total: fc.nat(), idle: fc.nat() });
    fc.assert(
      fc.property(times, times, (before, now) => {
        const percent = busyPercent(before, now);
        assert.ok(percent >= 0 && percent <= 100);
      }),
    );
  });

  it('transfers are summed over the devices of both readings', () => {
    const before = devices({ eth0: [100, 10], eth1: [5, 5], gone: [1000, 1000] });
    const now = devices({ eth0: [150, 30], eth1: [6, 5], fresh: [9999, 9999] });
    assert.deepEqual(transferred(before, now), { inBytes: 51, outBytes: 20 });
  });

  it('a counter of 32 bits that wrapped goes on; one that began anew adds nothing', () => {
    const before = devices({ eth0: [2 ** 32 - 100, 5_000_000] });
    const now = devices({ eth0: [50, 20] });
    assert.deepEqual(transferred(before, now), { inBytes: 150, outBytes: 0 });
    const large = devices({ eth0: [2 ** 40, 0] });
    assert.deepEqual(transferred(large, devices({ eth0: [5, 0] })), { inBytes: 0, outBytes: 0 });
  });

  it('is never negative', () => {
    const counter = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
    fc.assert(
      fc.property(counter, counter, (before, now) => {
        assert.ok(transferred(devices({ a: [before, 0] }), devices({ a: [now, 0] })).inBytes >= 0);
      }),
    );
  });
});

describe('which devices count', () => {
  it('whole disks that the kernel lists, without what lies on other disks', () => {
    const all = named('loop0', 'vda', 'vda1', 'xvda1', 'dm-0', 'md0', 'zram0', 'sr0', 'nvme0n1', 'nvme0n1p2');
    const listed = new Set(['loop0', 'vda', 'xvda1', 'dm-0', 'md0', 'zram0', 'sr0', 'nvme0n1']);
    assert.deepEqual([...wholeDisks(all, listed).keys()], ['vda', 'xvda1', 'nvme0n1']);
  });

  it('by name where the kernel does not list them', () => {
    const all = named('loop0', 'vda', 'vda1', 'sdaa', 'sdaa3', 'dm-0', 'nvme0n1', 'nvme0n1p2', 'mmcblk0', 'mmcblk0p1');
    assert.deepEqual([...wholeDisks(all, undefined).keys()], ['vda', 'sdaa', 'nvme0n1', 'mmcblk0']);
  });

  it('interfaces of hardware; all of them where there is none', () => {
    const all = named('eth0', 'docker0', 'veth12');
    assert.deepEqual([...hardwareInterfaces(all, new Set(['eth0'])).keys()], ['eth0']);
    assert.deepEqual([...hardwareInterfaces(all, new Set()).keys()], ['eth0', 'docker0', 'veth12']);
  });
});
