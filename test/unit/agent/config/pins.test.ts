import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigCache } from '../../../../src/agent/config/cache.js';
import { ConfigSync } from '../../../../src/agent/config/sync.js';
import { hashValues } from '../../../../src/config/canonical.js';
import type { ConfigSnapshot } from '../../../../src/config/wire.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { seededRandom } from '../../../../src/kit/random.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { HeldStore } from '../../../support/held-store.js';

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);

function snapshot(revision: number): ConfigSnapshot {
  const values = { revision };
  return { revision, hash: hashValues(values), values, provenance: {} };
}

async function start() {
  const store = new HeldStore(await openMemoryStore());
  const clock = new ManualClock();
  const open = () => ConfigCache.open(store, clock, silentLogger);
  return { store, clock, open, cache: await open() };
}

/** Release A ran with revision 3, B with 5; then the machine was rolled back to A. */
async function rolledBack() {
  const bench = await start();
  const { cache } = bench;
  await cache.take('orders', snapshot(3));
  assert.equal(await cache.pins.keep('orders', A), 3);
  await cache.take('orders', snapshot(5));
  assert.equal(await cache.pins.keep('orders', B), 5);
  await cache.report('orders', 5, '');
  assert.equal(await cache.pins.restore('orders', A), 3);
  return bench;
}

describe('a configuration kept with a release', () => {
  it('is what is held and said after a rollback, here and in the next agent', async () => {
    const { cache, open } = await rolledBack();
    for (const one of [cache, await open()]) {
      assert.deepEqual([one.held('orders'), one.snapshot('orders').values], [3, { revision: 3 }]);
      assert.equal(one.applied('orders'), 0, 'it has not said anything of this one');
      assert.deepEqual(one.unsent(), []);
    }
    await cache.report('orders', 3, '');
    assert.equal(cache.applied('orders'), 3);
  });

  it('is not flipped by the revision there was then, nor asked for again and again', async () => {
    const { cache, clock, open } = await rolledBack();
    for (const one of [cache, await open()]) {
      for (const revision of [5, 4, 3]) one.refresh('orders', snapshot(revision));
      assert.deepEqual(one.missing(), []);
      await one.take('orders', snapshot(5));
      assert.equal(one.held('orders'), 3, 'a fetch that was under way');
    }
    let asked = 0;
    const remote = {
      get: () => {
        asked += 1;
        return Promise.resolve(snapshot(5));
      },
      reportApplied: () => Promise.resolve(),
    };
    const center = { connected: true, onConnection: () => () => undefined };
    const sync = new ConfigSync({ cache, remote, center, clock, random: seededRandom(1), logger: silentLogger });
    const ended = new AbortController();
    const running = sync.run(ended.signal);
    for (let time = 0; time < 20; time += 1) {
      cache.refresh('orders', snapshot(5));
      await clock.advance(1000);
    }
    ended.abort();
    await running;
    assert.deepEqual([asked, cache.held('orders')], [0, 3]);
  });

  it('gives way to a higher revision, and then it is as if there had been no rollback', async () => {
    const { cache, open } = await rolledBack();
    cache.refresh('orders', snapshot(6));
    assert.deepEqual(cache.missing(), [['orders', snapshot(6)]]);
    await cache.take('orders', snapshot(6));
    for (const one of [cache, await open()]) {
      assert.equal(one.held('orders'), 6);
      one.refresh('orders', snapshot(7));
      assert.equal(one.missing().length, 1);
    }
  });

  it('gives way where the pin could not be removed after a higher one was taken', async () => {
    const { cache, store, open } = await rolledBack();
    let writes = 0;
    const write = store.write.bind(store);
    store.write = (mutations) => {
      writes += 1;
      return writes === 1 ? write(mutations) : Promise.reject(new Error('killed'));
    };
    await assert.rejects(cache.take('orders', snapshot(6)), /killed/);
    store.write = write;
    const next = await open();
    next.refresh('orders', snapshot(6));
    assert.deepEqual([next.held('orders'), next.missing()], [6, []]);
    next.refresh('orders', snapshot(7));
    assert.equal(next.missing().length, 1);
  });

  it('counts what the center wanted and was not fetched yet as known at the rollback', async () => {
    const { cache } = await start();
    await cache.take('orders', snapshot(3));
    await cache.pins.keep('orders', A);
    cache.refresh('orders', snapshot(9));
    assert.equal(await cache.pins.restore('orders', A), 3);
    assert.deepEqual(cache.missing(), []);
    cache.refresh('orders', snapshot(10));
    assert.equal(cache.missing().length, 1);
  });

  it('is let go by a deploy: what the center said last is fetched', async () => {
    const { cache, open } = await rolledBack();
    cache.refresh('orders', snapshot(5));
    let work = 0;
    cache.onWork(() => (work += 1));
    await cache.pins.unpin('orders');
    assert.equal(work, 1);
    assert.deepEqual(
      cache.missing().map(([service, { revision }]) => [service, revision]),
      [['orders', 5]],
    );
    await cache.take('orders', snapshot(5));
    assert.equal((await open()).held('orders'), 5);
  });

  it('can be put back again after another, up and down; pins never come down', async () => {
    const { cache } = await rolledBack();
    assert.equal(await cache.pins.restore('orders', B), 5);
    assert.equal(await cache.pins.restore('orders', A), 3);
    cache.refresh('orders', snapshot(5));
    assert.deepEqual([cache.held('orders'), cache.missing()], [3, []]);
  });

  it('that was none changes nothing', async () => {
    const { cache } = await start();
    assert.equal(await cache.pins.keep('orders', A), 0);
    await cache.take('orders', snapshot(2));
    assert.equal(await cache.pins.restore('orders', A), 0);
    await cache.take('orders', snapshot(4));
    assert.equal(cache.held('orders'), 4);
  });

  it('is forgotten with its release, and all with the service', async () => {
    const { cache, open } = await rolledBack();
    await cache.pins.forget('orders', B);
    assert.equal(await cache.pins.restore('orders', B), 0);
    await cache.forget('orders');
    for (const one of [cache, await open()]) {
      assert.equal(await one.pins.restore('orders', A), 0);
      one.refresh('orders', snapshot(1));
      assert.equal(one.missing().length, 1, 'nothing is pinned');
    }
  });
});
