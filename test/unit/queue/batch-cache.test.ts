import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BatchCache } from '../../../src/queue/batch-cache.js';
import { collectGarbage, view } from '../../support/queue-parts.js';

/** Room for so many batches of one small message. */
function cacheFor(batches: number): BatchCache {
  return new BatchCache(batches * (view(1, 'a').stored.messages.length + 256));
}

describe('the memory of what was published last', () => {
  it('finds the batch that holds a message', () => {
    const tail = new BatchCache().newTail();
    const views = [view(5, 'a', 'b', 'c'), view(8, 'd'), view(9, 'e', 'f')];
    for (const one of views) tail.push(one);
    const found = [4, 5, 6, 7, 8, 9, 10, 11].map((sequence) => tail.find(sequence)?.firstSequence);
    assert.deepEqual(found, [undefined, 5, 5, 5, 8, 9, 9, undefined]);
    assert.equal(tail.find(8), views[1]);
  });

  it('is empty at first', () => {
    assert.equal(new BatchCache().newTail().find(1), undefined);
  });

  it('forgets the oldest first, over all topics', () => {
    const cache = cacheFor(3);
    const [a, b] = [cache.newTail(), cache.newTail()];
    a.push(view(1, 'a'));
    b.push(view(1, 'b'));
    a.push(view(2, 'c'));
    assert.ok(a.find(1) && b.find(1) && a.find(2));
    b.push(view(2, 'd'));
    assert.equal(a.find(1), undefined);
    assert.ok(b.find(1) && a.find(2) && b.find(2));
    b.push(view(3, 'e'));
    assert.equal(b.find(1), undefined);
    assert.ok(a.find(2) && b.find(2) && b.find(3));
  });

  it('keeps nothing that is larger than all', () => {
    const tail = cacheFor(1).newTail();
    tail.push(view(1, 'x'.repeat(1000)));
    assert.equal(tail.find(1), undefined);
    tail.push(view(2, 'a'));
    assert.ok(tail.find(2));
  });

  it('lets go of what nobody asks for any more, and has room for more then', () => {
    const cache = cacheFor(3);
    const [a, b] = [cache.newTail(), cache.newTail()];
    for (const sequence of [1, 2]) a.push(view(sequence, 'a'));
    b.push(view(1, 'b'));
    a.dropBelow(2);
    assert.equal(a.find(1), undefined);
    assert.ok(a.find(2) && b.find(1));
    a.push(view(3, 'c'));
    assert.ok(a.find(2) && a.find(3) && b.find(1));
    a.dropBelow(10);
    a.dropBelow(10);
    a.push(view(10, 'd'));
    b.push(view(2, 'e'));
    assert.ok(a.find(10) && b.find(1) && b.find(2));
  });

  it('keeps a batch whose last message may be asked for', () => {
    const tail = new BatchCache().newTail();
    tail.push(view(1, 'a', 'b', 'c'));
    tail.dropBelow(3);
    assert.ok(tail.find(3));
    tail.dropBelow(4);
    assert.equal(tail.find(3), undefined);
  });

  it('goes on for ever where all is let go of at once', () => {
    const cache = new BatchCache();
    const [slow, tail] = [cache.newTail(), cache.newTail()];
    slow.push(view(1, 'a'));
    for (let sequence = 1; sequence <= 5000; sequence += 1) {
      tail.push(view(sequence, 'a'));
      assert.ok(tail.find(sequence));
      tail.dropBelow(sequence + 1);
      assert.equal(tail.find(sequence), undefined);
    }
    assert.ok(slow.find(1));
  });

  it('goes on for ever', () => {
    const tail = cacheFor(10).newTail();
    for (let sequence = 1; sequence <= 5000; sequence += 1) {
      tail.push(view(sequence, 'a'));
      assert.ok(tail.find(sequence));
      assert.ok(tail.find(Math.max(1, sequence - 9)));
      assert.equal(tail.find(sequence - 10), undefined);
    }
  });

  it('does not hold on to what it has forgotten', async () => {
    const tail = cacheFor(2).newTail();
    const references: WeakRef<object>[] = [];
    for (let sequence = 1; sequence <= 20; sequence += 1) {
      const one = view(sequence, 'a');
      references.push(new WeakRef(one));
      tail.push(one);
    }
    // A WeakRef is kept alive until the turn in which it was made has ended.
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    const alive = references.filter((reference) => reference.deref() !== undefined);
    assert.equal(alive.length, 2);
    assert.ok(tail.find(20) && tail.find(19));
  });
});
