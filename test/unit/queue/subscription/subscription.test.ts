import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../../src/kit/errors.js';
import { REPLAYED_MAX } from '../../../../src/queue/subscription/backlog.js';
import { FAILURES_MAX } from '../../../../src/queue/subscription/holdings.js';
import { OUTSTANDING_MAX } from '../../../../src/queue/subscription/subscription.js';
import { acks, at, batchOf, messages, nacks, newSubscription, Pump, ROOM, sequencesOf } from './support.js';

describe('consumers', () => {
  it('with credit are served in turn', () => {
    const subscription = newSubscription();
    for (const consumer of [1, 2, 3]) subscription.attach(consumer, { maxMessages: 4, maxBytes: 1000 });
    const pump = new Pump(subscription, messages(30));
    assert.deepEqual(
      pump.run(0).map(({ consumer }) => consumer),
      [1, 2, 3],
    );
    subscription.settle(3, acks([1, 1]), at(0));
    subscription.settle(1, acks([1, 2]), at(0));
    subscription.settle(3, acks([2, 2]), at(0));
    assert.deepEqual(
      pump.run(0).map(({ consumer }) => consumer),
      [3, 1],
    );
  });

  it('share one-message frames evenly', () => {
    const subscription = newSubscription();
    for (const consumer of [1, 2, 3]) subscription.attach(consumer, { maxMessages: 1, maxBytes: 1000 });
    const pump = new Pump(subscription, messages(300));
    const served = [0, 0, 0, 0];
    for (let round = 0; round < 100; round += 1) {
      for (const { consumer, firstDelivery } of pump.run(0)) {
        served[consumer] = (served[consumer] ?? 0) + 1;
        subscription.settle(consumer, acks([firstDelivery, 0]), at(0));
      }
    }
    assert.deepEqual(served, [0, 100, 100, 100]);
  });

  it('get a message larger than their credit alone', () => {
    const subscription = newSubscription();
    subscription.attach(1, { maxMessages: 10, maxBytes: 25 });
    const pump = new Pump(
      subscription,
      [10, 10, 100, 10].map((size) => ({ size, key: '' })),
    );
    assert.deepEqual(pump.sequences(0), [1, 2]);
    subscription.settle(1, acks([1, 1]), at(0));
    assert.deepEqual(pump.sequences(0), []);
    subscription.settle(1, acks([2, 2]), at(0));
    assert.deepEqual(pump.sequences(0), [3]);
    subscription.settle(1, acks([3, 3]), at(0));
    assert.deepEqual(pump.sequences(0), [4]);
  });

  it('whose turn it is but who have too little room are passed over', () => {
    const subscription = newSubscription();
    subscription.attach(1, { maxMessages: 10, maxBytes: 25 });
    const pump = new Pump(
      subscription,
      [20, 20, 5].map((size) => ({ size, key: '' })),
    );
    assert.deepEqual(pump.sequences(0), [1]);
    subscription.attach(2, { maxMessages: 10, maxBytes: 25 });
    assert.deepEqual(
      pump.run(0).map((grant) => [grant.consumer, ...sequencesOf(grant)]),
      [[2, 2, 3]],
    );
  });

  it('with less credit than they have get nothing until enough is settled', () => {
    const subscription = newSubscription();
    subscription.attach(1, { maxMessages: 4, maxBytes: 1000 });
    const pump = new Pump(subscription, messages(10));
    assert.deepEqual(pump.sequences(0), [1, 2, 3, 4]);
    subscription.setCredit(1, { maxMessages: 2, maxBytes: 1000 });
    subscription.settle(1, acks([1, 2]), at(0));
    assert.deepEqual(pump.sequences(0), []);
    subscription.settle(1, acks([3, 3]), at(0));
    assert.deepEqual(pump.sequences(0), [5]);
    subscription.setCredit(1, { maxMessages: 0, maxBytes: 1000 });
    subscription.settle(1, acks([1, 5]), at(0));
    assert.deepEqual(pump.sequences(0), []);
  });

  it('have numbers of their own', () => {
    const subscription = newSubscription();
    subscription.attach(1, ROOM);
    assert.throws(() => {
      subscription.attach(1, ROOM);
    }, MusterError);
    assert.equal(subscription.consumers, 1);
    subscription.detach(1, { counts: true }, at(0));
    subscription.detach(1, { counts: true }, at(0));
    subscription.setCredit(1, ROOM);
    assert.equal(subscription.consumers, 0);
    assert.equal(subscription.leasedBy(1), 0);
  });

  it('who are gone have no leases', () => {
    const subscription = newSubscription();
    subscription.attach(1, ROOM);
    const pump = new Pump(subscription, messages(3));
    pump.run(0);
    subscription.detach(1, { counts: false }, at(0));
    const order = { ...acks([1, 2]), nacks: nacks(3, 0).nacks };
    assert.deepEqual(
      subscription.settle(1, order, at(0)).failures.map(({ delivery, reason }) => `${delivery} ${reason}`),
      ['1 LEASE_OVER', '2 LEASE_OVER', '3 LEASE_OVER'],
    );
    assert.equal(subscription.floor, 1);
  });
});

