import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '../../../src/kit/clock.js';
import type { BatchView } from '../../../src/queue/batch.js';
import type { Change, DeadLetterRecord } from '../../../src/queue/log/port.js';
import { Settlement } from '../../../src/queue/settlement.js';
import { acks, at, messages, nacks, newSubscription, Pump, ROOM } from './subscription/support.js';

const letter: DeadLetterRecord = {
  sequence: 2,
  message: Buffer.from('x'),
  publishedMs: 1,
  diedMs: 2,
  attempts: 3,
  reason: 'no',
  replayed: false,
};

/** A subscription whose one dead letter, of message 2, is on its way again. */
function replayed(): { settlement: Settlement; pump: Pump } {
  const cursor = { floor: 5, settled: [], dropped: 0 };
  const state = newSubscription({}, { cursor, dead: 1 });
  const settlement = new Settlement({
    log: { deadLetter: () => Promise.resolve(letter) },
    clock: new ManualClock(),
    state,
    record: { topicId: 1, id: 1 },
    cursor,
    batchAt: () => Promise.resolve(undefined),
    onSettled: () => undefined,
    onDamage: (error) => {
      assert.ifError(error);
    },
  });
  assert.deepEqual(state.replay([2]), [2]);
  settlement.mark([letter]);
  state.attach(1, ROOM);
  return { settlement, pump: new Pump(state, messages(4)) };
}

/** What would be stored of the letter: undefined for nothing. */
async function stored(settlement: Settlement): Promise<unknown> {
  const changes: readonly Change[] = await settlement.contribute();
  const found = changes.filter((change) => change.kind === 'dead letter');
  assert.ok(found.length <= 1);
  return found[0] && (found[0].letter ?? 'deleted');
}

describe('a dead letter on its way again', () => {
  it('is stored as such, once', async () => {
    const { settlement } = replayed();
    assert.deepEqual(await stored(settlement), { ...letter, replayed: true });
    settlement.committed();
    assert.equal(await stored(settlement), undefined);
  });

  it('is deleted when it is settled before that is stored', async () => {
    const { settlement, pump } = replayed();
    assert.deepEqual(pump.sequences(0), [2]);
    pump.subscription.settle(1, acks([1, 0]), at(0));
    assert.equal(await stored(settlement), 'deleted');
    settlement.refused();
    assert.equal(await stored(settlement), 'deleted');
  });

  it('is dead when it dies before that is stored', async () => {
    const { settlement, pump } = replayed();
    assert.deepEqual(pump.sequences(0), [2]);
    settlement.bury(pump.subscription.settle(1, nacks(1, 0, { deadLetter: true }), at(0)).died);
    const found = await stored(settlement);
    assert.deepEqual(found, { ...letter, attempts: 1, diedMs: new ManualClock().now() });
  });
});

/** A subscription whose consumer has these many messages, and its settlement; `size`: bytes of each letter. */
function leased(count: number, size = 1): { settlement: Settlement; pump: Pump } {
  const cursor = { floor: 1, settled: [], dropped: 0 };
  const state = newSubscription({ maxAttempts: 2 }, { cursor });
  const view = { publishedMs: 1, slice: () => Buffer.alloc(size) };
  const settlement = new Settlement({
    log: { deadLetter: () => Promise.resolve(undefined) },
    clock: new ManualClock(),
    state,
    record: { topicId: 1, id: 1 },
    cursor,
    batchAt: () => Promise.resolve(view as unknown as BatchView),
    onSettled: () => undefined,
    onDamage: (error) => {
      assert.ifError(error);
    },
  });
  state.attach(1, ROOM);
  const pump = new Pump(state, messages(count));
  assert.equal(pump.sequences(0).length, count);
  return { settlement, pump };
}

/** What one group stores: how many letters, which failed attempts it deletes, and the position. */
async function group(settlement: Settlement) {
  const changes: readonly Change[] = await settlement.contribute();
  const cursor = changes.flatMap((change) => (change.kind === 'cursor' ? [change.cursor] : []))[0];
  const retries = changes.filter((change) => change.kind === 'retry');
  return {
    letters: changes.filter((change) => change.kind === 'dead letter').map(({ sequence }) => sequence),
    forgotten: retries.filter(({ retry }) => !retry).length,
    floor: cursor?.floor,
    settled: cursor?.settled,
  };
}

describe('very much that dies at once', () => {
  it('goes with several groups, and none says that something is settled whose letter is not stored', async () => {
    const { settlement, pump } = leased(2500);
    // All have failed once, and fail again; those at both ends are acknowledged.
    pump.subscription.settle(1, nacks(1, 2500), at(0));
    assert.equal((await group(settlement)).floor, undefined);
    settlement.committed();
    assert.equal(pump.sequences(1).length, 2500);
    pump.subscription.settle(1, acks([2501, 2501], [5000, 5000]), at(1));
    settlement.bury(pump.subscription.settle(1, nacks(2502, 4999), at(1)).died);
    const buried = settlement.buried();
    const first = await group(settlement);
    assert.deepEqual([first.letters[0], first.letters.length, first.forgotten], [2, 1000, 1002]);
    assert.deepEqual([first.floor, first.settled], [1002, [{ from: 2500, until: 2501 }]]);
    assert.equal(settlement.floor, 1);
    settlement.committed();
    assert.deepEqual([settlement.floor, buried()], [1002, false]);
    const second = await group(settlement);
    assert.deepEqual([second.letters[0], second.letters.length, second.floor], [1002, 1000, 2002]);
    // Nothing of it was stored: it goes again, with no more of them.
    settlement.refused();
    const again = await group(settlement);
    assert.deepEqual([again.letters.length, again.floor, again.settled], [1000, 2002, second.settled]);
    settlement.committed();
    assert.equal(buried(), false);
    const last = await group(settlement);
    assert.deepEqual([last.letters.length, last.forgotten, last.floor, last.settled], [498, 498, 2501, []]);
    settlement.committed();
    assert.deepEqual([settlement.floor, buried()], [2501, true]);
    assert.deepEqual((await settlement.contribute()).length, 0);
  });

  it('is bounded by its bytes, too', async () => {
    const { settlement, pump } = leased(10, 1024 * 1024);
    settlement.bury(pump.subscription.settle(1, nacks(1, 10, { deadLetter: true }), at(0)).died);
    assert.equal((await group(settlement)).letters.length, 4);
    settlement.committed();
    assert.equal((await group(settlement)).letters.length, 4);
  });

  it('that was given up, because it could not be read, waits for nothing', async () => {
    const { settlement, pump } = leased(2000);
    settlement.bury(pump.subscription.settle(1, nacks(1, 2000, { deadLetter: true }), at(0)).died);
    const buried = settlement.buried();
    await group(settlement);
    settlement.committed();
    assert.equal(buried(), false);
    settlement.forgetUnread();
    assert.equal(buried(), true);
  });
});
