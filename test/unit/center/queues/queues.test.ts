import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Queues, type QueueRecord } from '../../../../src/center/queues/queues.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import type { Mutation, Store } from '../../../../src/store/port.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { failureOf } from '../../../support/rpc.js';

const DAY_MS = 24 * 3_600_000;

class Bench {
  readonly clock: ManualClock;
  readonly store: Store;
  queues: Queues;

  private constructor(store: Store, queues: Queues, clock: ManualClock) {
    this.store = store;
    this.queues = queues;
    this.clock = clock;
  }

  static async open(): Promise<Bench> {
    const clock = new ManualClock(1_700_000_000_000);
    const store = await openMemoryStore();
    return new Bench(store, await Bench.#queues(store, clock), clock);
  }

  /** As after a restart of the center. */
  async reopen(): Promise<void> {
    this.queues = await Bench.#queues(this.store, this.clock);
  }

  join(name: string, again = false): Promise<void> {
    return this.queues.join({ name, again }, (also: Mutation) => this.store.write([also]));
  }

  names(): string[] {
    return this.queues.list().map(({ name }) => name);
  }

  static async #queues(store: Store, clock: ManualClock): Promise<Queues> {
    const table = await Table.open<QueueRecord>({ store, prefix: 'queue/', clock, logger: silentLogger });
    return new Queues({ table, clock, leafLifetimeMs: DAY_MS });
  }
}

describe('queues of a site', () => {
  it('are listed by name with what they told, over a restart too', async () => {
    const bench = await Bench.open();
    await bench.join('b');
    await bench.join('a');
    await bench.queues.register('b', 'host-b:7600');
    await bench.reopen();
    assert.deepEqual(
      bench.queues.list().map(({ name, address, lastSeenMs }) => [name, address, lastSeenMs]),
      [
        ['a', '', undefined],
        ['b', 'host-b:7600', bench.clock.now()],
      ],
    );
  });

  it('keep their name to themselves; joining anew keeps what is known', async () => {
    const bench = await Bench.open();
    await bench.join('a');
    await bench.queues.register('a', 'host:7600');
    assert.equal((await failureOf(bench.join('a'))).reason, 'QUEUE_NAME_TAKEN');
    await bench.join('a', true);
    assert.equal(bench.queues.require('a').address, 'host:7600');
    const together = await Promise.allSettled([bench.join('c'), bench.join('c')]);
    assert.deepEqual(together.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  });

  it('stay away once removed, whatever else is going on, until no certificate with the name can be left', async () => {
    const bench = await Bench.open();
    await bench.join('a');
    const principal = { kind: 'queue', name: 'a' } as const;
    bench.queues.assertValid(principal);
    const outcomes = await Promise.allSettled([
      bench.queues.register('a', 'host:7600'),
      bench.queues.remove('a', 'ann'),
      bench.queues.register('a', 'host:7600'),
      bench.join('a', true),
    ]);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'rejected', 'rejected'],
    );
    await bench.reopen();
    assert.deepEqual(bench.names(), []);
    assert.throws(() => {
      bench.queues.assertValid(principal);
    }, /removed from the site at 2023-/);
    await bench.clock.advance(DAY_MS - 1);
    const early = await failureOf(bench.join('a'));
    assert.deepEqual([early.code, early.reason], ['exists', 'QUEUE_NAME_REMOVED']);
    await bench.clock.advance(1);
    await bench.join('a');
    bench.queues.assertValid(principal);
    assert.deepEqual(bench.names(), ['a']);
  });

  it('are refused when they never joined, and when they tell an address that is none', async () => {
    const bench = await Bench.open();
    assert.throws(() => {
      bench.queues.assertValid({ kind: 'queue', name: 'never' });
    }, /removed/);
    bench.queues.assertValid({ kind: 'agent', machine: 'm-1' });
    await bench.join('a');
    for (const address of ['', 'host', 'unix:/run/queue.sock', 'a b:1', `${'x'.repeat(400)}:1`]) {
      assert.equal((await failureOf(bench.queues.register('a', address))).code, 'invalid', address);
    }
    assert.equal((await failureOf(bench.queues.register('b', 'host:1'))).reason, 'QUEUE_UNKNOWN');
  });
});
