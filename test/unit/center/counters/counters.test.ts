import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Counters, SERVICES_PER_MACHINE_MAX } from '../../../../src/center/counters/counters.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { batch, definition } from '../../../support/batches.js';
import { FakeFleet } from '../../../support/fleet.js';
import { HeldStore } from '../../../support/held-store.js';

const fleet = new FakeFleet(
  [
    { id: 'm-1', name: 'web-1', online: true },
    { id: 'm-2', name: 'web-2', online: false },
  ],
  ['orders', 'billing', 'quiet'],
);

async function start() {
  const clock = new ManualClock();
  const store = new HeldStore(await openMemoryStore());
  const counters = await Counters.open(store, { clock, fleet });
  const reopen = () => Counters.open(store, { clock, fleet });
  return { clock, store, counters, reopen };
}

describe("the center's counters", () => {
  it('sum over machines, and a batch sent again adds nothing', async () => {
    const { counters, reopen } = await start();
    await counters.report('m-1', batch('c-1', { a: 5 }));
    await counters.report('m-1', batch('c-1', { a: 5 }));
    await counters.report('m-2', batch('c-2', { a: 7, b: 1 }));
    for (const one of [counters, await reopen()]) {
      const { counter, series } = one.query('orders', 'a');
      assert.deepEqual([counter.value, counter.machines, counter.series], [12, 2, 2]);
      assert.deepEqual(
        series.map(({ machineName, value }) => [machineName, value]),
        [
          ['web-1', 5],
          ['web-2', 7],
        ],
      );
    }
  });

  it('fold a replaced reporter once, and never take it again', async () => {
    const { counters, reopen } = await start();
    const level = { definition: definition('level', { kind: 'gauge' as const }), timeMs: 0 };
    await counters.report('m-1', batch('c-1', { a: 5, b: 2 }));
    await counters.report('m-1', batch('c-1', {}, { points: [{ ...level, value: 9 }] }));
    await counters.report('m-1', batch('c-2', { a: 3 }));
    await counters.report('m-1', batch('c-3', { b: 1 }));
    for (const one of [counters, await reopen()]) {
      assert.deepEqual(
        one.list('orders').map(({ name, value }) => [name, value]),
        [
          ['a', 8],
          ['b', 3],
          ['level', 9],
        ],
      );
      await assert.rejects(one.report('m-1', batch('c-1', { a: 6 })), { reason: 'PROCESS_RETIRED' });
      await assert.rejects(one.report('m-1', batch('c-2', { a: 6 })), { reason: 'PROCESS_RETIRED' });
    }
    await counters.report('m-1', batch('c-3', {}, { points: [{ ...level, value: 1 }] }));
    assert.equal(counters.query('orders', 'level').counter.value, 1);
  });

  it('refuse what would make a total that no number can hold', async () => {
    const { counters } = await start();
    const largest = Number.MAX_VALUE;
    assert.deepEqual(await counters.report('m-1', batch('c-1', { a: largest })), []);
    const refusals = await counters.report('m-1', batch('c-2', { a: largest, b: 1 }));
    assert.deepEqual(
      refusals.map(({ index, reason }) => [index, reason]),
      [[0, 'INVALID_VALUE']],
    );
    assert.equal(counters.query('orders', 'a').counter.value, largest);
    assert.equal(counters.query('orders', 'b').counter.value, 1);
  });

  it('acknowledge only what is durable', async () => {
    const { counters, store } = await start();
    const release = store.hold();
    let acknowledged = false;
    const report = counters.report('m-1', batch('c-1', { a: 5 })).then(() => {
      acknowledged = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(acknowledged, false);
    release();
    await report;
    store.fail(new MusterError('exhausted', 'the disk is full'));
    await assert.rejects(counters.report('m-1', batch('c-1', { a: 6, b: 1 })), { code: 'exhausted' });
  });

  it('store a series with the next batch when its first write failed', async () => {
    const { counters, store, reopen } = await start();
    store.fail(new MusterError('exhausted', 'the disk is full'));
    await assert.rejects(counters.report('m-1', batch('c-1', { a: 5 })));
    store.fail();
    await counters.report('m-1', batch('c-1', { a: 6 }));
    assert.equal((await reopen()).query('orders', 'a').counter.value, 6);
  });

  it('know rates over the last minute, after two reports', async () => {
    const { counters, clock } = await start();
    await counters.report('m-1', batch('c-1', { a: 0 }));
    assert.equal(counters.query('orders', 'a').series[0]?.perSecond, undefined);
    for (let second = 1; second <= 120; second += 1) {
      await clock.advance(1_000);
      await counters.report('m-1', batch('c-1', { a: second * 3 }));
    }
    assert.equal(Math.round(counters.query('orders', 'a').counter.perSecond * 100) / 100, 3);
    await clock.advance(120_000);
    assert.equal(counters.query('orders', 'a').counter.perSecond, 0);
  });

  it('are found by name in all services where only one has it', async () => {
    const { counters } = await start();
    await counters.report('m-1', batch('c-1', { a: 1, only: 2 }));
    await counters.report('m-1', batch('c-2', { a: 3 }, { service: 'billing' }));
    assert.equal(counters.query('', 'only').counter.service, 'orders');
    assert.throws(() => counters.query('', 'a'), { code: 'invalid', message: /billing, orders: name the service/ });
    assert.throws(() => counters.query('', 'onyl'), { code: 'not_found', message: /"only"/ });
    assert.throws(() => counters.query('quiet', 'a'), { code: 'not_found' });
    assert.deepEqual(counters.list('quiet'), []);
    assert.throws(() => counters.list('orderz'), { code: 'not_found', message: /"orders"/ });
  });

  it('are bounded in all, also where a ledger grows', async () => {
    const store = await openMemoryStore();
    const counters = await Counters.open(store, { clock: new ManualClock(), fleet, seriesMax: 3 });
    await counters.report('m-1', batch('c-1', { a: 1 }));
    assert.deepEqual(
      (await counters.report('m-1', batch('c-1', { a: 2, b: 2, c: 3, d: 4 }))).map(({ index, reason }) => [
        index,
        reason,
      ]),
      [[3, 'TOO_MANY_SERIES']],
    );
    assert.equal(counters.query('orders', 'a').counter.value, 2);
    await assert.rejects(counters.report('m-2', batch('c-2', { a: 1 })), { code: 'exhausted' });
  });

  it('of a removed machine stay in the total, once, and take nothing more', async () => {
    const machines = new FakeFleet([
      { id: 'm-1', name: 'web-1', online: true },
      { id: 'm-2', name: 'web-2', online: true },
      { id: 'm-3', name: 'web-3', online: true },
    ]);
    const store = new HeldStore(await openMemoryStore());
    const open = () => Counters.open(store, { clock: new ManualClock(), fleet: machines });
    const counters = await open();
    const level = { definition: definition('level', { kind: 'gauge' }), value: 9, timeMs: 0 };
    for (const [machine, value] of [
      ['m-1', 5],
      ['m-2', 7],
      ['m-3', 1],
    ] as const) {
      await counters.report(machine, batch(`c-${machine}`, { a: value, [machine]: 1 }));
      await counters.report(machine, batch(`c-${machine}`, {}, { points: [level] }));
    }
    machines.machines.splice(0, 1);
    store.fail(new MusterError('exhausted', 'the disk is full'));
    await assert.rejects(counters.forgetRemoved(), { code: 'exhausted' });
    assert.equal(counters.query('orders', 'a').counter.value, 13);
    store.fail();
    const total = (one: Counters): unknown[] => {
      const { counter, series } = one.query('orders', 'a');
      return [counter.value, counter.machines, series.map(({ machineName, value }) => [machineName, value])];
    };
    await counters.forgetRemoved();
    await counters.forgetRemoved();
    const one = [
      13,
      2,
      [
        ['web-2', 7],
        ['web-3', 1],
        ['(removed machines)', 5],
      ],
    ];
    assert.deepEqual(total(counters), one);
    assert.equal(counters.query('orders', 'level').counter.value, 18);
    await assert.rejects(counters.report('m-1', batch('c-m-1', { a: 6 })), { reason: 'MACHINE_REMOVED' });
    machines.machines.splice(0, 1);
    const reopened = await open();
    await reopened.forgetRemoved();
    for (const opened of [reopened, await open()]) {
      assert.deepEqual(
        [opened.query('orders', 'a').counter.value, opened.query('orders', 'm-1').counter.value],
        [13, 1],
      );
      assert.equal(opened.query('orders', 'a').counter.machines, 1);
    }
  });

  it('are bounded per machine, and take only names that can be services', async () => {
    const { counters } = await start();
    for (let n = 0; n < SERVICES_PER_MACHINE_MAX; n += 1) {
      await counters.report('m-1', batch('c-1', { a: 1 }, { service: `s${n}` }));
    }
    await assert.rejects(counters.report('m-1', batch('c-1', { a: 1 }, { service: 'one-more' })), {
      code: 'exhausted',
    });
    await counters.report('m-2', batch('c-1', { a: 1 }, { service: 'one-more' }));
    for (const service of ['', '../x', 'A:B', '__proto__']) {
      await assert.rejects(counters.report('m-2', batch('c-1', { a: 1 }, { service })), { code: 'invalid' });
    }
  });
});
