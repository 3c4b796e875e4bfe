import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { MusterError } from '../../../../src/kit/errors.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';
import { FakeCenter, type FakeCenterOptions, type FakeSession } from '../../../support/fake-center.js';
import {
  linkedAgent,
  temporaryData,
  writeIdentity,
  type LinkedAgent,
  type LinkedAgentOptions,
} from '../../../support/linked-agent.js';
import { waitFor as until } from '../../../support/waiting.js';

const MANIFEST = 'name: extra\nversion: 2.0.0\ncommand: [sleep, "60"]\n';

async function site(
  t: TestContext,
  centerOptions: FakeCenterOptions = {},
  agentOptions: Partial<LinkedAgentOptions> = {},
): Promise<{ center: FakeCenter; agent: LinkedAgent; data: string }> {
  const center = await FakeCenter.start(t, centerOptions);
  const data = await temporaryData(t);
  const identity = await center.issue({ principal: { kind: 'agent', machine: 'm-1' } });
  await writeIdentity({ data, center: center.address, identity });
  return { center, data, agent: await linkedAgent(t, { data, ...agentOptions }) };
}

function order(command: string, service = 'orders'): Parameters<Awaited<ReturnType<FakeCenter['session']>>['send']>[0] {
  return {
    $case: 'command',
    value: {
      command,
      action: 'ACTION_RESTART',
      service,
      expiresIn: { seconds: 30, nanos: 0 },
      tail: undefined,
      search: undefined,
      deploy: undefined,
      rollback: undefined,
      backup: undefined,
    },
  };
}

test('a session begins with hello and goes on with inventory, instances and heartbeats, numbered without a gap', async (t) => {
  const { center, agent } = await site(t);
  const session = await center.session();
  const { hello } = session;
  assert.equal(hello.bootId, 'boot-1');
  assert.equal(hello.sessionEpoch, 1);
  assert.equal(hello.name, 'web-1');
  assert.notEqual(hello.processId, '');
  assert.deepEqual(hello.held.map(({ service, configRevision }) => `${service} ${configRevision}`).sort(), [
    'orders 3',
    'web 3',
  ]);
  await session.awaited('inventory', ({ cores }) => cores === 2);
  const { instance } = await session.awaited('instanceState', (state) => state.instance?.service === 'orders');
  assert.equal(instance?.state, 'SERVICE_STATE_RUNNING');
  assert.equal(instance.configRevision, 3);
  assert.equal(instance.configApplied, 2);
  await until('three heartbeats', () => session.all('heartbeat').length >= 3);
  assert.equal(session.all('heartbeat')[0]?.resources?.cpuPercent, 12);
  assert.deepEqual(
    session.frames.map(({ sequence }) => sequence),
    session.frames.map((_, index) => index + 1),
  );
  assert.equal(agent.link.connected, true);
});

test('changes are told at once, and a full report ends with its mark', async (t) => {
  const { center, agent } = await site(t);
  const session = await center.session();
  await session.awaited('instanceState', (state) => state.instance?.service === 'web');
  agent.services.set('orders', { state: 'FATAL', reason: 'exited 3 times' });
  await session.awaited('instanceState', (state) => state.instance?.state === 'SERVICE_STATE_FATAL');
  agent.services.remove('web');
  await session.awaited('instanceState', (state) => state.removed && state.instance?.service === 'web');
  await session.send({ $case: 'reportFull', value: {} });
  await session.awaited('instanceState', ({ fullReportEnd }) => fullReportEnd);
  const before = session.all('instanceState').length;
  await session.send({ $case: 'reportFull', value: {} });
  await until('another full report', () => session.all('instanceState').slice(before).at(-1)?.fullReportEnd);
  const report = session.all('instanceState').slice(before);
  assert.deepEqual(
    report.map(({ instance, fullReportEnd }) => (fullReportEnd ? 'end' : instance?.service)),
    ['orders', 'end'],
  );
});

