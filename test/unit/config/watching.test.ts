import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, it } from 'node:test';
import { BOOKMARK_INTERVAL_MS, watchSnapshots } from '../../../src/config/watching.js';
import { ManualClock } from '../../../src/kit/clock.js';

function start(hash: string) {
  const clock = new ManualClock();
  const stop = new AbortController();
  const listeners = new Set<() => void>();
  const source = { now: { hash: 'h1', revision: 1 } };
  const frames = watchSnapshots({
    clock,
    signal: stop.signal,
    hash,
    read: () => source.now,
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  });
  const change = (revision: number, to: string): void => {
    source.now = { hash: to, revision };
    for (const listener of listeners) listener();
  };
  const next = async (): Promise<unknown> => {
    const frame = await frames.next();
    return frame.done === true ? 'end' : frame.value.change;
  };
  return { clock, stop, listeners, change, next, frames };
}

describe('watching configuration', () => {
  it('begins with the snapshot, or with "unchanged" for one who has it', async () => {
    const fresh = start('');
    assert.deepEqual(await fresh.next(), { $case: 'snapshot', value: { hash: 'h1', revision: 1 } });
    const same = start('h1');
    assert.deepEqual(await same.next(), { $case: 'unchanged', value: true });
    await same.frames.return(undefined);
    assert.equal(same.listeners.size, 0);
  });

  it('goes on with each change of the values, the newest for a slow reader, and bookmarks', async () => {
    const { clock, change, next, stop, listeners } = start('');
    await next();
    change(2, 'h2');
    change(3, 'h3');
    assert.deepEqual(await next(), { $case: 'snapshot', value: { hash: 'h3', revision: 3 } });
    const idle = next();
    change(4, 'h3');
    await clock.advance(BOOKMARK_INTERVAL_MS);
    assert.deepEqual(await idle, { $case: 'bookmark', value: true });
    const end = assert.rejects(next());
    stop.abort(new Error('gone'));
    await end;
    assert.equal(listeners.size, 0);
    assert.equal(clock.pending, 0);
  });

  it('leaves nothing behind, however long it idles', async () => {
    const { clock, next, stop, frames } = start('');
    await next();
    for (let round = 0; round < 50; round += 1) {
      const idle = next();
      await clock.advance(BOOKMARK_INTERVAL_MS);
      assert.deepEqual(await idle, { $case: 'bookmark', value: true });
    }
    assert.equal(getEventListeners(stop.signal, 'abort').length, 0);
    assert.equal(clock.pending, 0);
    await frames.return(undefined);
  });
});
