import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { recentResources } from '../../../../src/agent/local/facts.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import type { Resources } from '../../../../src/model/machine.js';

const NOTHING: Resources = {
  load1: 0,
  load5: 0,
  load15: 0,
  cpuPercent: 0,
  memoryTotalBytes: 0,
  memoryUsedBytes: 0,
  swapUsedBytes: 0,
  networkReceiveBytesPerSecond: 0,
  networkSendBytesPerSecond: 0,
  diskReadBytesPerSecond: 0,
  diskWriteBytesPerSecond: 0,
  dataFreeBytes: 0,
  dataTotalBytes: 0,
  uptimeMs: 0,
  agentMemoryBytes: 0,
  agentCpuPercent: 0,
};

/** Like the real one: without a sample before, it knows no rates. Its CPU says how long ago that was. */
class FakeSampler {
  readonly #clock: ManualClock;
  #beforeMs: number | undefined;
  samples = 0;

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  sample(): Promise<Resources> {
    const nowMs = this.#clock.monotonic();
    const cpuPercent = this.#beforeMs === undefined ? 0 : nowMs - this.#beforeMs;
    this.#beforeMs = nowMs;
    this.samples += 1;
    return Promise.resolve({ ...NOTHING, cpuPercent });
  }
}

describe('recent resources', () => {
  it('have rates from the first answer on, which waits for them where it must', async () => {
    const clock = new ManualClock();
    const sampler = new FakeSampler(clock);
    const resources = recentResources(sampler, clock);
    await clock.advance(100);
    const first = resources();
    const same = resources();
    await clock.advance(399);
    assert.equal(sampler.samples, 1, 'too early for a second');
    await clock.advance(1);
    assert.equal((await first).cpuPercent, 500);
    assert.equal(await same, await first);
    await clock.advance(999);
    assert.equal(await resources(), await first, 'at most one a second');
    await clock.advance(1);
    assert.equal((await resources()).cpuPercent, 1000);
    assert.equal(sampler.samples, 3);
  });

  it('do not wait when the agent has run for a while', async () => {
    const clock = new ManualClock();
    const resources = recentResources(new FakeSampler(clock), clock);
    await clock.advance(20_000);
    assert.equal((await resources()).cpuPercent, 20_000);
  });
});
