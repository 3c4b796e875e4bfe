import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ManualClock, sleep } from '../../../src/kit/clock.js';
import { aborted, KeyedMutex, mapBounded, runTasks, stopped } from '../../../src/kit/tasks.js';

const forever = new AbortController().signal;

describe('runTasks', () => {
  it('ends when all tasks have ended by themselves', async () => {
    const clock = new ManualClock();
    let ended = false;
    const running = runTasks(forever, [(s) => sleep(clock, 10, s), (s) => sleep(clock, 20, s)]).then(() => {
      ended = true;
    });
    await clock.advance(10);
    assert.equal(ended, false);
    await clock.advance(10);
    await running;
    assert.equal(ended, true);
  });

  it('ends at once without tasks', async () => {
    await runTasks(forever, []);
  });

  it('stops the others on the first failure, waits for them, and throws that failure', async () => {
    const log: string[] = [];
    const running = runTasks(forever, [
      async (signal) => {
        await aborted(signal);
        await Promise.resolve();
        log.push('drained');
        throw new Error('later, on the way out');
      },
      async () => {
        await Promise.resolve();
        log.push('failing');
        throw new Error('first');
      },
    ]);
    await assert.rejects(running, /first/);
    assert.deepEqual(log, ['failing', 'drained']);
  });

  it('takes a task that throws before it returns a promise as failed', async () => {
    const broken = (): Promise<void> => {
      throw new Error('at once');
    };
    await assert.rejects(runTasks(forever, [broken, aborted]), /at once/);
  });

  it('throws even a failure of undefined', async () => {
    const thrown = await runTasks(forever, [() => Promise.reject(undefined as unknown)]).then(
      () => 'resolved',
      (error: unknown) => error,
    );
    assert.equal(thrown, undefined);
  });

  it('ends without failure when the parent aborts, with the reason at hand', async () => {
    const parent = new AbortController();
    const reasons: unknown[] = [];
    const running = runTasks(parent.signal, [
      async (signal) => {
        await aborted(signal);
        reasons.push(signal.reason);
        signal.throwIfAborted();
      },
      aborted,
    ]);
    const reason = stopped('the agent');
    parent.abort(reason);
    await running;
    assert.deepEqual(reasons, [reason]);
  });

  it('hands an aborted signal to tasks of an aborted parent', async () => {
    await runTasks(AbortSignal.abort(stopped('the center')), [aborted]);
  });
});

describe('stopped', () => {
  it('says what is stopping', () => {
    const error = stopped('the queue');
    assert.equal(error.code, 'cancelled');
    assert.equal(error.message, 'the queue is stopping');
  });
});

describe('mapBounded', () => {
  it('keeps the order of the items and never runs more than the limit', async () => {
    const clock = new ManualClock();
    const running = { now: 0, most: 0 };
    const all = mapBounded([30, 10, 20, 10], 2, async (ms) => {
      running.now += 1;
      running.most = Math.max(running.most, running.now);
      await sleep(clock, ms);
      running.now -= 1;
      return ms * 2;
    });
    await clock.advance(100);
    assert.deepEqual(await all, [60, 20, 40, 20]);
    assert.equal(running.most, 2);
    assert.deepEqual(await mapBounded([], 2, () => Promise.resolve(1)), []);
  });

  it('begins nothing new after a failure, and ends with it when the rest has ended', async () => {
    const begun: number[] = [];
    const work = (item: number): Promise<number> => {
      begun.push(item);
      return item === 1 ? Promise.reject(new Error('one is bad')) : Promise.resolve(item);
    };
    await assert.rejects(mapBounded([1, 2, 3, 4], 1, work), /one is bad/);
    assert.deepEqual(begun, [1]);
  });
});

describe('KeyedMutex', () => {
  it('runs work for one key in order, one at a time, and different keys together', async () => {
    const clock = new ManualClock();
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const work = (name: string) => async (): Promise<string> => {
      log.push(`${name}+`);
      await sleep(clock, 10);
      log.push(`${name}-`);
      return name;
    };
    const all = Promise.all([mutex.run('a', work('a1')), mutex.run('a', work('a2')), mutex.run('b', work('b1'))]);
    await clock.advance(10);
    assert.deepEqual(log, ['a1+', 'b1+', 'a1-', 'a2+', 'b1-']);
    assert.deepEqual([mutex.busy('a'), mutex.busy('b'), mutex.busy('c')], [true, false, false]);
    await clock.advance(10);
    assert.deepEqual(await all, ['a1', 'a2', 'b1']);
    assert.equal(mutex.busy('a'), false);
  });

  it('goes on after a failure, which reaches only its own caller', async () => {
    const mutex = new KeyedMutex();
    const failing = mutex.run('a', () => Promise.reject(new Error('broken')));
    const next = mutex.run('a', () => Promise.resolve('fine'));
    await assert.rejects(failing, /broken/);
    assert.equal(await next, 'fine');
    assert.equal(mutex.busy('a'), false);
  });

  it('never runs two for a key at once, whatever the order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.nat(4))), async (jobs) => {
        const mutex = new KeyedMutex();
        const running = new Set<string>();
        const started: Record<string, number[]> = { a: [], b: [], c: [] };
        await Promise.all(
          jobs.map(([key, turns], index) =>
            mutex.run(key, async () => {
              assert.equal(running.has(key), false);
              running.add(key);
              started[key]?.push(index);
              for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
              running.delete(key);
            }),
          ),
        );
        for (const order of Object.values(started))
          assert.deepEqual(
            order,
            order.toSorted((x, y) => x - y),
          );
      }),
    );
  });
});