test('assignments are taken once, confirmed again, refused with a reason, and taken away', async (t) => {
  const { center, agent } = await site(t);
  const session = await center.session();
  const assignment = {
    service: 'extra',
    generation: 5,
    manifest: MANIFEST,
    removed: false,
    configRevision: 9,
    configHash: 'h',
  };
  await session.send({ $case: 'assignment', value: assignment });
  await session.send({ $case: 'assignment', value: assignment });
  await session.send({ $case: 'assignment', value: { ...assignment, generation: 4 } });
  await session.awaited('applied', ({ generation, phase }) => generation === 4 && phase === 'PHASE_APPLIED');
  assert.deepEqual(agent.services.calls, ['assign extra 5']);
  await session.send({
    $case: 'assignment',
    value: { ...assignment, generation: 6, manifest: 'name: extra\ncomand: [x]\n' },
  });
  const { error } = await session.awaited('applied', ({ phase }) => phase === 'PHASE_FAILED');
  assert.match(error, /extra from the center:2:\d+/);
  await session.send({
    $case: 'assignment',
    value: { ...assignment, service: 'orders', generation: 0, manifest: '', configRevision: 10 },
  });
  await session.send({ $case: 'assignment', value: { ...assignment, generation: 7, manifest: '', removed: true } });
  await session.awaited('applied', ({ generation, phase }) => generation === 7 && phase === 'PHASE_APPLIED');
  assert.deepEqual(agent.services.calls, ['assign extra 5', 'unassign extra 7']);
  assert.ok(agent.refreshed.includes('orders 10'));
});

test('a command runs once however often it is sent, is in the next hello, and is forgotten when acknowledged', async (t) => {
  const { center, agent } = await site(t);
  const first = await center.session();
  await first.send(order('c-1'));
  await first.send(order('c-1'));
  await first.awaited('commandUpdate', ({ outcome }) => outcome === 'OUTCOME_SUCCEEDED');
  first.end();
  const second = await center.session(1);
  assert.deepEqual(
    second.hello.commands.map(({ command, outcome }) => `${command} ${outcome}`),
    ['c-1 OUTCOME_SUCCEEDED'],
  );
  await second.send(order('c-1'));
  await second.awaited('commandUpdate', ({ command }) => command === 'c-1');
  await second.send({ $case: 'commandAck', value: { command: 'c-1' } });
  await until('it is forgotten', () => agent.commands.pending().length === 0);
  await second.send(order('c-2', 'unheard-of'));
  const failed = await second.awaited('commandUpdate', ({ outcome }) => outcome === 'OUTCOME_FAILED');
  assert.match(failed.message, /no service "unheard-of"/);
  await second.send({
    $case: 'command',
    value: {
      command: 'c-3',
      action: 'UNRECOGNIZED',
      service: 'orders',
      expiresIn: undefined,
      tail: undefined,
      search: undefined,
      deploy: undefined,
      rollback: undefined,
      backup: undefined,
    },
  });
  const tooOld = await second.awaited(
    'commandUpdate',
    ({ command, outcome }) => command === 'c-3' && outcome === 'OUTCOME_FAILED',
  );
  assert.match(tooOld.message, /agent is too old/);
  assert.deepEqual(agent.services.calls, ['restart orders', 'restart unheard-of']);
});

test('a command that ends between a hello and its welcome is told all the same', async (t) => {
  const { center, agent } = await site(t);
  let release = (): void => undefined;
  agent.services.before = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  const first = await center.session();
  await first.send(order('c-1'));
  await first.awaited('commandUpdate', ({ outcome }) => outcome === 'OUTCOME_STARTED');
  center.onHello = async () => {
    release();
    await until('it has ended', () => agent.commands.pending()[0]?.outcome === 'SUCCEEDED');
    return undefined;
  };
  first.end();
  const second = await center.session(1);
  assert.deepEqual(
    second.hello.commands.map(({ outcome }) => outcome),
    ['OUTCOME_STARTED'],
  );
  const { outcome } = await second.awaited('commandUpdate', ({ command }) => command === 'c-1');
  assert.equal(outcome, 'OUTCOME_SUCCEEDED');
});

