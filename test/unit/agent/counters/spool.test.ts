import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PROCESSES_PER_SERVICE_MAX } from '../../../../src/agent/counters/ledger.js';
import { CounterSpool } from '../../../../src/agent/counters/spool.js';
import { SERIES_PER_SERVICE_MAX } from '../../../../src/counter/series.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { batch, definition } from '../../../support/batches.js';
import { HeldStore } from '../../../support/held-store.js';

async function start() {
  const clock = new ManualClock();
  const store = new HeldStore(await openMemoryStore());
  const spool = await CounterSpool.open(store, clock);
  const reopen = () => CounterSpool.open(store, clock);
  return { clock, store, spool, reopen };
}

/** Totals by name, as the center would be told. */
function totalsOf(spool: CounterSpool): Record<string, number> {
  return Object.fromEntries(
    spool.durable().flatMap(({ definitions, values }) => definitions.map(({ name }, n) => [name, values[n] ?? NaN])),
  );
}

async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

describe('the spool', () => {
  it('sums over processes, and a batch sent again adds nothing', async () => {
    const { spool, reopen } = await start();
    await spool.report('orders', batch('p-1', { a: 5 }));
    await spool.report('orders', batch('p-1', { a: 5 }, { resumed: true }));
    await spool.report('orders', batch('p-2', { a: 2, b: 1 }));
    await spool.report('orders', batch('p-1', { a: 9 }, { resumed: true, final: true }));
    assert.deepEqual(totalsOf(spool), { a: 11, b: 1 });
    const again = await reopen();
    assert.deepEqual(totalsOf(again), { a: 11, b: 1 });
    await again.report('orders', batch('p-1', { a: 9 }, { resumed: true, final: true }));
    await again.report('orders', batch('p-2', { b: 4 }, { resumed: true }));
    assert.deepEqual(totalsOf(again), { a: 11, b: 4 });
  });

  it('acknowledges, and tells the center, only what is durable', async () => {
    const { spool, store } = await start();
    const release = store.hold();
    let acknowledged = 0;
    const reports = [1, 2, 3].map((value) =>
      spool.report('orders', batch('p-1', { a: value })).then(() => (acknowledged += 1)),
    );
    await settle();
    assert.equal(acknowledged, 0);
    assert.deepEqual(spool.durable(), []);
    release();
    await Promise.all(reports);
    assert.deepEqual(totalsOf(spool), { a: 3 });
    assert.equal(store.writes, 1, 'batches of one moment share a write');
  });

  it('keeps what could not be stored for the next write', async () => {
    const { spool, store, reopen } = await start();
    store.fail(new MusterError('exhausted', 'the disk is full'));
    await assert.rejects(spool.report('orders', batch('p-1', { a: 5 })), { code: 'exhausted' });
    assert.deepEqual(totalsOf(spool), {});
    store.fail();
    await spool.report('orders', batch('p-2', { b: 1 }));
    assert.deepEqual(totalsOf(await reopen()), { a: 5, b: 1 });
    await spool.report('orders', batch('p-1', { a: 5 }));
    assert.deepEqual(totalsOf(await reopen()), { a: 5, b: 1 });
  });

  it('refuses what falls, is no number or changes its kind, and takes the rest', async () => {
    const { spool } = await start();
    await spool.report('orders', batch('p-1', { a: 5 }));
    const points = [
      { definition: definition('a'), value: 4, timeMs: 0 },
      { definition: definition('a', { kind: 'gauge' }), value: 4, timeMs: 0 },
      { definition: definition('b'), value: NaN, timeMs: 0 },
      { definition: definition('b', { labels: { __x: '1' } }), value: 1, timeMs: 0 },
      { definition: definition('c'), value: 1, timeMs: 0 },
    ];
    const refusals = await spool.report('orders', batch('p-1', {}, { points }));
    assert.deepEqual(
      refusals.map(({ index, reason }) => [index, reason]),
      [
        [0, 'DECREASING'],
        [1, 'KIND_MISMATCH'],
        [2, 'INVALID_VALUE'],
        [3, 'INVALID_LABELS'],
      ],
    );
    assert.deepEqual(totalsOf(spool), { a: 5, c: 1 });
    assert.equal(spool.refusedPoints, 4);
  });

  it('refuses the newest series at the bound, by name', async () => {
    const { spool } = await start();
    const values = Object.fromEntries(Array.from({ length: SERIES_PER_SERVICE_MAX + 3 }, (_, n) => [`c${n}`, 1]));
    const refusals = await spool.report('orders', batch('p-1', values));
    assert.deepEqual(
      refusals.map(({ index, reason }) => [index, reason]),
      [0, 1, 2].map((n) => [SERIES_PER_SERVICE_MAX + n, 'TOO_MANY_SERIES']),
    );
    assert.match(refusals[0]?.message ?? '', /"c2000" is not counted/);
    await spool.report('orders', batch('p-1', { c0: 2 }, { resumed: true }));
    assert.equal(totalsOf(spool)['c0'], 2);
  });

  it('forgets processes that are silent longest for new ones, and refuses where none is', async () => {
    const { spool, clock, reopen } = await start();
    for (let n = 0; n < PROCESSES_PER_SERVICE_MAX; n += 1) {
      await spool.report('orders', batch(`p-${n}`, { a: 1 }));
      await clock.advance(1);
    }
    await assert.rejects(spool.report('orders', batch('new', { a: 1 })), {
      code: 'exhausted',
      reason: 'TOO_MANY_PROCESSES',
    });
    await clock.advance(60_000);
    await spool.report('orders', batch('p-0', { a: 2 }, { resumed: true }));
    await spool.report('orders', batch('new', { a: 1 }));
    assert.equal(totalsOf(spool)['a'], PROCESSES_PER_SERVICE_MAX + 2);
    for (const place of [spool, await reopen()]) {
      await assert.rejects(place.report('orders', batch('p-1', { a: 2 }, { resumed: true })), {
        code: 'precondition',
        reason: 'PROCESS_FORGOTTEN',
      });
    }
    await spool.report('orders', batch('p-0', { a: 3 }, { resumed: true }));
    assert.equal(totalsOf(spool)['a'], PROCESSES_PER_SERVICE_MAX + 3);
  });

  it('keeps the services apart', async () => {
    const { spool } = await start();
    await spool.report('orders', batch('p-1', { a: 1 }));
    await spool.report('billing', batch('p-1', { a: 2 }));
    assert.deepEqual(
      spool.durable().map(({ service, values }) => [service, values]),
      [
        ['orders', [1]],
        ['billing', [2]],
      ],
    );
  });
});
