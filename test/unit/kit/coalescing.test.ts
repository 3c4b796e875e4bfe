import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CoalescingQueue } from '../../../src/kit/coalescing.js';
import { MusterError } from '../../../src/kit/errors.js';

async function drain<T>(queue: CoalescingQueue<T>): Promise<T[]> {
  queue.close();
  const items: T[] = [];
  for await (const item of queue) items.push(item);
  return items;
}

test('the newest item of each key comes out, in the order the keys came in', async () => {
  const queue = new CoalescingQueue<string>(3);
  queue.put('a', 'a1');
  queue.put('b', 'b1');
  queue.put('a', 'a2');
  assert.equal(queue.size, 2);
  assert.deepEqual(await drain(queue), ['a2', 'b1']);
});

test('putLast goes behind what waits', async () => {
  const queue = new CoalescingQueue<string>(3);
  queue.put('end', 'end');
  queue.put('a', 'a1');
  queue.putLast('end', 'end');
  assert.deepEqual(await drain(queue), ['a1', 'end']);
});

test('at the bound a new key is refused and a waiting one is still replaced', () => {
  const queue = new CoalescingQueue<number>(1);
  assert.equal(queue.put('a', 1), true);
  assert.equal(queue.put('b', 1), false);
  assert.equal(queue.put('a', 2), true);
  assert.throws(() => new CoalescingQueue(0), MusterError);
});

test('an item put while the consumer works or waits is not lost', async () => {
  const queue = new CoalescingQueue<number>(8);
  const seen: number[] = [];
  const consumer = (async (): Promise<void> => {
    for await (const item of queue) {
      seen.push(item);
      if (item === 1) queue.put('a', 2);
    }
  })();
  await Promise.resolve();
  queue.put('a', 1);
  while (seen.length < 2) await new Promise((resolve) => setImmediate(resolve));
  queue.put('b', 3);
  queue.close();
  await consumer;
  assert.deepEqual(seen, [1, 2, 3]);
  assert.equal(queue.put('c', 4), false);
});

test('closing with an error gives what waits and then throws it', async () => {
  const queue = new CoalescingQueue<number>(2);
  queue.put('a', 1);
  queue.close(new MusterError('exhausted', 'too slow'));
  queue.close();
  const seen: number[] = [];
  await assert.rejects(async () => {
    for await (const item of queue) seen.push(item);
  }, /too slow/);
  assert.deepEqual(seen, [1]);
});

test('a closed queue takes nothing, and keeps what waits', async () => {
  const queue = new CoalescingQueue<string>(3);
  queue.put('a', 'a1');
  queue.close();
  assert.deepEqual([queue.put('b', 'b1'), queue.putLast('a', 'a2')], [false, false]);
  assert.deepEqual(await drain(queue), ['a1']);
});
