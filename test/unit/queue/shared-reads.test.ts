import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BatchView } from '../../../src/queue/batch.js';
import { SharedReads } from '../../../src/queue/shared-reads.js';
import { fieldsOf } from '../../support/queue-parts.js';

function piece(...firsts: number[]): BatchView[] {
  return firsts.map(
    (firstSequence) =>
      new BatchView({ firstSequence, count: 2, publishedMs: 0, offset: 0, messages: fieldsOf('a', 'b') }),
  );
}

const PIECE_BYTES = 2 * fieldsOf('a', 'b').length;

/** Reads pieces of four messages, and counts. */
function disk(): { readonly reads: () => number; readonly at: (sequence: number) => () => Promise<BatchView[]> } {
  let reads = 0;
  return {
    reads: () => reads,
    at: (sequence) => () => {
      reads += 1;
      return Promise.resolve(piece(sequence, sequence + 2));
    },
  };
}

describe('reads that subscriptions share', () => {
  it('are made once for all that are at about the same place, also while they go on', async () => {
    const { reads, at } = disk();
    const shared = new SharedReads();
    const [first, second] = await Promise.all([shared.read(1, 1, at(1)), shared.read(1, 1, at(1))]);
    assert.equal(first, second);
    assert.equal(await shared.read(1, 4, at(4)), first);
    assert.equal(reads(), 1);
  });

  it('belong to their topic, and end where they end', async () => {
    const { reads, at } = disk();
    const shared = new SharedReads();
    await shared.read(1, 1, at(1));
    await shared.read(2, 1, at(1));
    assert.equal((await shared.read(1, 5, at(5)))[0]?.firstSequence, 5);
    assert.equal(reads(), 3);
  });

  it('are kept up to a bound, and not below what nobody asks for any more', async () => {
    const { reads, at } = disk();
    const shared = new SharedReads(2 * PIECE_BYTES);
    for (const sequence of [1, 5, 9]) await shared.read(1, sequence, at(sequence));
    await shared.read(1, 5, at(5));
    assert.equal(reads(), 3);
    await shared.read(1, 1, at(1));
    assert.equal(reads(), 4);
    shared.dropBelow(1, 13);
    await shared.read(1, 9, at(9));
    assert.equal(reads(), 5);
  });

  it('that fail are told to all who wait, and made again afterwards', async () => {
    const { at } = disk();
    const shared = new SharedReads();
    const fail = (): Promise<BatchView[]> => Promise.reject(new Error('the disk failed'));
    const both = [shared.read(1, 1, fail), shared.read(1, 1, at(1))];
    for (const one of both) await assert.rejects(one, /the disk failed/);
    assert.equal((await shared.read(1, 1, at(1)))[0]?.firstSequence, 1);
  });
});