test('each session has a higher epoch and the same process id; what changed meanwhile is told', async (t) => {
  const { center, agent } = await site(t);
  const first = await center.session();
  await first.awaited('heartbeat');
  first.end(new MusterError('conflict', 'a newer session took over', { reason: 'SESSION_FENCED' }));
  await until('the loss is seen', () => agent.link.state.at !== 'live' || center.sessions.length > 1);
  agent.services.set('orders', { state: 'BACKOFF' });
  const second = await center.session(1);
  assert.equal(second.hello.sessionEpoch, first.hello.sessionEpoch + 1);
  assert.equal(second.hello.processId, first.hello.processId);
  await second.awaited('instanceState', ({ instance }) => instance?.state === 'SERVICE_STATE_BACKOFF');
  assert.ok(agent.services.listeners <= 1, 'a session that ended still listens');
});

test('an agent whose disk was put back goes on above the epoch the center has seen', async (t) => {
  const { center } = await site(t, {
    onHello: ({ sessionEpoch }) => {
      if (sessionEpoch > 40) return undefined;
      throw new MusterError('conflict', 'seen before', { reason: 'STALE_EPOCH', metadata: { epoch: '40' } });
    },
  });
  assert.equal((await center.session()).hello.sessionEpoch, 41);
});

test('a redirect is followed; when that center is gone the own one is asked again; a circle is noticed', async (t) => {
  const { center, agent } = await site(t);
  const other = await FakeCenter.start(t, { authority: center.authority });
  const first = await center.session();
  await first.send({ $case: 'redirect', value: { address: other.address } });
  await other.session();
  await until('connected there', () => agent.link.state.at === 'live' && agent.link.state.address === other.address);
  await other.stop();
  await center.session(1);
  const circle = { $case: 'redirect', value: { address: center.address } } as const;
  center.onHello = () => circle;
  center.sessions[1]?.end();
  await until(
    'the circle is said',
    () => agent.link.state.at === 'offline' && /redirect this machine/.test(agent.link.state.reason),
  );
  center.onHello = undefined;
  await center.session(2);
});

test('a redirect to nowhere is said, and the own center asked again', async (t) => {
  const { center, agent } = await site(t, {
    onHello: () => ({ $case: 'redirect', value: { address: 'not an address' } }),
  });
  await until('it is said', () => agent.link.state.at === 'offline' && /not HOST:PORT/.test(agent.link.state.reason));
  center.onHello = undefined;
  await center.session();
});

test('a disk without room keeps the agent from connecting, not from living', async (t) => {
  const store = await openMemoryStore();
  let full = true;
  const write: Store['write'] = (mutations) =>
    full ? Promise.reject(new MusterError('exhausted', 'the disk is full')) : store.write(mutations);
  const tight: Store = {
    revision: 0,
    failed: store.failed,
    get: (key) => store.get(key),
    range: (range) => store.range(range),
    watch: (prefix, signal) => store.watch(prefix, signal),
    close: () => store.close(),
    write,
  };
  const { center, agent } = await site(t, {}, { store: tight });
  await until('it is said', () => agent.link.state.at === 'offline' && /disk is full/.test(agent.link.state.reason));
  full = false;
  await center.session();
});

test('a center that accepts and then says nothing is given up', async (t) => {
  const { center, agent } = await site(
    t,
    { onHello: () => 'silence' },
    { timings: { welcomeMs: 100, retryInitialMs: 20, retryMaxMs: 50 } },
  );
  await until('it is said', () => agent.link.state.at !== 'live' && /said nothing/.test(agent.link.state.reason));
  center.onHello = undefined;
  await center.session();
});

test('stopping says goodbye', async (t) => {
  const { center, agent } = await site(t);
  const session = await center.session();
  await agent.stop();
  assert.equal(agent.link.connected, false);
  assert.equal(session.ended, 'goodbye');
  assert.equal(agent.services.listeners, 0);
});

