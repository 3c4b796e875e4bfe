import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { SettleFrame } from '../../../../generated/muster/v1/queue.js';
import { DeliveryRanges } from '../../../../src/client/queue/delivery-ranges.js';
import { Settler } from '../../../../src/client/queue/settler.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';

function one(delivery: number): { first: number; last: number } {
  return { first: delivery, last: delivery };
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Far more than these tests settle. */
const PLENTY = { messages: 1000, bytes: 1_000_000 };

function recording({ clock = new ManualClock(), promptly = PLENTY } = {}): {
  settler: Settler;
  clock: ManualClock;
  frames: SettleFrame[];
  failures: (string | undefined)[];
} {
  const frames: SettleFrame[] = [];
  const failures: (string | undefined)[] = [];
  const settler = new Settler({
    clock,
    promptly,
    send: (frame) => frames.push(frame),
    onFailure: ({ reason }) => failures.push(reason),
  });
  return { settler, clock, frames, failures };
}

describe('ranges of deliveries', () => {
  it('are as few as can be, and hold exactly what was added, in whatever order', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 60 })), (ids) => {
        const ranges = new DeliveryRanges();
        for (const id of ids) ranges.add(id, id);
        assert.equal(ranges.empty, ids.length === 0);
        const taken = ranges.take();
        const held = taken.flatMap(({ first, last }) =>
          Array.from({ length: last - first + 1 }, (_, at) => first + at),
        );
        assert.deepEqual(
          held,
          [...ids].sort((a, b) => a - b),
        );
        for (const [index, { first }] of taken.entries()) assert.ok(first - 1 !== taken[index - 1]?.last);
        assert.ok(ranges.empty);
      }),
    );
  });
});

describe('settling', () => {
  it('goes out at the end of the turn, together', async () => {
    const { settler, frames } = recording();
    for (let id = 1; id <= 100; id += 1) settler.ack(one(id));
    settler.nack(one(200), { delayMs: 1500, reason: 'later' });
    assert.equal(frames.length, 0);
    await turn();
    assert.deepEqual(frames, [
      {
        id: 1,
        acks: [{ first: 1, last: 100 }],
        nacks: [
          { deliveries: one(200), delay: { seconds: 1, nanos: 500_000_000 }, deadLetter: false, reason: 'later' },
        ],
        extends: [],
      },
    ]);
  });

  it('says that leases are extended before it says what followed', async () => {
    const { settler, frames } = recording();
    settler.extend({ first: 1, last: 10 }, undefined);
    settler.ack({ first: 1, last: 10 });
    await turn();
    assert.deepEqual(
      frames.map(({ id, acks, extends: extended }) => [id, acks.length, extended.length]),
      [
        [1, 0, 1],
        [2, 1, 0],
      ],
    );
  });

  it('gathers while frames are on their way, so that their number is bounded', async () => {
    const { settler, frames } = recording({ promptly: { messages: 1, bytes: 1 } });
    for (let id = 1; id <= 50; id += 1) {
      settler.ack(one(id));
      await turn();
    }
    assert.equal(frames.length, 4);
    settler.settled({ id: 4, failures: [] });
    await turn();
    assert.deepEqual(frames[4]?.acks, [{ first: 5, last: 50 }]);
  });

  it('sends the first acknowledgement at once, and the few that follow together a little later', async () => {
    const { settler, clock, frames } = recording();
    settler.ack(one(1));
    await turn();
    assert.equal(frames.length, 1);
    for (let id = 2; id <= 4; id += 1) {
      await clock.advance(1);
      settler.ack(one(id));
      await turn();
    }
    assert.equal(frames.length, 1);
    await clock.advance(2);
    assert.deepEqual(frames[1]?.acks, [{ first: 2, last: 4 }]);
    await clock.advance(5);
    settler.ack(one(5));
    await turn();
    assert.equal(frames.length, 3);
    await clock.advance(100);
    assert.equal(frames.length, 3);
  });

  const urgent: Record<string, (settler: Settler) => unknown> = {
    'many acknowledgements': (settler) => {
      settler.ack({ first: 2, last: 9 });
    },
    'acknowledgements of many bytes': (settler) => {
      settler.ack(one(2), 1000);
    },
    'somebody who waits': (settler) => {
      settler.ack(one(2));
      return settler.confirm(one(2));
    },
    'what is given back': (settler) => {
      settler.nack(one(2), {});
    },
    'an extended lease': (settler) => {
      settler.extend(one(2), undefined);
    },
    'an order in which one is delivered when the one before is settled': (settler) => {
      settler.hurry();
      settler.ack(one(2));
    },
  };
  for (const [what, act] of Object.entries(urgent)) {
    it(`does not wait with ${what}`, async () => {
      const { settler, clock, frames } = recording({ promptly: { messages: 8, bytes: 1000 } });
      settler.ack(one(1));
      await turn();
      settler.ack(one(100), 100);
      await turn();
      assert.equal(frames.splice(0).length, 1);
      void act(settler);
      await turn();
      const acked = frames.splice(0).flatMap(({ acks }) => acks);
      assert.ok(acked.some(({ first, last }) => first <= 100 && last >= 100));
      await clock.advance(100);
      assert.deepEqual(frames, [], 'nothing is left to be sent');
    });
  }

  it('holds nothing back that is handed over at the end', async () => {
    const { settler, clock, frames } = recording();
    settler.ack(one(1));
    await turn();
    settler.ack(one(2));
    void settler.flush();
    assert.equal(frames.length, 2);
    settler.ack(one(3));
    settler.end(new MusterError('unavailable', 'lost'));
    await clock.advance(100);
    assert.equal(frames.length, 2);
  });

  it('confirms what is on disk, and tells what came to nothing', async () => {
    const { settler, failures } = recording();
    settler.ack(one(1));
    const first = settler.confirm(one(1));
    settler.ack(one(2));
    const second = settler.confirm(one(2));
    settler.ack(one(3));
    await turn();
    const again = settler.confirm(one(1));
    settler.settled({
      id: 1,
      failures: [
        { delivery: 2, reason: 'LEASE_OVER' },
        { delivery: 3, reason: 'ALREADY_SETTLED' },
      ],
    });
    await Promise.all([first, again]);
    await assert.rejects(second, (error: unknown) => error instanceof MusterError && error.reason === 'LEASE_OVER');
    assert.deepEqual(failures, ['ALREADY_SETTLED']);
    await settler.confirm(one(1));
  });

  it('ends with its stream: who waits is told', async () => {
    const { settler, frames } = recording();
    settler.ack(one(1));
    const sent = settler.confirm(one(1));
    await turn();
    settler.ack(one(2));
    const waiting = settler.confirm(one(2));
    const idle = settler.flush();
    settler.end(new MusterError('unavailable', 'lost'));
    await assert.rejects(sent, /lost/);
    await assert.rejects(waiting, /lost/);
    await idle;
    settler.ack(one(3));
    await turn();
    assert.equal(frames.length, 2);
    await assert.rejects(settler.confirm(one(3)), /lost/);
  });
});
