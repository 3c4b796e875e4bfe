import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigCache } from '../../../../src/agent/config/cache.js';
import { hashValues } from '../../../../src/config/canonical.js';
import type { ConfigValues } from '../../../../src/config/values.js';
import type { ConfigSnapshot } from '../../../../src/config/wire.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { HeldStore } from '../../../support/held-store.js';

function snapshot(revision: number, values: ConfigValues): ConfigSnapshot {
  return { revision, hash: hashValues(values), values, provenance: {} };
}

async function start() {
  const store = new HeldStore(await openMemoryStore());
  const clock = new ManualClock();
  const open = () => ConfigCache.open(store, clock, silentLogger);
  return { store, clock, open, cache: await open() };
}

describe("the agent's configurations", () => {
  it('are offered only once they are durable', async () => {
    const { store, cache, open } = await start();
    let changes = 0;
    cache.onChange(() => (changes += 1));
    const release = store.hold();
    const taking = cache.take('orders', snapshot(1, { a: 1 }));
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([cache.held('orders'), changes], [0, 0]);
    release();
    await taking;
    assert.deepEqual([cache.held('orders'), changes], [1, 1]);
    store.fail(new Error('no room'));
    await assert.rejects(cache.take('orders', snapshot(2, { a: 2 })));
    assert.deepEqual(cache.snapshot('orders').values, { a: 1 });
    assert.deepEqual((await open()).snapshot('orders').values, { a: 1 });
  });

  it('rise in revision and match their hash', async () => {
    const { cache } = await start();
    await cache.take('orders', snapshot(3, { a: 3 }));
    await cache.take('orders', snapshot(2, { a: 2 }));
    assert.deepEqual(cache.snapshot('orders').values, { a: 3 });
    const damaged = { ...snapshot(4, { a: 4 }), values: { a: 5 } };
    await assert.rejects(cache.take('orders', damaged), { code: 'data_loss' });
    assert.equal(cache.held('orders'), 3);
  });

  it('are missing until what the center wants is held', async () => {
    const { cache } = await start();
    let work = 0;
    cache.onWork(() => (work += 1));
    cache.refresh('orders', { revision: 0, hash: '' });
    assert.deepEqual([cache.missing(), work], [[], 0]);
    const wanted = snapshot(2, { a: 2 });
    cache.refresh('orders', wanted);
    assert.equal(cache.missing().length, 1);
    assert.equal(work, 1);
    await cache.take('orders', snapshot(1, { a: 1 }));
    assert.equal(cache.missing().length, 1);
    await cache.take('orders', wanted);
    assert.deepEqual(cache.missing(), []);
  });

  it('make a service that asks wait for one that is under way, but not for ever', async () => {
    const { cache, clock } = await start();
    const { signal } = new AbortController();
    await cache.settled('orders', signal);
    cache.refresh('orders', snapshot(1, { a: 1 }));
    const waiting = cache.settled('orders', signal);
    await cache.take('orders', snapshot(1, { a: 1 }));
    await waiting;
    cache.refresh('orders', snapshot(2, { a: 2 }));
    const inVain = cache.settled('orders', signal);
    await clock.advance(2_000);
    await inVain;
    assert.equal(clock.pending, 0);
  });

  it('keep what a service said until the center has it', async () => {
    const { cache, open } = await start();
    await cache.take('orders', snapshot(2, { a: 1 }));
    await cache.report('orders', 2, '');
    await assert.rejects(cache.report('orders', 3, ''), { code: 'invalid' });
    await assert.rejects(cache.report('orders', 0, ''), { code: 'invalid' });
    const again = await open();
    assert.equal(again.applied('orders'), 2);
    const [unsent] = again.unsent();
    assert.ok(unsent);
    await again.report('orders', 2, 'not so good after all');
    // What was sent was the older one.
    await again.sent(...unsent);
    assert.equal(again.unsent()[0]?.[1].error, 'not so good after all');
    assert.equal(again.applied('orders'), 0);
    for (const [service, report] of again.unsent()) await again.sent(service, report);
    assert.deepEqual((await open()).unsent(), []);
  });

  it('are forgotten with the service', async () => {
    const { cache, open } = await start();
    await cache.take('orders', snapshot(2, { a: 1 }));
    await cache.report('orders', 2, '');
    await cache.forget('orders');
    for (const one of [cache, await open()]) {
      assert.deepEqual([one.held('orders'), one.applied('orders'), one.unsent()], [0, 0, []]);
    }
  });
});