test('a center that is away is said with its address, and found when it comes', async (t) => {
  const { center, agent } = await site(t);
  await center.session();
  const seen: boolean[] = [];
  agent.link.onConnection((connected) => seen.push(connected));
  await center.stop();
  await until(
    'the refusal is seen',
    () => agent.link.state.at !== 'live' && /connection refused/.test(agent.link.state.reason),
  );
  const again = await FakeCenter.start(t, { authority: center.authority, port: center.port });
  await again.session();
  await until('connected', () => agent.link.connected);
  assert.deepEqual(seen, [false, true]);
});

test('a machine that is not joined says so, and connects when it is', async (t) => {
  const center = await FakeCenter.start(t);
  const data = await temporaryData(t);
  const agent = await linkedAgent(t, { data });
  assert.equal(agent.link.channel(), undefined);
  await until(
    'it says so',
    () => agent.link.state.at === 'offline' && /muster agent join/.test(agent.link.state.reason),
  );
  const identity = await center.issue({ principal: { kind: 'agent', machine: 'm-1' } });
  await writeIdentity({ data, center: center.address, identity });
  await center.session();
});

test('an expired certificate is said with what to do, without dialing, and joining again helps', async (t) => {
  const center = await FakeCenter.start(t);
  const data = await temporaryData(t);
  const validity = { notBefore: new Date(Date.now() - 2e6), notAfter: new Date(Date.now() - 1e6) };
  const expired = await center.issue({ principal: { kind: 'agent', machine: 'm-1' }, validity });
  await writeIdentity({ data, center: center.address, identity: expired });
  const agent = await linkedAgent(t, { data });
  await until(
    'it is said',
    () => agent.link.state.at === 'offline' && /muster token create --machine web-1/.test(agent.link.state.reason),
  );
  assert.equal(center.sessions.length, 0);
  const fresh = await center.issue({ principal: { kind: 'agent', machine: 'm-1' } });
  await writeIdentity({ data, center: center.address, identity: fresh });
  await center.session();
});

interface Renewing {
  readonly center: FakeCenter;
  readonly agent: LinkedAgent;
  readonly first: FakeSession;
  /** Every change of being connected. */
  readonly seen: boolean[];
  readonly renew: () => Promise<void>;
}

async function renewing(t: TestContext): Promise<Renewing> {
  const { center, agent, data } = await site(t);
  const first = await center.session();
  await until('it is live', () => agent.link.connected);
  const seen: boolean[] = [];
  agent.link.onConnection((connected) => seen.push(connected));
  const renew = async (): Promise<void> => {
    const identity = await center.issue({ principal: { kind: 'agent', machine: 'm-1' } });
    await writeIdentity({ data, center: center.address, identity });
    await agent.identity.refresh();
  };
  return { center, agent, first, seen, renew };
}

test('a renewed certificate moves the session to a new connection, which is welcomed before the old one ends', async (t) => {
  const { center, agent, first, seen, renew } = await renewing(t);
  let before: FakeSession['ended'];
  center.onHello = () => {
    before = first.ended;
    return undefined;
  };
  await renew();
  const second = await center.session(1);
  await second.awaited('heartbeat');
  assert.equal(before, undefined);
  assert.deepEqual([second.hello.processId, second.hello.sessionEpoch], [first.hello.processId, 2]);
  await until('the end of the old one', () => first.ended);
  assert.notEqual(first.ended, 'goodbye');
  assert.deepEqual(seen, []);
  await until('nothing of it is left', () => agent.services.listeners === 1);
  await renew();
  await (await center.session(2)).awaited('heartbeat');
  await until('the end of the second', () => second.ended);
  await agent.stop();
  await until('its goodbye', () => center.sessions[2]?.ended === 'goodbye');
  assert.deepEqual(seen, [false]);
});

test('a command that comes while the session is being renewed is left to the new one, whose hello does not have it', async (t) => {
  const { center, agent, first, renew } = await renewing(t);
  center.onHello = async () => {
    await first.send(order('c-1'));
    await first.send({ $case: 'reportFull', value: {} });
    first.end(new MusterError('conflict', 'a newer session took over', { reason: 'SESSION_FENCED' }));
    await until('the end of the old one', () => first.ended);
    return undefined;
  };
  await renew();
  const second = await center.session(1);
  assert.deepEqual([second.hello.commands, agent.services.calls], [[], []]);
  await second.send(order('c-1'));
  await second.awaited('commandUpdate', ({ outcome }) => outcome === 'OUTCOME_SUCCEEDED');
  assert.deepEqual(agent.services.calls, ['restart orders']);
});

