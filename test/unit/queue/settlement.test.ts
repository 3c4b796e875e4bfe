import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '../../../src/kit/clock.js';
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