describe('what cannot be settled', () => {
  it('is said: over once, then settled', () => {
    const subscription = newSubscription({ leaseMs: 1000 });
    subscription.attach(1, ROOM);
    new Pump(subscription, messages(4)).run(0);
    subscription.settle(1, acks([1, 1]), at(0));
    subscription.expire(at(1000));
    const reasons = (first: number, last: number): string[] =>
      subscription
        .settle(1, acks([first, last]), at(1000))
        .failures.map(({ delivery, reason }) => `${delivery} ${reason}`);
    assert.deepEqual(reasons(1, 0), ['1 ALREADY_SETTLED']);
    assert.deepEqual(reasons(2, 0), ['2 LEASE_OVER']);
    assert.deepEqual(reasons(2, 0), ['2 ALREADY_SETTLED']);
    assert.deepEqual(reasons(1, 3), ['3 LEASE_OVER']);
    assert.deepEqual(reasons(1, 9), ['4 LEASE_OVER', '5 UNKNOWN_DELIVERY']);
    assert.deepEqual(reasons(0, 3), ['0 UNKNOWN_DELIVERY']);
    assert.deepEqual(reasons(3, 2), ['3 UNKNOWN_DELIVERY']);
  });

  it('is not said without end', () => {
    const subscription = newSubscription();
    subscription.attach(1, ROOM);
    new Pump(subscription, messages(20_000)).run(0);
    subscription.settle(1, acks([1, 20_000]), at(0));
    assert.equal(subscription.settle(1, nacks(1, 20_000), at(0)).failures.length, FAILURES_MAX);
    assert.deepEqual(subscription.settle(1, acks([1, Number.MAX_SAFE_INTEGER]), at(0)).failures, [
      { delivery: 20_001, reason: 'UNKNOWN_DELIVERY' },
    ]);
  });

  it('is still said to be over when too many are to be remembered', () => {
    const subscription = newSubscription({ leaseMs: 1000 });
    subscription.attach(1, ROOM);
    const count = 10_000;
    new Pump(subscription, messages(count)).run(0);
    for (let delivery = 1; delivery <= count; delivery += 2) subscription.settle(1, acks([delivery, 0]), at(0));
    subscription.expire(at(1000));
    for (const delivery of [2, count]) {
      assert.deepEqual(subscription.settle(1, acks([delivery, 0]), at(1000)).failures, [
        { delivery, reason: 'LEASE_OVER' },
      ]);
    }
  });
});

describe('a lease', () => {
  it('that has run out can be settled until it has been ended', () => {
    const subscription = newSubscription({ leaseMs: 1000 });
    subscription.attach(1, ROOM);
    new Pump(subscription, messages(1)).run(0);
    assert.equal(subscription.nextTimeMs(), 1000);
    assert.deepEqual(subscription.settle(1, acks([1, 1]), at(5000)).failures, []);
    assert.equal(subscription.floor, 2);
    assert.equal(subscription.nextTimeMs(), undefined);
    assert.equal(subscription.settledCount, 1);
  });

  it('is extended within its bounds', () => {
    const subscription = newSubscription({ leaseMs: 1000 });
    subscription.attach(1, ROOM);
    new Pump(subscription, messages(1)).run(0);
    for (const [leaseMs, endMs] of [
      [1, 1000],
      [undefined, 1000],
      [7000, 7000],
      [1e12, 12 * 3_600_000],
    ] as const) {
      const range = { first: 1, last: 0 };
      subscription.settle(1, { acks: [], nacks: [], extends: [{ range, leaseMs }] }, at(0));
      assert.equal(subscription.nextTimeMs(), endMs);
    }
  });

  it('of many messages is counted by what is left of it, to the byte', () => {
    const subscription = newSubscription();
    subscription.attach(1, ROOM);
    const sizes = Array.from({ length: 1000 }, (_, index) => ({ size: 2 + ((index * 37) % 91), key: '' }));
    new Pump(subscription, sizes).run(0);
    let left = sizes.reduce((sum, { size }) => sum + size, 0);
    for (let step = 0; step < 1000; step += 1) {
      const delivery = ((step * 387) % 1000) + 1;
      subscription.settle(1, acks([delivery, 0]), at(0));
      left -= sizes[delivery - 1]?.size ?? 0;
      assert.equal(subscription.stats({ head: 1, tail: 1001 }).consumers[0]?.leasedBytes, left);
    }
    assert.equal(subscription.floor, 1001);
  });
});