test('a session goes on when its successor is refused, takes commands, and is followed when that is possible', async (t) => {
  const { center, agent, first, seen, renew } = await renewing(t);
  const SEEN_EPOCH = 40;
  let refusals = 0;
  let possible = false;
  center.onHello = ({ sessionEpoch }) => {
    if (possible && sessionEpoch > SEEN_EPOCH) return undefined;
    refusals += 1;
    throw new MusterError('conflict', 'seen before', {
      reason: 'STALE_EPOCH',
      metadata: { epoch: String(SEEN_EPOCH) },
    });
  };
  await renew();
  await until('it was refused', () => refusals > 0);
  // The old session lives for as long as no successor is taken, so what is sent on it arrives.
  await first.send(order('c-1'));
  possible = true;
  const second = await center.session(1);
  assert.ok(second.hello.sessionEpoch > SEEN_EPOCH);
  await until('the end of the old one', () => first.ended);
  assert.deepEqual(seen, []);
  await second.send(order('c-1'));
  await second.awaited('commandUpdate', ({ outcome }) => outcome === 'OUTCOME_SUCCEEDED');
  assert.deepEqual(agent.services.calls, ['restart orders']);
});

test('a session that is lost while its successor is refused is a session lost', async (t) => {
  const { center, agent, first, seen, renew } = await renewing(t);
  center.onHello = () => {
    first.end();
    throw new MusterError('unavailable', 'not now');
  };
  await renew();
  await until('it is seen', () => seen.includes(false));
  center.onHello = undefined;
  await (await center.session(1)).awaited('heartbeat');
  assert.equal(agent.link.connected, true);
});

test('a log is sent in a call of its own and ends with its reader', async (t) => {
  const { center } = await site(t);
  const session = await center.session();
  await session.send({
    $case: 'command',
    value: {
      command: 't-1',
      action: 'ACTION_UNSPECIFIED',
      service: 'orders',
      expiresIn: undefined,
      tail: { lines: 5, follow: false, position: '', file: '' },
      search: undefined,
      deploy: undefined,
      rollback: undefined,
      backup: undefined,
    },
  });
  await until('the line', () => center.uploads.some(({ lines }) => lines[0]?.text === 'one line'));
  assert.equal(center.uploads[0]?.command, 't-1');
  assert.deepEqual(center.uploads[1]?.lines[0], {
    machineName: 'web-1',
    service: 'orders',
    file: 'orders.log',
    text: 'one line',
    notice: false,
    position: 'p-1',
  });
});

test('a log that cannot be read is answered with why, and one that is cancelled ends', async (t) => {
  let reading = 0;
  const { center } = await site(
    t,
    {},
    {
      tail: async function* ({ service }, signal) {
        if (service === 'web') throw new MusterError('not_found', 'web has no log yet');
        reading += 1;
        yield [{ file: 'a.log', text: 'a', notice: false, position: '' }];
        await new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => {
            resolve();
          });
        });
        reading -= 1;
      },
    },
  );
  const session = await center.session();
  const tail = (command: string, service: string) =>
    session.send({
      $case: 'command',
      value: {
        command,
        action: 'ACTION_UNSPECIFIED',
        service,
        expiresIn: undefined,
        tail: { lines: 5, follow: true, position: '', file: '' },
        search: undefined,
        deploy: undefined,
        rollback: undefined,
        backup: undefined,
      },
    });
  await tail('t-1', 'web');
  await until('why', () => center.uploads.some(({ error }) => error.includes('no log yet')));
  await tail('t-2', 'orders');
  await until('it reads', () => reading === 1);
  await session.send({ $case: 'cancel', value: { command: 't-2' } });
  await until('it has ended', () => reading === 0);
});
