import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Courier, TailOrder } from '../../../../src/center/gateway/parts.js';
import { Handoff } from '../../../../src/center/output/handoff.js';
import { Outputs, OUTPUTS_MAX } from '../../../../src/center/output/outputs.js';
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

const wish = {
  machine: { id: 'm-1', name: 'web-1' },
  service: 'orders',
  lines: 10,
  follow: true,
  position: '',
  file: '',
};

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

  it('takes from several producers in turn, one item of each in between', async () => {
    const handoff = new Handoff<string>();
    const taken: string[] = [];
    const produce = async (name: string, count: number): Promise<void> => {
      for (let item = 0; item < count; item += 1) await handoff.put(`${name}${item}`);
    };
    const producing = Promise.all([produce('a', 4), produce('b', 2)]).then(() => {
      handoff.close();
    });
    for await (const item of handoff) taken.push(item);
    await producing;
    assert.deepEqual(taken, ['a0', 'b0', 'a1', 'b1', 'a2', 'a3']);
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

function site(reachable = true) {
  const clock = new ManualClock();
  const post = courier(reachable);
  const outputs = new Outputs<readonly string[]>();
  return { clock, post, outputs, tails: new Tails({ courier: post, clock, outputs }) };
}

describe('outputs', () => {
  it('free an agent whose reader leaves without having read', async () => {
    const outputs = new Outputs<number>();
    const output = outputs.open('o-1', 'm-1');
    outputs.begin('m-1', 'o-1');
    const delivering = failureOf(outputs.deliver('m-1', 'o-1', 1));
    output.leave();
    assert.equal((await delivering).reason, 'OUTPUT_UNWANTED');
    assert.equal(outputs.size, 0);
    for await (const batch of output) assert.fail(String(batch));
  });

  it('take no second sender, and none that was not asked', () => {
    const outputs = new Outputs<number>();
    outputs.open('o-1', 'm-1');
    outputs.begin('m-1', 'o-1');
    assert.throws(() => outputs.begin('m-1', 'o-1'), /sent already/);
    assert.throws(() => outputs.begin('m-2', 'o-1'), /another machine/);
    assert.throws(() => outputs.begin('m-1', 'o-2'), /nobody waits/);
    outputs.end('m-2', 'o-1');
    assert.equal(outputs.size, 1);
  });
});

describe('tails', () => {
  it('leave nothing behind, whoever ends', async () => {
    const { clock, post, outputs, tails } = site();
    const controller = new AbortController();
    const lines = tails.open(wish, controller.signal);
    const first = lines.next();
    const id = post.orders[0]?.command ?? '';
    outputs.begin('m-1', id);
    await outputs.deliver('m-1', id, ['one']);
    assert.deepEqual((await first).value, ['one']);
    const next = lines.next();
    controller.abort();
    assert.equal((await next).done, true);
    assert.deepEqual([outputs.size, post.cancelled, clock.pending], [0, [id], 0]);
    assert.equal((await failureOf(outputs.deliver('m-1', id, ['two']))).reason, 'OUTPUT_UNWANTED');
  });

  it('end when the agent does not answer, or its machine is lost before it did', async () => {
    const { clock, outputs, tails } = site();
    const silent = tails.open(wish, new AbortController().signal).next();
    const refused = failureOf(silent);
    await clock.advance(10_000);
    assert.equal((await refused).reason, 'NO_ANSWER');
    const lost = failureOf(tails.open(wish, new AbortController().signal).next());
    outputs.machineLost('m-1');
    assert.equal((await lost).reason, 'MACHINE_LOST');
    assert.equal(outputs.size, 0);
  });

  it('say at once that a machine is away', async () => {
    const { outputs, tails } = site(false);
    const refusal = await failureOf(tails.open(wish, new AbortController().signal).next());
    assert.equal(refusal.reason, 'MACHINE_OFFLINE');
    assert.equal(outputs.size, 0);
  });

  it('are bounded in number', async () => {
    const { outputs, tails } = site();
    const controller = new AbortController();
    const open = Array.from({ length: OUTPUTS_MAX }, () => tails.open(wish, controller.signal).next());
    assert.equal((await failureOf(tails.open(wish, controller.signal).next())).reason, 'OUTPUTS_MAX');
    controller.abort();
    await Promise.all(open);
    assert.equal(outputs.size, 0);
  });
});
