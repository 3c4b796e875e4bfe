import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Changes, watchValues, type Watched } from '../../../src/center/changes.js';
import { PAGE_BYTES_MAX, pageOf } from '../../../src/model/paging.js';
import { Table } from '../../../src/center/table.js';
import { ManualClock } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { openMemoryStore } from '../../../src/store/memory.js';
import type { Store } from '../../../src/store/port.js';

const clock = new ManualClock();

function openTable(store: Store): Promise<Table<{ n: number }>> {
  return Table.open<{ n: number }>({ store, prefix: 'thing/', clock, logger: silentLogger });
}

describe('table', () => {
  it('shows a saved change only once it is durable', async () => {
    const store = await openMemoryStore();
    const table = await openTable(store);
    const saving = table.save('a', () => ({ n: 1 }));
    assert.equal(table.get('a'), undefined);
    await saving;
    assert.deepEqual(table.get('a'), { n: 1 });
    assert.equal(table.row('a')?.revision, store.revision);
  });

  it('changes one document one change at a time', async () => {
    const table = await openTable(await openMemoryStore());
    await Promise.all(Array.from({ length: 50 }, () => table.save('a', (current) => ({ n: (current?.n ?? 0) + 1 }))));
    assert.deepEqual(table.get('a'), { n: 50 });
  });

  it('writes nothing for a change that changes nothing, and keeps what was when a change throws', async () => {
    const store = await openMemoryStore();
    const table = await openTable(store);
    await table.put('a', { n: 1 });
    const { revision } = store;
    await table.save('a', (current) => current);
    assert.equal(store.revision, revision);
    await assert.rejects(
      table.save('a', () => {
        throw new MusterError('invalid', 'no');
      }),
      /no/,
    );
    assert.deepEqual(table.get('a'), { n: 1 });
    await table.put('a', { n: 2 });
  });

  it('finds all again, with ids that hold slashes', async () => {
    const store = await openMemoryStore();
    const table = await openTable(store);
    table.set('m-1/orders', { n: 1 });
    table.set('m-1/orders', { n: 2 });
    table.set('m-1/gone', { n: 3 });
    table.set('m-1/gone', undefined);
    assert.deepEqual(table.get('m-1/orders'), { n: 2 });
    await table.flushed();
    const again = await openTable(store);
    assert.deepEqual([again.ids(), again.get('m-1/orders')], [['m-1/orders'], { n: 2 }]);
  });

  it('writes what was set together together', async () => {
    const store = await openMemoryStore();
    const table = await openTable(store);
    for (let n = 0; n < 400; n += 1) table.set(`id-${n}`, { n });
    await table.flushed();
    assert.equal(store.revision, 1);
  });
});

async function take<T>(watch: AsyncGenerator<Watched<T>>, count: number): Promise<Watched<T>[]> {
  const steps: Watched<T>[] = [];
  for (let index = 0; index < count; index += 1) {
    const step = await watch.next();
    if (step.done) break;
    steps.push(step.value);
  }
  return steps;
}

describe('watch', () => {
  const values = new Map<string, number>();
  const changes = new Changes(clock);
  const source = { changes, ids: () => values.keys(), get: (id: string) => values.get(id) };
  const change = (id: string, value: number | undefined): void => {
    if (value === undefined) values.delete(id);
    else values.set(id, value);
    changes.emit(id);
  };

  it('tells all, then each change once however often it changed, then what is gone, and leaves no listener', async () => {
    values.clear();
    values.set('a', 1);
    const controller = new AbortController();
    const watch = watchValues(source, { signal: controller.signal, batch: 10 });
    assert.deepEqual(await take(watch, 1), [{ snapshot: true, values: [1], removed: [] }]);
    change('a', 2);
    change('a', 3);
    change('b', 1);
    change('c', 1);
    change('c', undefined);
    assert.deepEqual(await take(watch, 1), [{ snapshot: false, values: [3, 1], removed: [] }]);
    change('a', undefined);
    assert.deepEqual(await take(watch, 1), [{ snapshot: false, values: [], removed: ['a'] }]);
    const idle = watch.next();
    await clock.advance(15_000);
    assert.deepEqual((await idle).value, { snapshot: false, values: [], removed: [] });
    const last = watch.next();
    controller.abort();
    assert.equal((await last).done, true);
    assert.deepEqual([changes.listeners, clock.pending], [0, 0]);
  });

  it('leaves no listener when it is left or aborted before its first step', async () => {
    const controller = new AbortController();
    await changes.watch(controller.signal).return?.();
    changes.watch(controller.signal);
    assert.equal(changes.listeners, 1);
    controller.abort();
    assert.equal(changes.listeners, 0);
  });

  it('gives an empty snapshot where there is nothing, and a long one in pieces with a bookmark behind', async () => {
    values.clear();
    const controller = new AbortController();
    const options = { signal: controller.signal, batch: 2 };
    assert.deepEqual(await take(watchValues(source, options), 1), [{ snapshot: true, values: [], removed: [] }]);
    for (const id of ['a', 'b', 'c']) values.set(id, 1);
    const steps = await take(watchValues(source, options), 3);
    assert.deepEqual(steps, [
      { snapshot: true, values: [1, 1], removed: [] },
      { snapshot: false, values: [1], removed: [] },
      { snapshot: false, values: [], removed: [] },
    ]);
    controller.abort();
  });

  it('misses nothing that changes while it is between two steps', async () => {
    values.clear();
    const controller = new AbortController();
    const watch = watchValues(source, { signal: controller.signal, batch: 10 });
    await watch.next();
    for (let n = 1; n <= 5; n += 1) {
      change(`id-${n}`, n);
      const [step] = await take(watch, 1);
      assert.deepEqual(step?.values, [n]);
    }
    controller.abort();
    await watch.return(undefined);
    assert.equal(changes.listeners <= 2, true);
  });
});

describe('pages', () => {
  it('give every item once in order, whatever the size', () => {
    const names = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 5 }), { maxLength: 30 });
    fc.assert(
      fc.property(names, fc.integer({ min: 1, max: 7 }), fc.boolean(), (items, size, reverse) => {
        const seen: string[] = [];
        let token = '';
        do {
          const page = pageOf(items, { size, token }, { keyOf: (item) => item, reverse });
          seen.push(...page.items);
          token = page.nextToken;
        } while (token !== '');
        const expected = [...items].sort((a, b) => (a < b ? -1 : 1));
        assert.deepEqual(seen, reverse ? expected.reverse() : expected);
      }),
    );
  });

  it('are not shifted by what comes and goes', () => {
    const first = pageOf(['a', 'c', 'e'], { size: 2, token: '' }, { keyOf: (item) => item });
    const second = pageOf(['0', 'b', 'e', 'f'], { size: 2, token: first.nextToken }, { keyOf: (item) => item });
    assert.deepEqual(
      [first.items, second.items],
      [
        ['a', 'c'],
        ['e', 'f'],
      ],
    );
  });

  it('end early rather than outgrow a message, but never stand still', () => {
    const heavy = { keyOf: (item: string) => item, weightOf: () => PAGE_BYTES_MAX };
    const page = pageOf(['a', 'b'], { size: 10, token: '' }, heavy);
    assert.deepEqual(page.items, ['a']);
    assert.notEqual(page.nextToken, '');
  });

  it('refuse sizes and tokens that cannot be', () => {
    assert.throws(() => pageOf([], { size: -1, token: '' }, { keyOf: String }), MusterError);
    assert.throws(() => pageOf([], { size: 0, token: 'bogus' }, { keyOf: String }), { reason: 'PAGE_TOKEN' });
  });
});
