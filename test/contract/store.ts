import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { isCode, type Code } from '../../src/kit/errors.js';
import {
  BATCH_MUTATIONS_MAX,
  KEY_BYTES_MAX,
  VALUE_BYTES_MAX,
  WATCH_BACKLOG_CHANGES_MAX,
  type Change,
  type Entry,
  type KeyRange,
  type Mutation,
  type Store,
} from '../../src/store/port.js';
import type { Driver, Place } from './store-driver.js';
import { compareWithModel } from './store-model.js';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const read = (entry: { value: Uint8Array | undefined } | undefined): string | undefined =>
  entry?.value && new TextDecoder().decode(entry.value);
const put = (key: string, value: string, expect?: number): Mutation => ({
  kind: 'put',
  key,
  value: text(value),
  ...(expect === undefined ? {} : { expect }),
});
const del = (key: string, expect?: number): Mutation => ({
  kind: 'delete',
  key,
  ...(expect === undefined ? {} : { expect }),
});

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function keys(store: Store, range?: KeyRange): Promise<string[]> {
  return (await collect(store.range(range))).map(({ key }) => key);
}

/** The next `count` changes. */
async function take(changes: AsyncIterator<Change>, count: number): Promise<Change[]> {
  const taken: Change[] = [];
  while (taken.length < count) {
    const step = await changes.next();
    if (step.done) throw new Error(`the watch ended after ${taken.length} of ${count} changes`);
    taken.push(step.value);
  }
  return taken;
}

const codeIs =
  (...codes: Code[]) =>
  (error: unknown): boolean => {
    assert.ok(isCode(error, ...codes), `expected ${codes.join(' or ')}, got ${String(error)}`);
    return true;
  };

function rejects(work: Promise<unknown>, ...codes: Code[]): Promise<void> {
  return assert.rejects(work, codeIs(...codes));
}

/** Every call of a store that is not open. */
async function refusesEverything(store: Store): Promise<void> {
  await rejects(store.get('a'), 'unavailable');
  await rejects(store.write([put('a', '1')]), 'unavailable');
  await rejects(store.write([]), 'unavailable');
  await rejects(collect(store.range()), 'unavailable');
  await rejects(collect(store.watch('', new AbortController().signal)), 'unavailable');
}