describe('outstanding messages', () => {
  it('are bounded: at the bound nothing new goes out, what waits does', () => {
    const subscription = newSubscription();
    subscription.attach(1, { maxMessages: 2 * OUTSTANDING_MAX, maxBytes: 1_000_000_000 });
    const pump = new Pump(subscription, messages(OUTSTANDING_MAX + 10));
    assert.equal(pump.sequences(0).length, OUTSTANDING_MAX);
    subscription.settle(1, nacks(5, 6), at(0));
    assert.deepEqual(pump.sequences(0), [5, 6]);
    subscription.settle(1, acks([3, 3]), at(0));
    assert.deepEqual(pump.sequences(0), [OUTSTANDING_MAX + 1]);
  });

  it('that are parked count', () => {
    const subscription = newSubscription({ ordered: true });
    subscription.attach(1, ROOM);
    const pump = new Pump(subscription, messages(OUTSTANDING_MAX + 10, 10, ['k']));
    assert.deepEqual(pump.sequences(0), [1]);
    assert.equal(subscription.stats(pump.bounds).parked, OUTSTANDING_MAX - 1);
    for (let sequence = 1; sequence < 5000; sequence += 1) {
      subscription.settle(1, acks([sequence, 0]), at(0));
      assert.deepEqual(pump.sequences(0), [sequence + 1]);
    }
  });
});

describe('ordering keys', () => {
  it('let one message of a key out at a time, through all its attempts', () => {
    const subscription = newSubscription({ ordered: true, maxAttempts: 3 });
    for (const consumer of [1, 2]) subscription.attach(consumer, ROOM);
    const pump = new Pump(subscription, messages(9, 10, ['a', 'b', '']));
    assert.deepEqual(pump.sequences(0), [1, 2, 3, 6, 9]);
    subscription.settle(1, nacks(1, 1, { delayMs: 500 }), at(0));
    assert.deepEqual(pump.sequences(0), []);
    assert.deepEqual(pump.sequences(500), [1]);
    subscription.settle(1, nacks(1, 5, { deadLetter: true }), at(500));
    subscription.detach(2, { counts: false }, at(500));
    assert.deepEqual(pump.sequences(500), [1, 5]);
  });

  it('hold back what a letter of the key must wait for, and the other way round', () => {
    const subscription = newSubscription({ ordered: true });
    subscription.attach(1, ROOM);
    const pump = new Pump(subscription, messages(4, 10, ['a']));
    assert.deepEqual(pump.sequences(0), [1]);
    subscription.settle(1, nacks(1, 1, { deadLetter: true }), at(0));
    assert.deepEqual(pump.sequences(0), [2]);
    assert.deepEqual(subscription.replay([1]), [1]);
    assert.deepEqual(pump.sequences(0), []);
    const order: number[] = [];
    for (let delivery = 2; delivery <= 5; delivery += 1) {
      subscription.settle(1, acks([delivery, 0]), at(0));
      order.push(...pump.sequences(0));
    }
    assert.deepEqual(order, [3, 4, 1], 'it was replayed at the end of what waited');
  });
});

