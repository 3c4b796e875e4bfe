import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '../../../src/kit/clock.js';
import { isCode } from '../../../src/kit/errors.js';
import { Directory, failing, put, recordingLogger } from './support.js';

const FLOOR = 1_000_000;

describe('the free-space floor', () => {
  it('refuses puts below it, deletes below half of it, and recovers by itself', async (t) => {
    const directory = await Directory.make(t);
    const logger = recordingLogger();
    let free = 2 * FLOOR;
    const store = await directory.open({ freeSpaceFloorBytes: FLOOR, freeBytes: () => Promise.resolve(free), logger });
    await store.write([put('a', '1'), put('b', '1')]);
    free = FLOOR - 1;
    await assert.rejects(store.write([put('a', '2')]), failing('exhausted', /1000 KB|1\.0 MB/));
    await assert.rejects(
      store.write([put('a', '2'), { kind: 'delete', key: 'b' }]),
      failing('exhausted', /free some space/),
    );
    await store.write([{ kind: 'delete', key: 'b' }]);
    free = FLOOR / 2;
    await assert.rejects(store.write([{ kind: 'delete', key: 'a' }]), failing('exhausted'));
    assert.ok(await store.get('a'));
    assert.equal(await store.write([]), 2);
    assert.match((await store.problem?.()) ?? '', /the disk of .* free some space/);
    free = 2 * FLOOR;
    assert.equal(await store.problem?.(), '');
    assert.equal(await store.write([put('a', '3')]), 3);
    assert.deepEqual(logger.lines.slice(1), [
      'the disk is almost full, writes are refused',
      'there is disk space again, writes are accepted',
    ]);
  });

  it('counts all batches of a group', async (t) => {
    const directory = await Directory.make(t);
    const store = await directory.open({ freeSpaceFloorBytes: FLOOR, freeBytes: () => Promise.resolve(FLOOR + 2500) });
    const results = await Promise.allSettled(
      Array.from({ length: 5 }, (_, n) => store.write([put(`k${n}`, 'x'.repeat(1000))])),
    );
    assert.deepEqual(
      results.map((result) => (result.status === 'fulfilled' ? 'ok' : isCode(result.reason) && result.reason.code)),
      ['ok', 'ok', 'exhausted', 'exhausted', 'exhausted'],
    );
  });

  it('is not a failure of the store, and neither is a disk that cannot be asked', async (t) => {
    const directory = await Directory.make(t);
    let failure: Error | undefined = Object.assign(new Error('stale handle'), { code: 'ESTALE' });
    const store = await directory.open({
      freeBytes: () => (failure ? Promise.reject(failure) : Promise.resolve(2 ** 40)),
    });
    await assert.rejects(store.write([put('a', '1')]), failing('unavailable', /stale handle/));
    failure = undefined;
    assert.equal(await store.write([put('a', '1')]), 1);
  });

  it('is asked for at every write near the floor, and now and then with plenty free', async (t) => {
    const directory = await Directory.make(t);
    const clock = new ManualClock();
    let free = 5 * FLOOR;
    let asked = 0;
    const freeBytes = (): Promise<number> => {
      asked += 1;
      return Promise.resolve(free);
    };
    const store = await directory.open({ freeSpaceFloorBytes: FLOOR, freeBytes, clock });
    for (let n = 0; n < 5; n += 1) await store.write([put('a', '1')]);
    assert.equal(asked, 1);
    free = 3 * FLOOR;
    await clock.advance(101);
    for (let n = 0; n < 5; n += 1) await store.write([put('a', '1')]);
    assert.equal(asked, 6);
  });

  it('can be turned off', async (t) => {
    const directory = await Directory.make(t);
    const store = await directory.open({ freeSpaceFloorBytes: 0, freeBytes: () => Promise.resolve(0) });
    assert.equal(await store.write([put('a', '1')]), 1);
  });
});