/** The contract of src/store/port.ts, run on a driver in every state of its lifecycle. */
export function storeContract(driver: Driver): void {
  describe(`store contract: ${driver.name}`, () => {
    const places: Place[] = [];
    const newPlace = async (): Promise<Place> => {
      const place = await driver.place();
      places.push(place);
      return place;
    };
    const fresh = async (): Promise<Store> => (await newPlace()).open();
    after(async () => {
      for (const place of places) await place.remove();
    });

    describe('open', () => {
      it('starts empty at revision 0', async () => {
        const store = await fresh();
        assert.equal(store.revision, 0);
        assert.equal(await store.get('a'), undefined);
        assert.deepEqual(await keys(store), []);
      });

      it('gives back what was written, with its revision', async () => {
        const store = await fresh();
        assert.equal(await store.write([put('a', '1'), put('b', '')]), 1);
        assert.equal(await store.write([put('a', '2')]), 2);
        assert.deepEqual(await store.get('a'), { key: 'a', value: text('2'), revision: 2 });
        assert.deepEqual(await store.get('b'), { key: 'b', value: new Uint8Array(), revision: 1 });
        assert.equal(store.revision, 2);
      });

      it('deletes, also what is not there', async () => {
        const store = await fresh();
        await store.write([put('a', '1')]);
        assert.equal(await store.write([del('a'), del('b')]), 2);
        assert.equal(await store.get('a'), undefined);
        assert.deepEqual(await keys(store), []);
      });

      it('resolves an empty batch with the current revision', async () => {
        const store = await fresh();
        const [, empty] = await Promise.all([store.write([put('a', '1')]), store.write([])]);
        assert.equal(empty, 1);
        assert.equal(store.revision, 1);
      });

      it('copies values on the way in and out', async () => {
        const store = await fresh();
        const controller = new AbortController();
        const first = store.watch('', controller.signal)[Symbol.asyncIterator]();
        const second = store.watch('', controller.signal)[Symbol.asyncIterator]();
        const value = text('mine');
        const written = store.write([{ kind: 'put', key: 'a', value }]);
        value.fill(0);
        await written;
        for (const source of [
          await store.get('a'),
          (await collect(store.range()))[0],
          (await take(first, 1))[0],
          (await take(second, 1))[0],
        ]) {
          assert.equal(read(source), 'mine');
          source?.value?.fill(0);
        }
        assert.equal(read(await store.get('a')), 'mine');
        controller.abort();
      });

      it('makes batches visible in the order asked for', async () => {
        const store = await fresh();
        const revisions = await Promise.all(
          Array.from({ length: 200 }, (_, index) => store.write([put('a', String(index))])),
        );
        assert.deepEqual(
          revisions,
          Array.from({ length: 200 }, (_, index) => index + 1),
        );
        assert.equal(read(await store.get('a')), '199');
      });
    });

    describe('compare-and-set', () => {
      it('holds at the exact revision only', async () => {
        const store = await fresh();
        await store.write([put('a', '1', 0)]);
        await rejects(store.write([put('a', '2', 0)]), 'conflict');
        await rejects(store.write([put('a', '2', 7)]), 'conflict');
        await rejects(store.write([del('b', 1)]), 'conflict');
        assert.equal(await store.write([put('a', '2', 1)]), 2);
        assert.equal(await store.write([del('a', 2)]), 3);
        assert.equal(await store.write([put('a', '3', 0)]), 4);
      });

      it('writes nothing of a batch when one expectation fails', async () => {
        const store = await fresh();
        await store.write([put('a', '1')]);
        await rejects(store.write([put('b', '1'), put('a', '2', 9), del('a')]), 'invalid', 'conflict');
        await rejects(store.write([put('b', '1'), put('a', '2', 9)]), 'conflict');
        assert.deepEqual(await keys(store), ['a']);
        assert.equal(store.revision, 1);
      });

      it('lets exactly one of many racing writers win, each round', async () => {
        const store = await fresh();
        for (let round = 0; round < 5; round += 1) {
          const expect = (await store.get('a'))?.revision ?? 0;
          const results = await Promise.allSettled(
            Array.from({ length: 20 }, (_, n) => store.write([put('a', String(n), expect)])),
          );
          assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
          assert.equal(read(await store.get('a')), '0');
        }
      });

      it('sees the batches before it in the same group, also their deletes', async () => {
        const store = await fresh();
        const results = await Promise.allSettled([
          store.write([put('a', '1', 0)]),
          store.write([put('a', '2', 1)]),
          store.write([del('a', 2)]),
          store.write([put('a', '3', 2)]),
          store.write([put('a', '4', 0)]),
        ]);
        assert.deepEqual(
          results.map((result) => (result.status === 'fulfilled' ? result.value : 'refused')),
          [1, 2, 3, 'refused', 4],
        );
        assert.equal(read(await store.get('a')), '4');
      });
    });

    describe('ranges', () => {
      const BYTE_ORDER = ['A', 'a', 'a/', 'a/1', 'a/2', 'a0', 'b', 'é', '\uffee', '\u{10000}', '\u{1f600}'];
      const filled = async (): Promise<Store> => {
        const store = await fresh();
        for (const key of [...BYTE_ORDER].reverse()) await store.write([put(key, key)]);
        return store;
      };

      it('come in the order of the keys’ bytes, both ways', async () => {
        const store = await filled();
        assert.deepEqual(await keys(store), BYTE_ORDER);
        assert.deepEqual(await keys(store, { reverse: true }), [...BYTE_ORDER].reverse());
      });

      it('hold every bound given', async () => {
        const store = await filled();
        const cases: [KeyRange, string[]][] = [
          [{ prefix: 'a/' }, ['a/', 'a/1', 'a/2']],
          [{ prefix: 'a/', after: 'a/' }, ['a/1', 'a/2']],
          [{ prefix: 'a', before: 'a0' }, ['a', 'a/', 'a/1', 'a/2']],
          [{ after: 'a/1', before: 'b' }, ['a/2', 'a0']],
          [{ after: 'a/1', before: 'b', reverse: true }, ['a0', 'a/2']],
          [{ after: 'a/0', limit: 1 }, ['a/1']],
          [{ before: 'b', reverse: true, limit: 2 }, ['a0', 'a/2']],
          [{ after: 'b', before: 'a' }, []],
          [{ prefix: 'a/', after: 'b' }, []],
          [{ after: '\uffee' }, ['\u{10000}', '\u{1f600}']],
          [{ prefix: 'nothing' }, []],
          [{ limit: 0 }, []],
          [{ prefix: '\u{1f600}' }, ['\u{1f600}']],
        ];
        for (const [range, expected] of cases)
          assert.deepEqual(await keys(store, range), expected, JSON.stringify(range));
      });

      it('are a snapshot: writes during the iteration are not in it', async () => {
        const store = await fresh();
        const all = Array.from({ length: 3000 }, (_, index) => String(index).padStart(5, '0'));
        await store.write(all.map((key) => put(key, 'old')));
        const seen: Entry[] = [];
        for await (const entry of store.range()) {
          if (seen.length === 0) await store.write([put('00001', 'new'), del('02999'), put('99999', 'new')]);
          seen.push(entry);
        }
        assert.equal(seen.length, 3000);
        assert.ok(seen.every((entry) => read(entry) === 'old' && entry.revision === 1));
        assert.equal((await keys(store)).length, 3000);
      });

      it('may be left early, many times', async () => {
        const store = await filled();
        for (let round = 0; round < 50; round += 1) {
          for await (const { key } of store.range()) {
            assert.equal(key, 'A');
            break;
          }
        }
        await store.close();
      });

      it('page through with `after` and `limit`', async () => {
        const store = await filled();
        const paged: string[] = [];
        for (;;) {
          const cursor = paged.at(-1);
          const page = await keys(store, { limit: 3, ...(cursor === undefined ? {} : { after: cursor }) });
          if (page.length === 0) break;
          paged.push(...page);
        }
        assert.deepEqual(paged, BYTE_ORDER);
      });
    });

    describe('limits', () => {
      it('refuse bad keys, values, batches and bounds, and write nothing', async () => {
        const store = await fresh();
        const big = new Uint8Array(VALUE_BYTES_MAX + 1);
        const quarter = new Uint8Array(VALUE_BYTES_MAX);
        const many = Array.from({ length: BATCH_MUTATIONS_MAX + 1 }, (_, index) => del(String(index)));
        await rejects(store.get(''), 'invalid');
        await rejects(store.get('\ud83d'), 'invalid');
        await rejects(store.write([put('', '')]), 'invalid');
        await rejects(store.write([put('k'.repeat(KEY_BYTES_MAX + 1), '')]), 'invalid');
        await rejects(store.write([put('é'.repeat(KEY_BYTES_MAX / 2) + 'x', '')]), 'invalid');
        await rejects(store.write([put('\udc00', '')]), 'invalid');
        await rejects(store.write([{ kind: 'put', key: 'a', value: big }]), 'invalid');
        await rejects(
          store.write(['a', 'b', 'c', 'd'].map((key) => ({ kind: 'put', key, value: quarter }))),
          'invalid',
        );
        await rejects(store.write(many), 'invalid');
        await rejects(store.write([put('a', '1'), del('a')]), 'invalid');
        await rejects(store.write([put('a', '1', -1)]), 'invalid');
        await rejects(store.write([put('a', '1', 1.5)]), 'invalid');
        await rejects(collect(store.range({ limit: -1 })), 'invalid');
        await rejects(collect(store.range({ limit: 0.5 })), 'invalid');
        await rejects(collect(store.range({ prefix: '\ud83d' })), 'invalid');
        await rejects(collect(store.watch('\ud83d', new AbortController().signal)), 'invalid');
        assert.equal(store.revision, 0);
        assert.deepEqual(await keys(store), []);
      });

      it('take what is exactly at the bound', async () => {
        const store = await fresh();
        const key = 'k'.repeat(KEY_BYTES_MAX);
        await store.write([{ kind: 'put', key, value: new Uint8Array(VALUE_BYTES_MAX).fill(7) }]);
        const entry = await store.get(key);
        assert.equal(entry?.value.length, VALUE_BYTES_MAX);
        assert.ok(entry.value.every((byte) => byte === 7));
        assert.equal((await keys(store)).length, 1);
      });

      it('refuse when too much waits to be written, and go on afterwards', async () => {
        const store = await fresh();
        const value = new Uint8Array(VALUE_BYTES_MAX);
        const results = await Promise.allSettled(
          Array.from({ length: 12 }, (_, n) => store.write([{ kind: 'put', key: `k${n}`, value }])),
        );
        const refused = results.filter((result) => result.status === 'rejected');
        assert.ok(refused.length > 0 && refused.length < 12, `${refused.length} of 12 were refused`);
        for (const { reason } of refused) codeIs('exhausted')(reason);
        await store.write([put('after', '1')]);
        assert.equal((await keys(store)).length, 12 - refused.length + 1);
      });
    });

    describe('watches', () => {
      it('give the changes below the prefix committed after the call, in order', async () => {
        const store = await fresh();
        await store.write([put('a/0', 'before')]);
        const controller = new AbortController();
        const changes = store.watch('a/', controller.signal)[Symbol.asyncIterator]();
        await store.write([put('a/1', 'x'), put('b/1', 'not mine'), del('a/none')]);
        await store.write([del('a/0'), put('a/1', 'y')]);
        assert.deepEqual(
          (await take(changes, 3)).map((change) => [change.revision, change.key, read(change)]),
          [
            [2, 'a/1', 'x'],
            [3, 'a/0', undefined],
            [3, 'a/1', 'y'],
          ],
        );
        controller.abort();
        assert.equal((await changes.next()).done, true);
      });

      it('show every batch of a group, not only the last state', async () => {
        const store = await fresh();
        const controller = new AbortController();
        const changes = store.watch('', controller.signal)[Symbol.asyncIterator]();
        await Promise.allSettled([
          store.write([put('a', '1')]),
          store.write([put('a', '2', 0)]),
          store.write([put('a', '3')]),
          store.write([del('a')]),
        ]);
        assert.deepEqual(
          (await take(changes, 3)).map((change) => [change.revision, read(change)]),
          [
            [1, '1'],
            [2, '3'],
            [3, undefined],
          ],
        );
        controller.abort();
      });

      it('end when the signal aborts, also one that has already', async () => {
        const store = await fresh();
        const controller = new AbortController();
        const waiting = collect(store.watch('', controller.signal));
        const queued = store.watch('', controller.signal);
        await store.write([put('a', '1')]);
        controller.abort();
        assert.ok((await waiting).length <= 1);
        assert.deepEqual(await collect(queued), []);
        assert.deepEqual(await collect(store.watch('', controller.signal)), []);
      });

      it('end when the store closes, after what is queued', async () => {
        const store = await fresh();
        const changes = store.watch('', new AbortController().signal);
        const idle = collect(store.watch('other', new AbortController().signal));
        await store.write([put('a', '1')]);
        await store.close();
        assert.equal((await collect(changes)).length, 1);
        assert.deepEqual(await idle, []);
      });

      it('cut off a watcher that is too far behind, and no other', async () => {
        const store = await fresh();
        const controller = new AbortController();
        const slow = store.watch('', controller.signal);
        const fast = store.watch('other/', controller.signal)[Symbol.asyncIterator]();
        const half = WATCH_BACKLOG_CHANGES_MAX / 2;
        for (let batch = 0; batch < 3; batch += 1) {
          await store.write(Array.from({ length: half }, (_, index) => put(`k${batch}-${index}`, '')));
        }
        await store.write([put('other/1', 'x')]);
        let seen = 0;
        await assert.rejects(async () => {
          for await (const change of slow) {
            assert.ok(change.key.startsWith('k'));
            seen += 1;
          }
        }, codeIs('exhausted'));
        assert.equal(seen, WATCH_BACKLOG_CHANGES_MAX);
        assert.equal((await take(fast, 1))[0]?.key, 'other/1');
        controller.abort();
      });

      it('cut off a watcher by bytes, too', async () => {
        const store = await fresh();
        const controller = new AbortController();
        const slow = store.watch('', controller.signal);
        const value = new Uint8Array(VALUE_BYTES_MAX);
        for (let index = 0; index < 5; index += 1) await store.write([{ kind: 'put', key: 'a', value }]);
        await rejects(collect(slow), 'exhausted');
        controller.abort();
      });

      it('with a list miss nothing', async () => {
        const store = await fresh();
        const writing = (async () => {
          for (let n = 0; n < 100; n += 1) await store.write([put(`k${n % 10}`, String(n))]);
        })();
        await store.write([put('start', '')]);
        const controller = new AbortController();
        const changes = store.watch('k', controller.signal)[Symbol.asyncIterator]();
        const state = new Map((await collect(store.range({ prefix: 'k' }))).map((entry) => [entry.key, entry]));
        await writing;
        await store.write([put('kend', '')]);
        for (;;) {
          const change = (await take(changes, 1))[0];
          assert.ok(change);
          if (change.key === 'kend') break;
          if (change.revision > (state.get(change.key)?.revision ?? 0) && change.value)
            state.set(change.key, { ...change, value: change.value });
        }
        for (let n = 0; n < 10; n += 1) assert.equal(read(state.get(`k${n}`)), String(90 + n));
        controller.abort();
      });
    });

    describe('closing and closed', () => {
      it('finishes writes under way and refuses new ones', async () => {
        const place = await newPlace();
        const store = await place.open();
        const writes = Array.from({ length: 500 }, (_, index) => store.write([put(`k${index}`, String(index))]));
        const closing = store.close();
        await refusesEverything(store);
        assert.deepEqual(
          await Promise.all(writes),
          Array.from({ length: 500 }, (_, index) => index + 1),
        );
        await closing;
        await refusesEverything(store);
        if (driver.durable) {
          const again = await place.open();
          assert.equal((await keys(again)).length, 500);
        }
      });

      it('may be closed twice, also at once', async () => {
        const store = await fresh();
        await Promise.all([store.close(), store.close()]);
        await store.close();
        await refusesEverything(store);
      });

      it('rejects a range that was under way', async () => {
        const store = await fresh();
        await store.write(Array.from({ length: 5000 }, (_, index) => put(`k${index}`, 'x'.repeat(100))));
        const entries = store.range()[Symbol.asyncIterator]();
        await entries.next();
        await store.close();
        await rejects(
          (async () => {
            while (!(await entries.next()).done);
          })(),
          'unavailable',
        );
      });
    });

    if (driver.durable) {
      describe('reopened', () => {
        it('has every value, revision and delete, and goes on counting', async () => {
          const place = await newPlace();
          const first = await place.open();
          await first.write([put('a', '1'), put('b', '1')]);
          await first.write([del('a')]);
          await first.write([put('c', '3')]);
          await first.close();
          const store = await place.open();
          assert.equal(store.revision, 3);
          assert.deepEqual(await store.get('b'), { key: 'b', value: text('1'), revision: 1 });
          assert.deepEqual(await keys(store), ['b', 'c']);
          await rejects(store.write([put('b', '2', 2)]), 'conflict');
          assert.equal(await store.write([put('b', '2', 1)]), 4);
        });

        it('is the same after many opens', async () => {
          const place = await newPlace();
          for (let round = 0; round < 6; round += 1) {
            const store = await place.open();
            assert.equal(store.revision, round * 2);
            await store.write([put(`k${round}`, 'x')]);
            await store.write([put('shared', String(round))]);
            assert.equal((await keys(store)).length, round + 2);
            await store.close();
          }
        });
      });
    }

    if (driver.durable) {
      describe('opening', () => {
        it('lets one of two win', async () => {
          const place = await newPlace();
          const results = await Promise.allSettled([place.open(), place.open()]);
          const lost = results.filter((result) => result.status === 'rejected');
          assert.equal(lost.length, 1);
          codeIs('precondition')(lost[0]?.reason);
        });
      });
    }

    describe('failed', () => {
      it('refuses everything from the failed write on, and says so', async (t) => {
        const place = await newPlace();
        if (!place.breakWrites) {
          t.skip('this driver cannot fail');
          return;
        }
        const store = await place.open();
        await store.write([put('a', '1')]);
        const watching = collect(store.watch('', new AbortController().signal));
        place.breakWrites();
        const results = await Promise.allSettled([store.write([put('a', '2')]), store.write([put('b', '2')])]);
        for (const result of results) {
          assert.equal(result.status, 'rejected');
          codeIs('unavailable')(result.reason);
        }
        await rejects(watching, 'unavailable');
        codeIs('unavailable')(await store.failed);
        await refusesEverything(store);
        await store.close();
        await refusesEverything(store);
        const again = await place.open();
        assert.equal(read(await again.get('a')), '1');
        assert.equal(await again.write([put('a', '3', 1)]), again.revision);
      });
    });

    describe('against a model', () => {
      it('behaves as the simplest possible store', async () => {
        await compareWithModel(driver, driver.durable ? 150 : 400);
      });
    });
  });
}
