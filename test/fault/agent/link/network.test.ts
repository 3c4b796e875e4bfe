import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { FakeCenter } from '../../../support/fake-center.js';
import { linkedAgent, temporaryData, writeIdentity, type LinkedAgent } from '../../../support/linked-agent.js';
import { TcpProxy } from '../../../support/tcp-proxy.js';
import { waitFor } from '../../../support/waiting.js';

async function behindProxy(t: TestContext): Promise<{ center: FakeCenter; proxy: TcpProxy; agent: LinkedAgent }> {
  const center = await FakeCenter.start(t);
  const proxy = await TcpProxy.start(t, center.port);
  const data = await temporaryData(t);
  const identity = await center.issue({ principal: { kind: 'agent', machine: 'm-1' } });
  await writeIdentity({ data, center: proxy.address, identity });
  return { center, proxy, agent: await linkedAgent(t, { data }) };
}

test('a connection that went silent without an end is noticed by keepalive, and the agent comes back', async (t) => {
  const { center, proxy, agent } = await behindProxy(t);
  await (await center.session()).awaited('heartbeat');
  const seen: boolean[] = [];
  agent.link.onConnection((connected) => seen.push(connected));
  proxy.freeze();
  agent.services.set('orders', { state: 'BACKOFF', reason: 'while nobody could hear it' });
  const second = await center.session(1);
  const { instance } = await second.awaited('instanceState', (state) => state.instance?.service === 'orders');
  assert.equal(instance?.state, 'SERVICE_STATE_BACKOFF');
  assert.deepEqual(seen, [false, true]);
});

test('a command that was sent into a dying connection runs once, and its outcome arrives by the next', async (t) => {
  const { center, proxy, agent } = await behindProxy(t);
  let release = (): void => undefined;
  agent.services.before = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  const first = await center.session();
  const order = {
    $case: 'command',
    value: {
      command: 'c-1',
      action: 'ACTION_RESTART',
      service: 'orders',
      expiresIn: { seconds: 30, nanos: 0 },
      tail: undefined,
      search: undefined,
      deploy: undefined,
      rollback: undefined,
      backup: undefined,
    },
  } as const;
  await first.send(order);
  await waitFor('it runs', () => agent.services.calls.length === 1);
  proxy.freeze();
  release();
  const second = await center.session(1);
  const known = second.hello.commands.map(({ command }) => command);
  assert.deepEqual(known, ['c-1']);
  await second.send(order);
  const { outcome } = await second.awaited('commandUpdate', ({ command }) => command === 'c-1');
  assert.equal(outcome, 'OUTCOME_SUCCEEDED');
  assert.deepEqual(agent.services.calls, ['restart orders']);
});

test('a connection that is reset over and over: epochs rise, nothing is left behind', async (t) => {
  const { center, proxy, agent } = await behindProxy(t);
  for (let round = 0; round < 10; round += 1) {
    const session = await center.session(round);
    await session.awaited('heartbeat');
    proxy.cut();
  }
  // A hello is sent before the agent listens to its services, a heartbeat after.
  await (await center.session(10)).awaited('heartbeat');
  const epochs = center.sessions.map(({ hello }) => hello.sessionEpoch);
  assert.deepEqual(
    epochs,
    [...epochs].sort((a, b) => a - b),
  );
  assert.equal(new Set(epochs).size, epochs.length);
  assert.equal(agent.services.listeners, 1);
});
