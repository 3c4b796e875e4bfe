import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Counter, Gauge, Registry } from '../../../src/counter/index.js';
import { Reporter } from '../../../src/counter/reporter.js';
import { channelTransport } from '../../../src/counter/wire.js';
import { systemClock } from '../../../src/kit/clock.js';
import { systemRandom } from '../../../src/kit/random.js';
import { openChannel } from '../../../src/rpc/client.js';
import { clientsAt, MACHINE, startAgentHost, startCenterHost, type Clients } from '../../support/hops.js';
import { waitFor } from '../../support/waiting.js';

interface Site {
  readonly directory: string;
  readonly operator: Clients;
  readonly orders: Clients;
  readonly reporter: (registry: Registry) => Reporter;
}

async function startSite(t: TestContext): Promise<Site> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-counters-'));
  const [centerDirectory, agentDirectory] = [join(directory, 'center'), join(directory, 'agent')];
  const center = await startCenterHost(centerDirectory, ['orders', 'billing']);
  const address = `unix:${join(centerDirectory, 'agent.sock')}`;
  const agent = await startAgentHost(agentDirectory, { center: address, services: ['orders', 'billing'] });
  const operator = clientsAt(join(centerDirectory, 'operator.sock'));
  const orders = clientsAt(join(agentDirectory, 'orders.sock'));
  const channel = openChannel({ address: `unix:${join(agentDirectory, 'orders.sock')}` });
  t.after(async () => {
    channel.close();
    operator.close();
    orders.close();
    await agent.close();
    await center.close();
    await rm(directory, { recursive: true, force: true });
  });
  const reporter = (registry: Registry): Reporter =>
    new Reporter({
      registry,
      transport: channelTransport(channel),
      clock: systemClock,
      random: systemRandom,
      service: 'not-believed',
      warn: (message) => {
        assert.fail(message);
      },
    });
  return { directory, operator, orders, reporter };
}

