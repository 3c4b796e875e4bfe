import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigState, LISTENER_TIMEOUT_MS, withDefaults } from '../../../src/client/config-state.js';
import { hashValues } from '../../../src/config/canonical.js';
import type { ConfigValues } from '../../../src/config/values.js';
import type { ConfigSnapshot } from '../../../src/config/wire.js';
import { ManualClock } from '../../../src/kit/clock.js';

function snapshot(revision: number, values: ConfigValues): ConfigSnapshot {
  return { revision, hash: hashValues(values), values, provenance: {} };
}

function start() {
  const clock = new ManualClock();
  const reports: [number, string][] = [];
  const state = new ConfigState(clock, (revision, error) => reports.push([revision, error]));
  return { clock, reports, state };
}

describe('the configuration of a program', () => {
  it('is taken without listeners, reported, and frozen', async () => {
    const { state, reports } = start();
    state.offer(snapshot(1, { a: { b: [1] } }));
    await state.idle();
    assert.equal(state.current.revision, 1);
    assert.deepEqual(reports, [[1, '']]);
    assert.throws(() => {
      (state.current.values['a'] as Record<string, unknown>)['b'] = 2;
    }, TypeError);
  });

  it('stays the last good one when a listener throws or rejects', async () => {
    const { state, reports } = start();
    state.offer(snapshot(1, { a: 1 }));
    await state.idle();
    const seen: unknown[] = [];
    state.onChange((values) => seen.push(values));
    const stop = state.onChange(() => Promise.reject(new Error('not that')));
    state.offer(snapshot(2, { a: 2 }));
    await state.idle();
    assert.deepEqual(state.current.values, { a: 1 });
    assert.equal(state.newestHash, hashValues({ a: 2 }));
    stop();
    state.offer(snapshot(3, { a: 3 }));
    await state.idle();
    assert.deepEqual(state.current.values, { a: 3 });
    assert.deepEqual(seen, [{ a: 2 }, { a: 3 }]);
    assert.deepEqual(reports, [
      [1, ''],
      [2, 'not that'],
      [3, ''],
    ]);
  });

  it('is refused by a listener that does not finish', async () => {
    const { state, reports, clock } = start();
    state.onChange(() => new Promise(() => undefined));
    state.offer(snapshot(1, { a: 1 }));
    await clock.advance(LISTENER_TIMEOUT_MS + 1);
    await state.idle();
    assert.equal(state.current.revision, 0);
    assert.match(reports[0]?.[1] ?? '', /did not finish within 30 s/);
  });

  it('is offered one revision at a time, and of those that wait only the newest', async () => {
    const { state, reports } = start();
    const seen: number[] = [];
    let go: () => void = () => undefined;
    state.onChange((_, { revision }) => {
      seen.push(revision);
      return new Promise<void>((resolve) => {
        go = resolve;
      });
    });
    for (let revision = 1; revision <= 4; revision += 1) state.offer(snapshot(revision, { revision }));
    go();
    await new Promise((resolve) => setImmediate(resolve));
    go();
    await state.idle();
    assert.deepEqual(seen.at(-1), 4);
    assert.ok(seen.length <= 2, seen.join());
    assert.equal(reports.length, seen.length);
  });

  it('does not bother listeners with a revision of the same values', async () => {
    const { state, reports } = start();
    let asked = 0;
    state.onChange(() => {
      asked += 1;
    });
    state.offer(snapshot(1, { a: 1 }));
    await state.idle();
    state.offer(snapshot(2, { a: 1 }));
    await state.idle();
    assert.equal(asked, 1);
    assert.deepEqual(reports, [
      [1, ''],
      [2, ''],
    ]);
    assert.equal(state.current.revision, 2);
  });

  it('is laid on defaults', () => {
    assert.deepEqual(withDefaults({ a: 1, b: { c: 1, d: 2 }, e: [1] }, { b: { c: 5 }, e: [] }), {
      a: 1,
      b: { c: 5, d: 2 },
      e: [],
    });
  });
});
