import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { SettleFrame } from '../../../../generated/muster/v1/queue.js';
import { DeliveryRanges } from '../../../../src/client/queue/delivery-ranges.js';
import { Settler } from '../../../../src/client/queue/settler.js';
import { MusterError } from '../../../../src/kit/errors.js';

function one(delivery: number): { first: number; last: number } {
  return { first: delivery, last: delivery };
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function recording(): { settler: Settler; frames: SettleFrame[]; failures: (string | undefined)[] } {
  const frames: SettleFrame[] = [];
  const failures: (string | undefined)[] = [];
  const settler = new Settler({
    send: (frame) => frames.push(frame),
    onFailure: ({ reason }) => failures.push(reason),
  });
  return { settler, frames, failures };
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
    const { settler, frames } = recording();
    for (let id = 1; id <= 50; id += 1) {
      settler.ack(one(id));
      await turn();
    }
    assert.equal(frames.length, 4);
    settler.settled({ id: 4, failures: [] });
    await turn();
    assert.deepEqual(frames[4]?.acks, [{ first: 5, last: 50 }]);
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
