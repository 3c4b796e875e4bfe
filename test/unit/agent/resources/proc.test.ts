import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  parseCpuTimes,
  parseDisks,
  parseLoad,
  parseMemory,
  parseNetwork,
  parseUptimeMs,
} from '../../../../src/agent/resources/proc.js';

const STAT = `cpu  1000 50 300 8000 200 10 20 70 400 5
cpu0 500 25 150 4000 100 5 10 35 200 2
intr 1234 0 0
ctxt 5678
btime 1700000000
`;

const MEMINFO = `MemTotal:        8000000 kB
MemFree:         1000000 kB
MemAvailable:    5000000 kB
Buffers:          300000 kB
Cached:          2000000 kB
SwapCached:            0 kB
SwapTotal:       2000000 kB
SwapFree:        1500000 kB
HugePages_Total:       0
`;

const NET = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  eth0: 6000000    5000    0    0    0     0          0         0   700000    4000    0    0    0     0       0          0
wlp2s0:12 1 0 0 0 0 0 0 34 1 0 0 0 0 0 0
eth0:1: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0
`;

const DISKSTATS = `   7       0 loop0 10 0 100 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 95763 29655 3826434 31946 52516 65177 4407088 26009 0 15512 61539 21285 164 2004640 2868 12393 715
 254       1 vda1 95000 29655 3800000 31946 52516 65177 4400000 26009 0 15512 61539
   8       0 sda 1 0 8 0 2 0 16 0 0 0 0
`;

describe('/proc', () => {
  it('stat: guests are not counted twice, waiting for disks is idle', () => {
    assert.deepEqual(parseCpuTimes(STAT), { total: 9650, idle: 8200 });
    assert.deepEqual(parseCpuTimes('cpu  10 0 5 100\n'), { total: 115, idle: 100 });
  });

  it('meminfo: what can be freed is not used', () => {
    assert.deepEqual(parseMemory(MEMINFO), {
      totalBytes: 8_192_000_000,
      usedBytes: 3_072_000_000,
      swapUsedBytes: 512_000_000,
    });
    const old = MEMINFO.replace(/MemAvailable.*\n/, '');
    assert.equal(parseMemory(old).usedBytes, (8_000_000 - 3_300_000) * 1024);
  });

  it('loadavg and uptime', () => {
    assert.deepEqual(parseLoad('0.52 1.05 10.49 3/512 12345\n'), [0.52, 1.05, 10.49]);
    assert.equal(parseUptimeMs('1810.13 3000.00\n'), 1_810_130);
  });

  it('net/dev: every interface but the loopback, with or without a space after the name', () => {
    assert.deepEqual(
      [...parseNetwork(NET)],
      [
        ['eth0', { inBytes: 6_000_000, outBytes: 700_000 }],
        ['wlp2s0', { inBytes: 12, outBytes: 34 }],
        ['eth0:1', { inBytes: 5, outBytes: 6 }],
      ],
    );
  });

  it('diskstats: sectors of 512 bytes, lines of any kernel', () => {
    const disks = parseDisks(DISKSTATS);
    assert.deepEqual([...disks.keys()], ['loop0', 'vda', 'vda1', 'sda']);
    assert.deepEqual(disks.get('vda'), { inBytes: 3_826_434 * 512, outBytes: 4_407_088 * 512 });
    assert.deepEqual(disks.get('sda'), { inBytes: 4096, outBytes: 8192 });
  });

  it('counts as 0 what is missing or no number', () => {
    assert.deepEqual(parseCpuTimes(''), { total: 0, idle: 0 });
    assert.deepEqual(parseMemory(''), { totalBytes: 0, usedBytes: 0, swapUsedBytes: 0 });
    assert.deepEqual(parseLoad(''), [0, 0, 0]);
    assert.equal(parseUptimeMs('soon'), 0);
    assert.equal(parseNetwork('').size, 0);
    assert.equal(parseDisks('').size, 0);
  });

  it('never gives anything but finite numbers, whatever the text', () => {
    const anything = fc.oneof(
      fc.string({ maxLength: 200 }),
      fc
        .constantFrom(STAT, MEMINFO, NET, DISKSTATS)
        .chain((text) => fc.integer({ min: 0, max: text.length }).map((end) => text.slice(0, end))),
    );
    fc.assert(
      fc.property(anything, (text) => {
        const { total, idle } = parseCpuTimes(text);
        const memory = parseMemory(text);
        const devices = [...parseNetwork(text).values(), ...parseDisks(text).values()];
        const { totalBytes, usedBytes, swapUsedBytes } = memory;
        const all = [total, idle, totalBytes, usedBytes, swapUsedBytes, ...parseLoad(text), parseUptimeMs(text)];
        for (const { inBytes, outBytes } of devices) all.push(inBytes, outBytes);
        assert.ok(
          all.every((value) => Number.isFinite(value)),
          all.join(' '),
        );
      }),
    );
  });
});