describe('dead letters', () => {
  /** Six messages without a key, all dead; a consumer with room. */
  function allDead(): Pump {
    const pump = new Pump(newSubscription(), messages(6));
    pump.subscription.attach(1, ROOM);
    pump.run(0);
    pump.subscription.settle(1, nacks(1, 6, { deadLetter: true }), at(0));
    pump.subscription.takeChanges();
    return pump;
  }

  it('are settled, and come again when they are replayed, with attempts counted anew', () => {
    const pump = allDead();
    const { subscription } = pump;
    assert.equal(subscription.floor, 7);
    assert.equal(subscription.stats(pump.bounds).dead, 6);
    assert.deepEqual(subscription.replay([2, 4, 2]), [2, 4]);
    const { dead, replayed, backlog } = subscription.stats(pump.bounds);
    assert.deepEqual({ dead, replayed, backlog }, { dead: 4, replayed: 2, backlog: 2 });
    assert.deepEqual(pump.run(0), [
      { consumer: 1, firstDelivery: 7, runs: [{ firstSequence: 2, count: 1, attempt: 1 }] },
      { consumer: 1, firstDelivery: 8, runs: [{ firstSequence: 4, count: 1, attempt: 1 }] },
    ]);
    subscription.settle(1, acks([7, 0]), at(0));
    const { died } = subscription.settle(1, nacks(8, 0, { deadLetter: true }), at(0));
    assert.deepEqual(died, [{ sequence: 4, attempts: 1, reason: 'no', replayed: true }]);
    assert.deepEqual(subscription.takeChanges(), { cursor: undefined, retries: new Map(), lettersDone: [2] });
    assert.equal(subscription.stats(pump.bounds).dead, 5);
  });

  it('take turns with new messages', () => {
    const subscription = newSubscription({}, { cursor: { floor: 4, settled: [], dropped: 0 }, replayed: [1, 2, 3] });
    subscription.attach(1, { maxMessages: 1, maxBytes: 1000 });
    const pump = new Pump(subscription, messages(8));
    const order: number[] = [];
    for (let delivery = 1; delivery <= 8; delivery += 1) {
      order.push(...pump.sequences(0));
      subscription.settle(1, acks([delivery, 0]), at(0));
    }
    assert.deepEqual(order, [4, 1, 5, 2, 6, 3, 7, 8]);
  });

  it('do not overtake a new message that waits for room', () => {
    const subscription = newSubscription({}, { cursor: { floor: 4, settled: [], dropped: 0 }, replayed: [1, 2, 3] });
    subscription.attach(1, { maxMessages: 10, maxBytes: 25 });
    const sizes = [5, 5, 5, 10, 20, 5];
    const pump = new Pump(
      subscription,
      sizes.map((size) => ({ size, key: '' })),
    );
    assert.deepEqual(pump.sequences(0), [4, 1]);
    subscription.settle(1, acks([2, 0]), at(0));
    assert.deepEqual(pump.sequences(0), []);
    subscription.settle(1, acks([1, 0]), at(0));
    assert.deepEqual(pump.sequences(0), [5, 6]);
  });

  it('are not delivered twice when a seek delivers their messages', () => {
    const pump = allDead();
    const { subscription } = pump;
    subscription.replay([2, 5]);
    subscription.takeChanges();
    assert.deepEqual(subscription.seek(4, pump.bounds), { sequence: 4, redelivered: 3, skipped: 0 });
    assert.deepEqual(subscription.takeChanges().lettersDone, [5]);
    assert.deepEqual(subscription.replay([6]), [], 'this one comes from the topic');
    assert.deepEqual(subscription.takeChanges().lettersDone, [6]);
    assert.deepEqual(pump.sequences(0), [2, 4, 5, 6]);
  });

  it('that die again before the next group are stored, not deleted', () => {
    const pump = allDead();
    const { subscription } = pump;
    subscription.replay([5]);
    subscription.seek(5, pump.bounds);
    assert.deepEqual(pump.sequences(0), [5, 6]);
    const { died } = subscription.settle(1, nacks(7, 7, { deadLetter: true }), at(0));
    assert.deepEqual(died, [{ sequence: 5, attempts: 1, reason: 'no', replayed: false }]);
    assert.deepEqual(subscription.takeChanges().lettersDone, []);
  });

  it('that are no longer stored are forgotten, parked or not', () => {
    const subscription = newSubscription(
      { ordered: true },
      { cursor: { floor: 4, settled: [], dropped: 0 }, replayed: [1, 2, 3] },
    );
    subscription.attach(1, { maxMessages: 1, maxBytes: 1000 });
    const pump = new Pump(subscription, messages(4, 10, ['k']));
    assert.deepEqual(pump.sequences(0), [4]);
    subscription.setCredit(1, ROOM);
    assert.deepEqual(pump.sequences(0), []);
    subscription.forgetLetter(2);
    subscription.forgetLetter(4);
    subscription.forgetLetter(99);
    assert.deepEqual(subscription.takeChanges().lettersDone, [2]);
    subscription.settle(1, acks([1, 0]), at(0));
    assert.deepEqual(pump.sequences(0), [1]);
    subscription.forgetLetter(1);
    subscription.settle(1, acks([2, 0]), at(0));
    assert.deepEqual(pump.sequences(0), [3]);
  });

  it('are taken back within a bound, and counted when purged', () => {
    const subscription = newSubscription({}, { cursor: { floor: 100_001, settled: [], dropped: 0 }, dead: 100_000 });
    const all = Array.from({ length: 100_000 }, (_, index) => index + 1);
    assert.equal(subscription.replay(all).length, REPLAYED_MAX);
    assert.deepEqual(subscription.replay([100_000]), []);
    subscription.purged(4);
    assert.equal(subscription.stats({ head: 1, tail: 100_001 }).dead, 100_000 - REPLAYED_MAX - 4);
  });
});

