import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BoundedQueue } from '../../../src/kit/queue.js';

async function drain<T>(queue: BoundedQueue<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of queue) items.push(item);
  return items;
}

describe('BoundedQueue', () => {
  it('gives what was pushed, in order, and ends after close', async () => {
    const queue = new BoundedQueue<number>(3, 'refuse');
    assert.deepEqual([queue.push(1), queue.push(2)], [true, true]);
    assert.equal(queue.size, 2);
    queue.close();
    assert.equal(queue.push(3), false);
    assert.deepEqual(await drain(queue), [1, 2]);
    assert.equal(queue.size, 0);
  });

  it('refuses at the bound, and takes again after one is taken', async () => {
    const queue = new BoundedQueue<number>(2, 'refuse');
    assert.deepEqual([queue.push(1), queue.push(2), queue.push(3)], [true, true, false]);
    const iterator = queue[Symbol.asyncIterator]();
    assert.deepEqual(await iterator.next(), { done: false, value: 1 });
    assert.equal(queue.push(4), true);
    assert.equal(queue.dropped, 0);
    queue.close();
    assert.deepEqual(await drain(queue), [2, 4]);
  });

  it('drops the oldest at the bound and counts it', async () => {
    const queue = new BoundedQueue<number>(2, 'drop_oldest');
    for (const item of [1, 2, 3, 4]) assert.equal(queue.push(item), true);
    assert.equal(queue.dropped, 2);
    queue.close();
    assert.deepEqual(await drain(queue), [3, 4]);
  });

  it('wakes a waiting consumer by push and by close', async () => {
    const queue = new BoundedQueue<string>(1, 'refuse');
    const iterator = queue[Symbol.asyncIterator]();
    const first = iterator.next();
    await Promise.resolve();
    queue.push('a');
    assert.deepEqual(await first, { done: false, value: 'a' });
    const last = iterator.next();
    await Promise.resolve();
    queue.close();
    assert.deepEqual(await last, { done: true, value: undefined });
  });

  it('throws the error it was closed with, after what was queued; only the first close counts', async () => {
    const queue = new BoundedQueue<number>(1, 'refuse');
    queue.push(1);
    queue.close(new Error('link lost'));
    queue.close(new Error('second'));
    const iterator = queue[Symbol.asyncIterator]();
    assert.deepEqual(await iterator.next(), { done: false, value: 1 });
    await assert.rejects(iterator.next(), /link lost/);
  });

  it('wants a positive whole capacity', () => {
    for (const capacity of [0, -1, 1.5, NaN]) {
      assert.throws(() => new BoundedQueue(capacity, 'refuse'), { code: 'internal' });
    }
  });

  it('never holds more than its bound and never loses or repeats what it took', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.constantFrom('push', 'take'), { maxLength: 60 }),
        async (capacity, steps) => {
          const queue = new BoundedQueue<number>(capacity, 'refuse');
          const iterator = queue[Symbol.asyncIterator]();
          const model: number[] = [];
          let next = 0;
          for (const step of steps) {
            if (step === 'push') {
              const taken = queue.push(next);
              assert.equal(taken, model.length < capacity);
              if (taken) model.push(next);
              next += 1;
            } else if (model.length > 0) {
              assert.equal((await iterator.next()).value, model.shift());
            }
            assert.equal(queue.size, model.length);
          }
        },
      ),
    );
  });
});
