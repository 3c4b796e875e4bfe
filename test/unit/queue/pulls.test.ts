import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { Pulls, type LeaseOrder } from '../../../src/queue/pulls.js';
import type { WantedSettings } from '../../../src/queue/subscription/settings.js';
import {
  CREDIT,
  deliveryFixture,
  failureOf,
  loadDelivery,
  type DeliveryFixture,
} from '../../support/queue-delivery.js';
import { encoded, payloads, TestSink, turns } from '../../support/queue-parts.js';

interface Pulled {
  readonly texts: string[];
  readonly leases: string[];
  readonly attempts: number[];
  readonly expiresMs: number;
}

interface Fixture extends DeliveryFixture {
  readonly pulls: Pulls;
  readonly pull: (maxMessages?: number, waitMs?: number, signal?: AbortSignal) => Promise<Pulled>;
}

function pulling(parts: DeliveryFixture, pulls = new Pulls(parts.clock)): Fixture {
  const pull = async (maxMessages = 1, waitMs = 0, signal = new AbortController().signal): Promise<Pulled> => {
    const { runs, expiresMs } = await pulls.pull(parts.delivery, { name: 'me', maxMessages, waitMs, signal });
    return {
      texts: runs.flatMap(({ run }) => payloads(run.messages)),
      leases: runs.flatMap(({ leases }) => leases),
      attempts: runs.map(({ run }) => run.attempt),
      expiresMs,
    };
  };
  return { ...parts, pulls, pull };
}

async function fixture(wanted: WantedSettings = {}, cached = true): Promise<Fixture> {
  return pulling(await deliveryFixture(wanted, cached));
}

function ack(lease = ''): LeaseOrder {
  return { lease, kind: 'ack' };
}

function nackOf(lease = '', more: { deadLetter?: boolean; delayMs?: number } = {}): LeaseOrder {
  return { lease, kind: 'nack', delayMs: undefined, deadLetter: false, reason: 'no', ...more };
}

describe('pulling', () => {
  it('takes up to as many as were asked for, each with a lease', async () => {
    const { topic, pull, clock } = await fixture();
    await topic.publish(encoded('a', 'b', 'c'));
    const first = await pull(2);
    assert.deepEqual([first.texts, first.leases.length, first.attempts], [['a', 'b'], 2, [1]]);
    assert.equal(first.expiresMs, clock.now() + 30_000);
    assert.deepEqual((await pull(2)).texts, ['c']);
    assert.deepEqual((await pull(2)).texts, []);
  });

  it('takes what is ready of many batches, from memory or from the disk', async () => {
    for (const cached of [true, false]) {
      const { topic, pull } = await fixture({}, cached);
      for (let index = 0; index < 10; index += 1) await topic.publish(encoded(String(index)));
      assert.equal((await pull(8)).texts.length, 8);
      assert.equal((await pull(8)).texts.length, 2);
    }
  });

  it('answers at once when nothing is there, and leaves nothing behind', async () => {
    const { pull, delivery, clock } = await fixture();
    assert.deepEqual((await pull()).texts, []);
    assert.deepEqual([delivery.consumers.length, clock.pending], [0, 0]);
  });

  it('waits for the first message as long as was asked', async () => {
    const { topic, pull, clock, delivery } = await fixture();
    const waiting = pull(5, 10_000);
    await clock.advance(9000);
    await topic.publish(encoded('a', 'b'));
    assert.deepEqual((await waiting).texts, ['a', 'b']);
    const vain = pull(5, 10_000);
    await clock.advance(10_000);
    assert.deepEqual((await vain).texts, []);
    assert.equal(delivery.consumers.length, 1);
  });

  it('ends when its caller goes', async () => {
    const { pull, delivery, clock } = await fixture();
    const caller = new AbortController();
    const waiting = pull(5, 10_000, caller.signal);
    await turns();
    caller.abort();
    assert.deepEqual((await waiting).texts, []);
    assert.deepEqual([delivery.consumers.length, clock.pending], [0, 0]);
  });

  it('is not granted more after it was answered', async () => {
    const { topic, pull, delivery } = await fixture();
    await topic.publish(encoded('a'));
    await pull(5);
    await topic.publish(encoded('b'));
    await delivery.quiet();
    assert.equal(delivery.stats().leased, 1);
  });

  it('fails when the subscription is deleted meanwhile, or was', async () => {
    const { pull, delivery, clock } = await fixture();
    const gone = new MusterError('not_found', 'subscription mail was deleted');
    const waiting = pull(5, 10_000);
    await turns();
    delivery.close(gone);
    assert.equal(await failureOf(waiting), gone);
    assert.equal(await failureOf(pull()), gone);
    assert.equal(clock.pending, 0);
  });

  it('has a bound on pulls that are not settled', async () => {
    const { topic, pull, pulls, delivery } = await fixture();
    await topic.publish(encoded(...Array.from({ length: 2_000 }, () => 'x')));
    const leases: string[] = [];
    for (let count = 0; count < 2_000; count += 1) leases.push(...(await pull()).leases);
    const { code, message } = await failureOf(pull());
    assert.equal(code, 'exhausted');
    assert.match(message, /2000 pulls of this subscription have unsettled messages: settle some/);
    await pulls.settle(delivery, [ack(leases[0])]);
    assert.deepEqual((await pull()).texts, []);
  });
});

