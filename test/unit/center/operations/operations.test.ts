import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { OPEN_SEARCHES_MAX } from '../../../../src/center/operations/operations.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { OperationsHost, PATIENCE_MS } from '../../../support/operations-host.js';

const SEARCH = {
  pattern: 'x',
  regex: false,
  ignoreCase: false,
  sinceMs: undefined,
  untilMs: undefined,
  before: 0,
  after: 0,
  linesMax: 100,
  bytesMax: 1000,
  cpuMs: 1000,
  file: '',
};
const ONE_BY_ONE = { batch: '1' };

async function refusal(asked: Promise<unknown>): Promise<MusterError> {
  const error = await asked.then(
    () => undefined,
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof MusterError, 'it was not refused');
  return error;
}

describe('operations', () => {
  it('go over their targets and end as those do', async (t) => {
    const host = await OperationsHost.start(t, ['a', 'b']);
    const { record } = await host.operations.start(host.wish({ strategy: ONE_BY_ONE }));
    await host.rest();
    assert.deepEqual(host.outcomes(record.id), ['a DELIVERED', 'b PENDING']);
    await host.report('a', 'SUCCEEDED');
    await host.report('b', 'SUCCEEDED');
    assert.equal(host.stateOf(record.id), 'SUCCEEDED');
    assert.equal(host.orders.length, 2);
  });

  it('are refused while another has the service, naming it; those that wait begin in turn', async (t) => {
    const host = await OperationsHost.start(t, ['a']);
    const first = await host.operations.start(host.wish());
    const error = await refusal(host.operations.start(host.wish()));
    assert.equal(error.reason, 'OPERATION_HELD');
    assert.equal(error.metadata['operation'], first.record.id);
    const second = await host.operations.start(host.wish({ wait: true }));
    const third = await host.operations.start(host.wish({ wait: true }));
    await host.operations.cancel(second.record.id, 'ann');
    await host.rest();
    assert.equal(host.stateOf(second.record.id), 'CANCELLED');
    await host.report('a', 'SUCCEEDED');
    assert.equal(host.stateOf(third.record.id), 'RUNNING');
    await host.report('a', 'SUCCEEDED');
    assert.equal(host.stateOf(third.record.id), 'SUCCEEDED');
  });

  it('that are cancelled while they begin leave no target behind', async (t) => {
    for (let turns = 0; turns < 30; turns += 1) {
      const host = await OperationsHost.start(t, ['a', 'b']);
      let cancelling: Promise<unknown> = Promise.resolve();
      const starting = host.operations.start(host.wish(), (id) => {
        cancelling = (async () => {
          for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
          await host.operations.cancel(id, 'ann').catch(() => undefined);
        })();
      });
      const { record } = await starting;
      await cancelling;
      await host.rest();
      if (host.stateOf(record.id) === 'RUNNING') continue;
      for (const machine of ['a', 'b']) {
        if (host.orders.length > 0) await host.report(machine, 'CANCELLED').catch(() => undefined);
      }
      assert.equal(host.stateOf(record.id), 'CANCELLED');
      for (const outcome of host.outcomes(record.id)) assert.match(outcome, /CANCELLED$/, `after ${turns} turns`);
    }
  });

  it('that a full disk keeps from beginning begin when there is room, with their targets once', async (t) => {
    for (const failing of [1, 2, 3]) {
      const host = await OperationsHost.start(t, ['a', 'b']);
      const write = host.store.write.bind(host.store);
      let writes = 0;
      host.store.write = (mutations) => {
        writes += 1;
        return writes === failing ? Promise.reject(new MusterError('exhausted', 'no room')) : write(mutations);
      };
      const started = await host.operations.start(host.wish()).catch((error: unknown) => error);
      if (failing === 1) assert.ok(started instanceof MusterError, 'nothing is stored, nothing is begun');
      await host.rest(5000);
      const [view] = host.operations.ledger.list();
      if (!view) continue;
      assert.deepEqual(host.outcomes(view.record.id), ['a DELIVERED', 'b DELIVERED']);
      assert.equal(host.commands.list().length, 2, 'a target of the first try is left');
    }
  });

  it('are retried over what failed, whatever the labels are now, and not while they go on', async (t) => {
    const host = await OperationsHost.start(t, ['a', 'b', 'c']);
    const { record } = await host.operations.start(host.wish({ strategy: { batch: '1', budget: '0' } }));
    await host.rest();
    assert.equal((await refusal(host.operations.retry(record.id, host.wish(), false))).reason, 'OPERATION_OPEN');
    await host.report('a', 'SUCCEEDED');
    await host.report('b', 'FAILED');
    assert.equal(host.stateOf(record.id), 'FAILED');
    assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b FAILED', 'c CANCELLED']);
    const again = await host.operations.retry(record.id, host.wish(), false);
    assert.deepEqual(host.outcomes(again.record.id), ['b PENDING']);
    await host.rest();
    await host.report('b', 'SUCCEEDED');
    const all = await host.operations.retry(record.id, host.wish(), true);
    assert.deepEqual(host.outcomes(all.record.id), ['b PENDING', 'c PENDING']);
    assert.equal(all.record.retryOf, record.id);
  });

  it('say that nothing is left to try again', async (t) => {
    const host = await OperationsHost.start(t, ['a']);
    const { record } = await host.operations.start(host.wish());
    await host.rest();
    await host.report('a', 'SUCCEEDED');
    const error = await refusal(host.operations.retry(record.id, host.wish(), false));
    assert.match(error.message, /no target of operation .* failed, expired or is unknown$/);
  });

  it('asked for twice with one request id are one', async (t) => {
    const host = await OperationsHost.start(t, ['a']);
    const wish = host.wish({ requestId: 'r-1' });
    const [first, second] = await Promise.all([host.operations.start(wish), host.operations.start(wish)]);
    assert.equal(first.record.id, second.record.id);
  });

  it('tried again twice with one request id are one, also when that has ended', async (t) => {
    const host = await OperationsHost.start(t, ['a']);
    const { record } = await host.operations.start(host.wish({ strategy: { budget: '1' } }));
    await host.rest();
    await host.report('a', 'FAILED');
    const asking = host.wish({ requestId: 'r-1' });
    const again = await host.operations.retry(record.id, asking, false);
    assert.equal((await host.operations.retry(record.id, asking, false)).record.id, again.record.id);
    await host.rest();
    await host.report('a', 'SUCCEEDED');
    const { id } = again.record;
    assert.equal((await host.operations.retry(id, asking, false)).record.id, id, 'nothing of it is left to try again');
  });

  it('take no endless request id', async (t) => {
    const host = await OperationsHost.start(t, ['a']);
    const error = await refusal(host.operations.start(host.wish({ requestId: 'r'.repeat(201) })));
    assert.deepEqual([error.code, error.reason], ['invalid', 'REQUEST_ID']);
    await host.operations.start(host.wish({ requestId: 'r'.repeat(200) }));
  });

  it('are not kept out by searches, however many', async (t) => {
    const host = await OperationsHost.start(t, ['a']);
    const search = { ...SEARCH };
    for (let count = 0; count < OPEN_SEARCHES_MAX; count += 1) {
      await host.operations.start(host.wish({ action: 'SEARCH', search }));
    }
    const error = await refusal(host.operations.start(host.wish({ action: 'SEARCH', search })));
    assert.equal(error.reason, 'SEARCHES_OPEN');
    const { state } = await host.operations.start(host.wish());
    assert.equal(state, 'RUNNING');
  });

  it('do not keep a center from starting on a full disk, and say that nobody knows once there is room', async (t) => {
    const host = await OperationsHost.start(t, ['a']);
    const { record } = await host.operations.start(host.wish());
    await host.rest();
    host.stop();
    const write = host.store.write.bind(host.store);
    host.store.write = () => Promise.reject(new MusterError('exhausted', 'the disk is almost full'));
    const next = await OperationsHost.start(t, ['a'], host);
    next.connected.clear();
    await next.rest(3000);
    assert.deepEqual(next.outcomes(record.id), ['a DELIVERED']);
    host.store.write = write;
    await next.rest(3000);
    assert.deepEqual(next.outcomes(record.id), ['a UNKNOWN']);
  });

  it('are hurried by no jump of the wall clock', async (t) => {
    const host = await OperationsHost.start(t, ['a', 'b']);
    const strategy = { batch: '1', targetTimeoutMs: 60_000, timeoutMs: 600_000, queueForMs: 60_000 };
    const { record } = await host.operations.start(host.wish({ strategy }));
    await host.rest(1000);
    host.clock.jumpWallClock(-3_600_000);
    await host.report('a', 'SUCCEEDED');
    await host.rest(1000);
    assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b DELIVERED']);
    host.clock.jumpWallClock(2 * 3_600_000);
    host.operations.poke();
    await host.rest(30_000);
    assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b DELIVERED']);
    await host.rest(40_000);
    assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b UNKNOWN'], 'and its time is over in time');
  });

  it('do not send again after a stop what was lost, and cancel at the end what may not have started', async (t) => {
    const host = await OperationsHost.start(t, ['a', 'b']);
    const { record } = await host.operations.start(host.wish({ strategy: { batch: '2', budget: '0' } }));
    await host.rest();
    await host.lose('a');
    await host.report('b', 'FAILED');
    assert.equal(host.stateOf(record.id), 'STOPPING');
    const { length } = host.orders;
    await host.find('a');
    assert.equal(host.orders.length, length, 'it was sent again');
    assert.deepEqual(host.outcomes(record.id), ['a CANCELLED', 'b FAILED']);

    const next = await host.operations.start(host.wish());
    await host.rest();
    await host.report('b', 'SUCCEEDED');
    await host.lose('a');
    await host.rest(PATIENCE_MS + 1);
    assert.equal(host.stateOf(next.record.id), 'PARTIAL');
    const sent = host.orders.length;
    await host.find('a');
    assert.equal(host.orders.length, sent, 'it was sent after the end');
    assert.deepEqual(host.outcomes(next.record.id), ['a CANCELLED', 'b SUCCEEDED']);
  });

  it('of a center that was restarted say of what was sent that nobody knows, until its agent is back', async (t) => {
    const host = await OperationsHost.start(t, ['a']);
    const { record } = await host.operations.start(host.wish());
    await host.rest();
    host.stop();
    const next = await OperationsHost.start(t, ['a'], host);
    assert.deepEqual(next.outcomes(record.id), ['a UNKNOWN']);
    await next.report('a', 'SUCCEEDED');
    assert.equal(next.stateOf(record.id), 'SUCCEEDED');
  });

  it('of a center that was restarted give machines time to come back before their time to wait counts', async (t) => {
    const host = await OperationsHost.start(t, ['a', 'b']);
    const { record } = await host.operations.start(host.wish({ strategy: { batch: '1', queueForMs: 1000 } }));
    await host.rest();
    await host.operations.pause(record.id, 'ann');
    await host.report('a', 'SUCCEEDED');
    host.stop();
    const next = await OperationsHost.start(t, ['a', 'b'], host);
    next.connected.clear();
    await next.operations.unpause(record.id);
    await next.rest(PATIENCE_MS - 1000);
    assert.deepEqual(next.outcomes(record.id), ['a SUCCEEDED', 'b QUEUED']);
    await next.find('b');
    assert.deepEqual(next.outcomes(record.id), ['a SUCCEEDED', 'b DELIVERED']);
  });

  it('that are paused while a large batch is being ordered leave the rest of it', async (t) => {
    const machines = Array.from({ length: 700 }, (_, index) => `m-${index}`);
    const host = await OperationsHost.start(t, machines);
    const write = host.store.write.bind(host.store);
    let writes = 0;
    host.store.write = (mutations) => {
      writes += 1;
      const [first] = host.operations.ledger.open();
      if (writes === 50 && first) void host.operations.pause(first.id, 'ann');
      return write(mutations);
    };
    const { record } = await host.operations.start(host.wish({ strategy: { batch: '100%' } }));
    await host.rest();
    assert.equal(host.stateOf(record.id), 'PAUSED');
    const { length } = host.orders;
    assert.ok(length > 0 && length < 700, `${length} were ordered`);
    await host.operations.unpause(record.id);
    await host.rest();
    assert.equal(host.orders.length, 700);
  });

  it('bake on over a restart of the center, and wait for a canary that is not back yet', async (t) => {
    const host = await OperationsHost.start(t, ['a', 'b']);
    const { record } = await host.operations.start(host.wish({ strategy: { canary: 1, bakeMs: 60_000 } }));
    await host.rest();
    await host.report('a', 'SUCCEEDED');
    await host.rest(10_000);
    host.stop();
    await host.rest();
    const next = await OperationsHost.start(t, ['a', 'b'], host);
    next.connected.clear();
    next.operations.poke();
    await next.rest(PATIENCE_MS - 1000);
    assert.equal(next.stateOf(record.id), 'RUNNING', 'a canary that is not back yet is not ill');
    await next.find('a');
    await next.find('b');
    await next.rest(30_000);
    assert.deepEqual(next.outcomes(record.id), ['a SUCCEEDED', 'b DELIVERED']);
  });

  it('wait for a canary that is connected until its agent says how it is, and no longer than patience', async (t) => {
    for (const comes of ['FATAL', 'RUNNING', undefined] as const) {
      const host = await OperationsHost.start(t, ['a', 'b']);
      const { record } = await host.operations.start(host.wish({ strategy: { canary: 1, bakeMs: 60_000 } }));
      await host.rest();
      await host.report('a', 'SUCCEEDED');
      await host.rest(50_000);
      await host.lose('a');
      host.silent.add('a');
      await host.rest(9000);
      await host.find('a');
      await host.rest(10_000);
      assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b PENDING'], 'nobody has seen it');
      if (comes !== undefined) {
        host.states.set('a', comes);
        host.silent.delete('a');
      }
      host.operations.poke();
      await host.rest(PATIENCE_MS);
      const b = comes === 'RUNNING' ? 'b DELIVERED' : 'b CANCELLED';
      assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', b], String(comes));
    }
  });

  it('stop when a canary is not well in its bake, or stays away', async (t) => {
    const strategy = { canary: 1, bakeMs: 120_000 };
    for (const ill of [true, false]) {
      const host = await OperationsHost.start(t, ['a', 'b']);
      const { record } = await host.operations.start(host.wish({ strategy }));
      await host.rest();
      await host.report('a', 'SUCCEEDED');
      if (ill) host.states.set('a', 'FATAL');
      else await host.lose('a');
      host.operations.poke();
      await host.rest(PATIENCE_MS + 1);
      assert.equal(host.stateOf(record.id), 'FAILED');
      assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b CANCELLED']);
      const { stop } = host.operations.ledger.require(record.id).record;
      assert.match(stop?.message ?? '', ill ? /it is FATAL/ : /contact with its machine is lost/);
    }
  });
});
