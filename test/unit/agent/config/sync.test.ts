import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { ConfigCache } from '../../../../src/agent/config/cache.js';
import { ConfigSync } from '../../../../src/agent/config/sync.js';
import { hashValues } from '../../../../src/config/canonical.js';
import type { ConfigSnapshot } from '../../../../src/config/wire.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { seededRandom } from '../../../../src/kit/random.js';
import { openMemoryStore } from '../../../../src/store/memory.js';

function snapshot(revision: number): ConfigSnapshot {
  const values = { revision };
  return { revision, hash: hashValues(values), values, provenance: {} };
}

async function start(t: TestContext) {
  const clock = new ManualClock();
  const cache = await ConfigCache.open(await openMemoryStore(), clock, silentLogger);
  const listeners = new Set<(connected: boolean) => void>();
  const center = {
    connected: true,
    onConnection: (listener: (connected: boolean) => void) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const remote = {
    gets: 0,
    reports: [] as [string, number, string][],
    failure: undefined as MusterError | undefined,
    snapshots: new Map<string, ConfigSnapshot>(),
    get(service: string): Promise<ConfigSnapshot> {
      this.gets += 1;
      const found = this.snapshots.get(service);
      if (this.failure) return Promise.reject(this.failure);
      return found ? Promise.resolve(found) : Promise.reject(new MusterError('not_found', 'no such service'));
    },
    reportApplied(service: string, { revision, error }: { revision: number; error: string }): Promise<void> {
      if (this.failure) return Promise.reject(this.failure);
      this.reports.push([service, revision, error]);
      return Promise.resolve();
    },
  };
  const stop = new AbortController();
  const sync = new ConfigSync({ cache, remote, center, clock, random: seededRandom(1), logger: silentLogger });
  const running = sync.run(stop.signal);
  t.after(async () => {
    stop.abort();
    await running;
    assert.equal(listeners.size, 0);
  });
  const connect = (connected: boolean): void => {
    center.connected = connected;
    for (const listener of listeners) listener(connected);
  };
  return { clock, cache, remote, connect };
}

describe('fetching configurations', () => {
  it('fetches what is missing, once', async (t) => {
    const { clock, cache, remote } = await start(t);
    remote.snapshots.set('orders', snapshot(2));
    cache.refresh('orders', snapshot(2));
    cache.refresh('orders', snapshot(2));
    await clock.advance(60_000);
    assert.equal(cache.held('orders'), 2);
    assert.equal(remote.gets, 1);
  });

  it('tries again while it fails, and one that cannot be had does not hold up the others', async (t) => {
    const { clock, cache, remote } = await start(t);
    remote.failure = new MusterError('unavailable', 'away');
    cache.refresh('missing', snapshot(1));
    cache.refresh('orders', snapshot(1));
    await clock.advance(5_000);
    assert.equal(cache.held('orders'), 0);
    remote.failure = undefined;
    remote.snapshots.set('orders', snapshot(1));
    await clock.advance(10_000);
    assert.equal(cache.held('orders'), 1);
    const damaged = { ...snapshot(1), values: {} };
    remote.snapshots.set('missing', damaged);
    await clock.advance(20_000);
    assert.equal(cache.held('missing'), 0);
    remote.snapshots.set('missing', snapshot(1));
    await clock.advance(20_000);
    assert.equal(cache.held('missing'), 1);
  });

  it('asks nothing while the center is away, and all of it when it is back', async (t) => {
    const { clock, cache, remote, connect } = await start(t);
    connect(false);
    remote.snapshots.set('orders', snapshot(1));
    cache.refresh('orders', snapshot(1));
    await clock.advance(60_000);
    assert.equal(remote.gets, 0);
    connect(true);
    await clock.advance(1);
    assert.equal(cache.held('orders'), 1);
  });

  it('hands on what services said, until the center has it or never wants it', async (t) => {
    const { clock, cache, remote } = await start(t);
    await cache.take('orders', snapshot(1));
    remote.failure = new MusterError('unavailable', 'away');
    await cache.report('orders', 1, 'not that');
    await clock.advance(5_000);
    assert.equal(cache.unsent().length, 1);
    remote.failure = undefined;
    await clock.advance(20_000);
    assert.deepEqual(remote.reports, [['orders', 1, 'not that']]);
    assert.deepEqual(cache.unsent(), []);
    remote.failure = new MusterError('not_found', 'no such service');
    await cache.report('orders', 1, '');
    await clock.advance(1);
    assert.deepEqual(cache.unsent(), []);
  });
});