describe('a drop', () => {
  it('spares letters that wait for their key with attempts counted', () => {
    const retries = new Map([[2, { attempts: 2, notBeforeMs: 0 }]]);
    const cursor = { floor: 3, settled: [], dropped: 0 };
    const subscription = newSubscription({ ordered: true }, { cursor, replayed: [2], retries });
    subscription.attach(1, ROOM);
    const pump = new Pump(subscription, messages(6, 10, ['k']));
    assert.deepEqual(pump.sequences(0), [3]);
    assert.equal(subscription.stats(pump.bounds).parked, 4);
    pump.drop(5);
    assert.deepEqual(subscription.stats(pump.bounds).dropped, 2);
    assert.deepEqual(subscription.takeChanges().retries, new Map());
    assert.deepEqual(subscription.settle(1, acks([1, 0]), at(0)).failures, [{ delivery: 1, reason: 'LEASE_OVER' }]);
    assert.deepEqual(pump.sequences(0), [5]);
    subscription.settle(1, acks([2, 0]), at(0));
    assert.deepEqual(pump.sequences(0), [6]);
    subscription.settle(1, acks([3, 0]), at(0));
    assert.deepEqual(
      pump.run(0).map(({ runs }) => runs),
      [[{ firstSequence: 2, count: 1, attempt: 3 }]],
    );
    subscription.settle(1, acks([4, 0]), at(0));
    const { retries: left, lettersDone } = subscription.takeChanges();
    assert.deepEqual({ left, lettersDone }, { left: new Map([[2, undefined]]), lettersDone: [2] });
  });
});

describe('a restored subscription', () => {
  it('delivers the unsettled in order, those that failed when they are due', () => {
    const cursor = { floor: 2, settled: [{ from: 3, until: 5 }], dropped: 7 };
    const retries = new Map([
      [2, { attempts: 1, notBeforeMs: at(900).wallMs }],
      [3, { attempts: 4, notBeforeMs: 0 }],
      [6, { attempts: 2, notBeforeMs: 0 }],
    ]);
    const subscription = newSubscription({}, { cursor, retries });
    assert.deepEqual(subscription.takeChanges().retries, new Map([[3, undefined]]), 'of a settled one');
    subscription.attach(1, ROOM);
    const pump = new Pump(subscription, messages(7));
    assert.deepEqual(pump.run(0), [
      {
        consumer: 1,
        firstDelivery: 1,
        runs: [
          { firstSequence: 5, count: 1, attempt: 1 },
          { firstSequence: 6, count: 1, attempt: 3 },
          { firstSequence: 7, count: 1, attempt: 1 },
        ],
      },
    ]);
    assert.equal(subscription.nextTimeMs(), 900);
    assert.deepEqual(pump.sequences(900), [2]);
    assert.equal(subscription.stats(pump.bounds).dropped, 7);
  });
});

describe('a grant', () => {
  it('is not made of a batch that is not wanted', () => {
    const subscription = newSubscription();
    subscription.attach(1, ROOM);
    const bounds = { head: 1, tail: 11 };
    assert.equal(subscription.grant(batchOf(6, messages(5)), bounds, at(0)), undefined);
    assert.deepEqual(subscription.next(bounds, at(0)), { source: 'log', sequence: 1 });
    assert.equal(subscription.grantDeadLetter(batchOf(1, messages(1)), at(0)), undefined);
    assert.ok(subscription.grant(batchOf(1, messages(5)), bounds, at(0)));
    assert.equal(subscription.grant(batchOf(1, messages(5)), bounds, at(0)), undefined);
    assert.deepEqual(subscription.next(bounds, at(0)), { source: 'log', sequence: 6 });
  });

  it('ends at the tail, where the batch goes on', () => {
    const subscription = newSubscription();
    subscription.attach(1, ROOM);
    const grant = subscription.grant(batchOf(1, messages(5)), { head: 1, tail: 4 }, at(0));
    assert.deepEqual(grant?.runs, [{ firstSequence: 1, count: 3, attempt: 1 }]);
  });
});
