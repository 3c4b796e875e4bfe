import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Courier, TailOrder } from '../../../../src/center/gateway/parts.js';
import { Handoff } from '../../../../src/center/output/handoff.js';
import { Tails } from '../../../../src/center/output/tails.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { failureOf } from '../../../support/rpc.js';

function courier(reachable = true): Courier & { readonly orders: TailOrder[]; readonly cancelled: string[] } {
  const orders: TailOrder[] = [];
  const cancelled: string[] = [];
  return {
    orders,
    cancelled,
    connected: () => reachable,
    order: () => reachable,
    assign: () => reachable,
    acknowledge: () => reachable,
    tail: (_machine, order) => {
      if (reachable) orders.push(order);
      return reachable;
    },
    cancel: (_machine, id) => {
      cancelled.push(id);
      return reachable;
    },
  };
}

const wish = { machine: { id: 'm-1', name: 'web-1' }, service: 'orders', lines: 10, follow: true };

describe('handoff', () => {
  it('lets the producer go on only when its item was taken', async () => {
    const handoff = new Handoff<number>();
    const items = handoff[Symbol.asyncIterator]();
    let taken = false;
    const putting = handoff.put(1).then(() => {
      taken = true;
    });
    await Promise.resolve();
    assert.equal(taken, false);
    assert.deepEqual(await items.next(), { done: false, value: 1 });
    await putting;
    handoff.close();
    assert.equal((await items.next()).done, true);
    await handoff.put(2);
  });

  it('gives the last item before its end, and its failure after', async () => {
    const handoff = new Handoff<number>();
    const putting = handoff.put(1);
    handoff.close(new MusterError('unavailable', 'lost'));
    const items = handoff[Symbol.asyncIterator]();
    assert.equal((await items.next()).value, 1);
    await putting;
    await assert.rejects(items.next(), /lost/);
  });

  it('frees a producer whose consumer leaves', async () => {
    const handoff = new Handoff<number>();
    const items = handoff[Symbol.asyncIterator]();
    const first = handoff.put(1);
    await items.next();
    await first;
    const second = handoff.put(2);
    await items.return(undefined);
    await second;
  });
});

describe('tails', () => {
  it('leave nothing behind, whoever ends', async () => {
    const clock = new ManualClock();
    const post = courier();
    const tails = new Tails<string>(post, clock);
    const controller = new AbortController();
    const lines = tails.open(wish, controller.signal);
    const first = lines.next();
    const id = post.orders[0]?.command ?? '';
    tails.begin('m-1', id);
    await tails.deliver('m-1', id, ['one']);
    assert.deepEqual((await first).value, ['one']);
    const next = lines.next();
    controller.abort();
    assert.equal((await next).done, true);
    assert.deepEqual([tails.size, post.cancelled, clock.pending], [0, [id], 0]);
    assert.equal((await failureOf(tails.deliver('m-1', id, ['two']))).reason, 'OUTPUT_UNWANTED');
  });

  it('end when the agent does not answer, or its machine is lost before it did', async () => {
    const clock = new ManualClock();
    const post = courier();
    const tails = new Tails<string>(post, clock);
    const silent = tails.open(wish, new AbortController().signal).next();
    const refused = failureOf(silent);
    await clock.advance(10_000);
    assert.equal((await refused).reason, 'NO_ANSWER');
    const lost = failureOf(tails.open(wish, new AbortController().signal).next());
    tails.machineLost('m-1');
    assert.equal((await lost).reason, 'MACHINE_LOST');
    assert.equal(tails.size, 0);
  });

  it('say at once that a machine is away', async () => {
    const tails = new Tails<string>(courier(false), new ManualClock());
    const refusal = await failureOf(tails.open(wish, new AbortController().signal).next());
    assert.equal(refusal.reason, 'MACHINE_OFFLINE');
    assert.equal(tails.size, 0);
  });

  it('are bounded in number', async () => {
    const tails = new Tails<string>(courier(), new ManualClock());
    const controller = new AbortController();
    const open = Array.from({ length: 200 }, () => tails.open(wish, controller.signal).next());
    assert.equal((await failureOf(tails.open(wish, controller.signal).next())).reason, 'TAILS_MAX');
    controller.abort();
    await Promise.all(open);
    assert.equal(tails.size, 0);
  });
});