describe('settling what was pulled', () => {
  it('acknowledges, puts off and gives up, durably', async () => {
    const { topic, pull, pulls, delivery, log, clock } = await fixture();
    await topic.publish(encoded('a', 'b', 'c'));
    const { leases } = await pull(3);
    const orders = [ack(leases[0]), nackOf(leases[1], { delayMs: 1000 }), nackOf(leases[2], { deadLetter: true })];
    assert.deepEqual(await pulls.settle(delivery, orders), []);
    assert.equal(delivery.floor, 2);
    assert.equal((await log.deadLetter(1, 1, 3))?.reason, 'no');
    assert.deepEqual((await pull()).texts, []);
    await clock.advance(1000);
    const again = await pull();
    assert.deepEqual([again.texts, again.attempts], [['b'], [2]]);
  });

  it('lets go of a pull at once when all of it is settled', async () => {
    const { topic, pull, pulls, delivery, clock } = await fixture();
    await topic.publish(encoded('a', 'b'));
    const { leases } = await pull(2);
    await pulls.settle(delivery, [ack(leases[0])]);
    assert.equal(delivery.consumers.length, 1);
    await pulls.settle(delivery, [ack(leases[1])]);
    assert.equal(delivery.consumers.length, 0);
    await clock.advance(60_000);
    assert.equal(clock.pending, 0);
  });

  it('says what could not be settled', async () => {
    const { topic, pull, pulls, delivery } = await fixture();
    await topic.publish(encoded('a', 'b'));
    const { leases } = await pull(2);
    const [first = '', second = ''] = leases;
    await pulls.settle(delivery, [ack(first)]);
    const never = `${first.slice(0, first.lastIndexOf('-'))}-zz`;
    const nobody = first.replace(/-[^-]+-/u, '-zzz-');
    const wrong = ['', 'x', `${first}-1`, `${first.slice(0, first.indexOf('-'))}-é-1`, never, nobody];
    const failures = await pulls.settle(delivery, [ack(first), ...wrong.map((lease) => ack(lease))]);
    assert.deepEqual(new Map(failures.map(({ lease, reason }) => [lease, reason])).get(first), 'ALREADY_SETTLED');
    for (const lease of wrong) {
      assert.equal(failures.find((one) => one.lease === lease)?.reason, 'UNKNOWN_LEASE', lease);
    }
    assert.equal(failures.length, 7);
    assert.deepEqual(await pulls.settle(delivery, [ack(second)]), []);
    assert.deepEqual(await pulls.settle(delivery, [ack(second)]), [{ lease: second, reason: 'LEASE_OVER' }]);
  });

  it('knows that a lease of before a restart is over', async () => {
    const before = await fixture();
    await before.topic.publish(encoded('a'));
    const { leases } = await before.pull();
    const after = pulling(await loadDelivery(before));
    await after.pull();
    const failures = await after.pulls.settle(after.delivery, [ack(leases[0])]);
    assert.deepEqual(failures, [{ lease: leases[0], reason: 'LEASE_OVER' }]);
  });

  it('does not touch what another subscription has under the same numbers', async () => {
    const [mine, other] = [await deliveryFixture(), await deliveryFixture()];
    const pulls = new Pulls(mine.clock);
    const [a, b] = [pulling(mine, pulls), pulling(other, pulls)];
    await a.topic.publish(encoded('a'));
    await b.topic.publish(encoded('b'));
    const { leases } = await a.pull();
    await b.pull();
    const failures = await pulls.settle(b.delivery, [ack(leases[0])]);
    assert.deepEqual(failures, [{ lease: leases[0], reason: 'UNKNOWN_LEASE' }]);
    assert.equal(b.delivery.stats().leased, 1);
    assert.deepEqual(await pulls.settle(a.delivery, [ack(leases[0])]), []);
  });

  it('does not touch what a stream has', async () => {
    const { topic, delivery, pulls, pull } = await fixture();
    await topic.publish(encoded('a', 'b'));
    const stream = delivery.attach(new TestSink(), { ...CREDIT, maxMessages: 1 });
    await delivery.quiet();
    const { texts, leases } = await pull();
    assert.deepEqual(texts, ['b']);
    await pulls.settle(delivery, [ack(leases[0])]);
    assert.equal(delivery.leasedBy(stream), 1);
  });
});

describe('the lease of what was pulled', () => {
  it('ends, and the message is delivered again; the pull is forgotten', async () => {
    const { topic, pull, pulls, delivery, clock } = await fixture({ leaseMs: 10_000 });
    await topic.publish(encoded('a'));
    const { leases } = await pull();
    await clock.advance(11_000);
    assert.equal(delivery.consumers.length, 0);
    const again = await pull();
    assert.deepEqual([again.texts, again.attempts], [['a'], [2]]);
    const failures = await pulls.settle(delivery, [ack(leases[0])]);
    assert.deepEqual(failures, [{ lease: leases[0], reason: 'LEASE_OVER' }]);
  });

  it('is extended, and the pull stays as long', async () => {
    const { topic, pull, pulls, delivery, clock } = await fixture({ leaseMs: 10_000 });
    await topic.publish(encoded('a'));
    const { leases } = await pull();
    await clock.advance(9000);
    const extend: LeaseOrder = { lease: leases[0] ?? '', kind: 'extend', leaseMs: 60_000 };
    assert.deepEqual(await pulls.settle(delivery, [extend]), []);
    await clock.advance(55_000);
    assert.deepEqual((await pull()).texts, []);
    assert.deepEqual(await pulls.settle(delivery, [ack(leases[0])]), []);
    assert.equal(delivery.floor, 2);
  });

  it('keeps no timer when the subscription is closed', async () => {
    const { topic, pull, delivery, clock } = await fixture();
    await topic.publish(encoded('a'));
    await pull();
    delivery.close(new MusterError('unavailable', 'stopping'));
    assert.equal(clock.pending, 0);
  });
});
