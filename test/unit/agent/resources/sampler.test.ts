import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { ResourceSampler } from '../../../../src/agent/resources/sampler.js';
import { ManualClock } from '../../../../src/kit/clock.js';

class FakeMachine {
  readonly clock = new ManualClock();
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  get proc(): string {
    return join(this.#root, 'proc');
  }

  get sys(): string {
    return join(this.#root, 'sys');
  }

  async write(files: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, text] of Object.entries(files)) {
      const file = join(this.#root, name);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    }
  }

  sampler(): ResourceSampler {
    const { clock, proc, sys } = this;
    return new ResourceSampler({ dataDirectory: this.#root, clock, procDirectory: proc, sysDirectory: sys });
  }
}

async function machine(t: TestContext): Promise<FakeMachine> {
  const root = await mkdtemp(join(tmpdir(), 'muster-resources-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  return new FakeMachine(root);
}

function counters(
  received: number,
  readSectors: number,
  [total, idle]: readonly [number, number],
): Record<string, string> {
  const busy = total - idle;
  return {
    'proc/stat': `cpu  ${busy} 0 0 ${idle} 0 0 0 0 0 0\n`,
    'proc/net/dev': `eth0: ${received} 0 0 0 0 0 0 0 ${received * 2} 0 0 0 0 0 0 0\nveth1: ${received * 9} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n`,
    'proc/diskstats': `8 0 sda 0 0 ${readSectors} 0 0 0 ${readSectors * 3} 0 0 0 0\n8 1 sda1 0 0 ${readSectors} 0 0 0 0 0 0 0 0\n`,
    'sys/block/sda/size': '',
    'sys/class/net/eth0/device/vendor': '',
    'sys/class/net/veth1/type': '',
  };
}

describe('the sampler', () => {
  it('gives what is, and rates as averages since the sample before', async (t) => {
    const host = await machine(t);
    await host.write({
      ...counters(1000, 10, [1000, 500]),
      'proc/meminfo': 'MemTotal: 1000 kB\nMemAvailable: 400 kB\n',
      'proc/loadavg': '1.5 2.5 3.5 1/2 3\n',
      'proc/uptime': '60.5 100\n',
    });
    const sampler = host.sampler();
    const first = await sampler.sample();
    assert.deepEqual(
      [first.load1, first.load5, first.load15, first.memoryTotalBytes, first.memoryUsedBytes, first.uptimeMs],
      [1.5, 2.5, 3.5, 1_024_000, 614_400, 60_500],
    );
    assert.deepEqual(
      [first.cpuPercent, first.networkReceiveBytesPerSecond, first.diskReadBytesPerSecond, first.agentCpuPercent],
      [0, 0, 0, 0],
    );
    assert.ok(first.dataTotalBytes > 0 && first.dataFreeBytes > 0 && first.agentMemoryBytes > 1_000_000);

    await host.clock.advance(2000);
    await host.write(counters(5000, 30, [1400, 800]));
    const second = await sampler.sample();
    assert.equal(second.cpuPercent, 25);
    assert.equal(second.networkReceiveBytesPerSecond, 2000, 'the container is not counted again');
    assert.equal(second.networkSendBytesPerSecond, 4000);
    assert.equal(second.diskReadBytesPerSecond, 5120, 'the partition is not counted again');
    assert.equal(second.diskWriteBytesPerSecond, 15_360);
    assert.ok(second.agentCpuPercent >= 0);
  });

  it('gives 0 twice in the same instant, and for all a machine does not tell', async (t) => {
    const host = await machine(t);
    const sampler = host.sampler();
    await sampler.sample();
    const { agentMemoryBytes, dataFreeBytes, dataTotalBytes, ...rest } = await sampler.sample();
    assert.ok(agentMemoryBytes > 0 && dataFreeBytes > 0 && dataTotalBytes > 0);
    assert.deepEqual([...new Set(Object.values(rest))], [0]);
  });

  it('measures this very machine', async (t) => {
    if (process.platform !== 'linux') {
      t.skip('needs Linux');
      return;
    }
    const clock = new ManualClock();
    const sampler = new ResourceSampler({ dataDirectory: tmpdir(), clock });
    await sampler.sample();
    await clock.advance(1000);
    const seen = await sampler.sample();
    assert.ok(Object.values(seen).every((value) => Number.isFinite(value) && value >= 0));
    assert.ok(seen.memoryUsedBytes > 0 && seen.memoryUsedBytes < seen.memoryTotalBytes);
    assert.ok(seen.uptimeMs > 0);
  });
});