describe('counters from a service to the center', () => {
  it('arrive with their labels, under the name of the socket', async (t) => {
    const { operator, reporter } = await startSite(t);
    const registry = new Registry();
    const requests = new Counter(
      'requests',
      { help: 'Requests served', unit: 'requests', labels: ['route'] },
      registry,
    );
    const level = new Gauge('level', {}, registry);
    requests.with({ route: '/' }).increment(3);
    requests.with({ route: '/x' }).increment(4);
    level.set(-1.5);
    const sender = reporter(registry);
    await sender.flush();
    const shown = await waitFor('the counter to arrive', () =>
      operator.counter.query({ service: 'orders', name: 'requests' }),
    );
    assert.deepEqual(
      shown.series.map(({ machine, machineName, labels, value }) => ({ machine, machineName, labels, value })),
      [
        { machine: MACHINE.id, machineName: MACHINE.name, labels: { route: '/' }, value: 3 },
        { machine: MACHINE.id, machineName: MACHINE.name, labels: { route: '/x' }, value: 4 },
      ],
    );
    assert.equal(shown.counter?.value, 7);
    assert.equal(shown.counter.help, 'Requests served');
    assert.equal(shown.counter.unit, 'requests');
    const { counters } = await operator.counter.listCounters({ service: '' });
    assert.deepEqual(
      counters.map(({ service, name, kind, value }) => [service, name, kind, value]),
      [
        ['orders', 'level', 'COUNTER_KIND_GAUGE', -1.5],
        ['orders', 'requests', 'COUNTER_KIND_COUNTER', 7],
      ],
    );
    assert.equal((await operator.counter.query({ service: '', name: 'level' })).counter?.service, 'orders');
  });

  it('are watched as they change, with their rate', async (t) => {
    const { operator, reporter } = await startSite(t);
    const registry = new Registry();
    const test = new Counter('test', {}, registry);
    const sender = reporter(registry);
    test.increment();
    await sender.flush();
    await waitFor('the counter to arrive', () => operator.counter.query({ service: 'orders', name: 'test' }));
    const seen: number[] = [];
    for await (const { counter, series } of operator.counter.watch({ service: 'orders', name: 'test' })) {
      seen.push(counter?.value ?? NaN);
      if (seen.length === 3) {
        assert.ok((series[0]?.ratePerSecond ?? 0) > 0, 'a rate is known after two reports');
        break;
      }
      test.increment(10);
      await sender.flush();
    }
    assert.deepEqual(seen, [1, 11, 21]);
  });

  it('are refused by name where they cannot be counted, while the others are', async (t) => {
    const { operator, orders } = await startSite(t);
    const stream = orders.counter.report();
    const definition = { help: '', unit: '', labels: {}, kind: 'COUNTER_KIND_COUNTER' as const };
    await stream.send({
      sequence: 1,
      process: { uid: 'p-1', service: 'billing', started: new Date(), resumed: false },
      definitions: [
        { ...definition, ref: 1, name: 'good' },
        { ...definition, ref: 2, name: 'not good' },
        { ...definition, ref: 3, name: 'nan' },
        { ...definition, ref: 4, name: 'negative' },
        { ...definition, ref: 5, name: 'good', kind: 'COUNTER_KIND_GAUGE' as const },
      ],
      points: [
        { ref: 1, value: 5, time: new Date() },
        { ref: 2, value: 5, time: new Date() },
        { ref: 3, value: NaN, time: new Date() },
        { ref: 4, value: -5, time: new Date() },
        { ref: 5, value: 5, time: new Date() },
        { ref: 9, value: 5, time: new Date() },
      ],
      final: false,
    });
    const answers = stream[Symbol.asyncIterator]();
    const first = await answers.next();
    assert.ok(first.done !== true);
    assert.equal(first.value.acknowledged, 1);
    assert.deepEqual(
      first.value.refused.map(({ ref, reason }) => [ref, reason]),
      [
        [2, 'INVALID_NAME'],
        [3, 'INVALID_VALUE'],
        [4, 'INVALID_VALUE'],
        [5, 'KIND_MISMATCH'],
        [9, 'UNDEFINED'],
      ],
    );
    const process = { uid: 'p-1', service: '', started: undefined, resumed: true };
    const points = [{ ref: 1, value: 4, time: new Date() }];
    await stream.send({ sequence: 2, process, definitions: [], points, final: false });
    const second = await answers.next();
    assert.ok(second.done !== true);
    assert.deepEqual(
      second.value.refused.map(({ ref, reason }) => [ref, reason]),
      [[1, 'DECREASING']],
    );
    stream.end();
    assert.equal((await answers.next()).done, true);
    await waitFor('the good one to arrive', async () => {
      const { counter } = await operator.counter.query({ service: 'orders', name: 'good' });
      return counter?.value === 5;
    });
    // The process called itself billing; the socket says orders.
    await assert.rejects(operator.counter.query({ service: 'billing', name: 'good' }), { code: 'not_found' });
  });

  it('are asked for by names that exist, or the nearest is said', async (t) => {
    const { operator, orders, reporter } = await startSite(t);
    const registry = new Registry();
    new Counter('requests', {}, registry);
    await reporter(registry).flush();
    await waitFor('the counter to arrive', () => operator.counter.query({ service: 'orders', name: 'requests' }));
    await assert.rejects(operator.counter.query({ service: 'orders', name: 'request' }), {
      code: 'not_found',
      message: /Did you mean "requests"\?/,
    });
    await assert.rejects(operator.counter.query({ service: 'order', name: 'requests' }), {
      code: 'not_found',
      message: /Did you mean "orders"\?/,
    });
    await assert.rejects(operator.counter.listCounters({ service: 'odrers' }), { message: /"orders"/ });
    assert.deepEqual((await operator.counter.listCounters({ service: 'billing' })).counters, []);
    await assert.rejects(orders.counter.query({ service: 'orders', name: 'requests' }), {
      code: 'unimplemented',
      message: /ask the center/,
    });
  });

  it('come from services and agents alone', async (t) => {
    const { operator, directory } = await startSite(t);
    const local = clientsAt(join(directory, 'agent', 'operator.sock'));
    for (const { counter } of [operator, local]) {
      const stream = counter.report();
      stream.end();
      await assert.rejects(
        async () => {
          for await (const answer of stream) assert.fail(JSON.stringify(answer));
        },
        { code: 'denied' },
      );
    }
    local.close();
  });

  it('say that a process is forgotten, and begin anew', async (t) => {
    const { orders } = await startSite(t);
    const stream = orders.counter.report();
    const process = { uid: 'p-unknown', service: '', started: undefined, resumed: true };
    await stream.send({ sequence: 1, process, definitions: [], points: [], final: false });
    await assert.rejects(
      async () => {
        for await (const answer of stream) assert.fail(JSON.stringify(answer));
      },
      { code: 'precondition', reason: 'PROCESS_FORGOTTEN' },
    );
  });
});
