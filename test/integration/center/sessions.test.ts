import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { ConfigService, PublishRequest } from '../../../generated/muster/v1/config.js';
import type { Alert } from '../../../generated/muster/v1/types.js';
import { silenceLimit } from '../../../src/center/gateway/pace.js';
import { systemClock } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import { fromDuration } from '../../../src/wire/time.js';
import { TestCenter } from '../../support/center.js';
import { FakeAgent, joinAs } from '../../support/fake-agent.js';
import { waitFor } from '../../support/waiting.js';

async function agent(t: TestContext, center: TestCenter, name: string, labels = {}): Promise<FakeAgent> {
  const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
  const identified = await joinAs(center.address, { token: await center.token(), name, labels, caPem });
  return new FakeAgent(t, center.address, name, identified);
}

/** The same identity after the center listens elsewhere, or in a second process. */
function copyOf(t: TestContext, center: TestCenter, original: FakeAgent): FakeAgent {
  const { machine, name, identity } = original;
  return new FakeAgent(t, center.address, name, { machine, identity, site: '' });
}

async function alerts(center: TestCenter, kind: string): Promise<Alert[]> {
  const { alerts: all } = await center.operator.listAlerts({ includeCleared: false, pageSize: 0, pageToken: '' });
  return all.filter((alert) => alert.kind === kind);
}

function reasonOf(error: unknown): string | undefined {
  return error instanceof MusterError ? error.reason : String(error);
}

describe('sessions', () => {
  it('welcomes an agent and shows its machine online, then offline with its last contact', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agent(t, center, 'web-1', { role: 'web' });
    const stream = await one.connect({ agentVersion: '9.9.9' });
    const welcome = await stream.awaited('welcome');
    assert.equal(welcome.machineName, 'web-1');
    assert.equal(fromDuration(welcome.heartbeatInterval), 500);
    const online = await center.operator.getMachine({ machine: 'web-1' });
    assert.deepEqual([online.online, online.agentVersion, online.labels], [true, '9.9.9', { role: 'web' }]);
    await stream.leave();
    const offline = await waitFor('offline', async () => {
      const machine = await center.operator.getMachine({ machine: 'web-1' });
      return machine.online ? undefined : machine;
    });
    assert.ok(offline.lastContact && offline.lastContact >= (online.connected ?? new Date(0)));
  });

  it('refuses a first frame that is no hello, and frames out of sequence', async (t) => {
    const center = await TestCenter.start(t, { heartbeatMs: 600_000 });
    const one = await agent(t, center, 'a');
    const stream = await one.connect();
    await stream.send({ $case: 'heartbeat', value: { resources: undefined, now: undefined } }, 7);
    assert.equal(reasonOf(await stream.failure()), 'SEQUENCE');
    const other = await one.open({ processId: '' });
    assert.equal(reasonOf(await other.failure()), 'NO_HELLO');
  });

  it('fences an older stream of the same agent: what it still says changes nothing', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agent(t, center, 'a');
    const old = await one.connect();
    await old.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING' });
    const fresh = await one.connect();
    await fresh.report({ service: 'orders', state: 'SERVICE_STATE_FATAL' });
    await old.report({ service: 'orders', state: 'SERVICE_STATE_STOPPED' }).catch(() => undefined);
    await old.report({ service: 'ghost', state: 'SERVICE_STATE_RUNNING' }).catch(() => undefined);
    assert.equal(reasonOf(await old.failure()), 'SESSION_FENCED');
    await waitFor('the newer word', async () => {
      const { state } = await center.operator.getInstance({ machine: 'a', service: 'orders' });
      return state === 'SERVICE_STATE_FATAL';
    });
    const { instances } = await center.operator.listInstances({
      pageSize: 0,
      pageToken: '',
      service: '',
      selector: '',
      module: '',
      moduleVersion: '',
      version: '',
    });
    assert.deepEqual(
      instances.map(({ service }) => service),
      ['orders'],
    );
    assert.equal((await center.operator.getMachine({ machine: 'a' })).online, true);
  });

  it('refuses an epoch it has seen, also after a restart, and says which is the newest', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agent(t, center, 'a');
    await (await one.connect({ sessionEpoch: 7 })).leave();
    await center.stop();
    await center.start();
    const back = copyOf(t, center, one);
    const refused = await (await back.open({ sessionEpoch: 7 })).failure();
    assert.equal(reasonOf(refused), 'STALE_EPOCH');
    assert.ok(refused instanceof MusterError);
    assert.equal(refused.metadata['epoch'], '7');
    await (await back.connect({ sessionEpoch: 8 })).leave();
  });

  it('tells two live agents with one identity, raises an alert, and keeps the one that was there', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agent(t, center, 'a');
    const stream = await one.connect();
    const beating = setInterval(() => void stream.beat().catch(() => undefined), 100);
    t.after(() => {
      clearInterval(beating);
    });
    const copy = copyOf(t, center, one);
    const refused = await (await copy.open({ sessionEpoch: 50 })).failure();
    assert.equal(reasonOf(refused), 'DUPLICATE_IDENTITY');
    assert.equal((await stream.awaited('notice')).reason, 'DUPLICATE_IDENTITY');
    const [alert] = await waitFor('the alert', async () => {
      const raised = await alerts(center, 'duplicate_identity');
      return raised.length > 0 && raised;
    });
    assert.equal(alert?.machineName, 'a');
    assert.equal(stream.ended, undefined);
  });

  it('takes a restarted agent in when its former stream is dead but not yet gone', async (t) => {
    const center = await TestCenter.start(t, { heartbeatMs: 20_000 });
    const one = await agent(t, center, 'a');
    const silent = await one.connect();
    const restarted = copyOf(t, center, one);
    const stream = await restarted.connect({ sessionEpoch: 2 });
    assert.equal(reasonOf(await silent.failure()), 'SESSION_FENCED');
    assert.equal((await alerts(center, 'duplicate_identity')).length, 0);
    await stream.leave();
  });

  it('gives a silent session up after three beats and raises machine_offline, cleared by its return', async (t) => {
    const center = await TestCenter.start(t, { heartbeatMs: 300 });
    const one = await agent(t, center, 'a');
    const stream = await one.connect();
    await stream.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING', health: 'HEALTH_PASSING', wanted: true });
    assert.equal(reasonOf(await stream.failure()), 'HEARTBEATS_MISSED');
    await waitFor('machine_offline', async () => (await alerts(center, 'machine_offline')).length === 1);
    const away = await center.operator.getInstance({ machine: 'a', service: 'orders' });
    assert.ok(away.unknownSince);
    assert.equal(away.state, 'SERVICE_STATE_RUNNING');
    const back = await one.connect();
    const beating = setInterval(() => void back.beat().catch(() => undefined), 100);
    t.after(() => {
      clearInterval(beating);
    });
    await waitFor('the end of machine_offline', async () => (await alerts(center, 'machine_offline')).length === 0);
    await back.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING' });
    await waitFor('known again', async () => {
      const { unknownSince } = await center.operator.getInstance({ machine: 'a', service: 'orders' });
      return unknownSince === undefined;
    });
  });

  it('knows after a restart what was, as unknown since the last contact', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agent(t, center, 'a', { role: 'web' });
    const stream = await one.connect();
    await stream.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING', pid: 4711 });
    await waitFor('the instance', () => center.operator.getInstance({ machine: 'a', service: 'orders' }));
    const counts = async (): Promise<number[]> => {
      const { instances, instancesRunning, instancesUnknown } = await center.operator.getStatus({});
      return [instances, instancesRunning, instancesUnknown];
    };
    assert.deepEqual(await counts(), [1, 1, 0]);
    await center.stop();
    await center.start();
    assert.deepEqual(await counts(), [1, 0, 1]);
    const known = await center.operator.getInstance({ machine: 'a', service: 'orders' });
    assert.deepEqual([known.pid, known.state, known.labels], [4711, 'SERVICE_STATE_RUNNING', { role: 'web' }]);
    assert.ok(known.unknownSince);
    const back = copyOf(t, center, one);
    const again = await back.connect({ sessionEpoch: 5 });
    await again.endFullReport();
    await waitFor('what was not told again to be gone', async () => {
      const { instances } = await center.operator.listInstances({
        pageSize: 0,
        pageToken: '',
        service: '',
        selector: '',
        module: '',
        moduleVersion: '',
        version: '',
      });
      return instances.length === 0;
    });
  });

  it('does not call a machine offline right after its own start', async (t) => {
    const heartbeatMs = 1500;
    const center = await TestCenter.start(t, { heartbeatMs });
    await (await (await agent(t, center, 'a')).connect()).leave();
    await center.stop();
    const startedMs = systemClock.now();
    await center.start();
    const alert = await waitFor('the alert after the grace', async () => (await alerts(center, 'machine_offline'))[0]);
    const afterMs = (alert.raised?.getTime() ?? 0) - startedMs;
    assert.ok(afterMs >= silenceLimit(heartbeatMs), `it was raised ${afterMs} ms after the start`);
  });

  it('raises and clears what reports say: port, ping, restarts, FATAL, clock', async (t) => {
    const center = await TestCenter.start(t, { heartbeatMs: 60_000 });
    const one = await agent(t, center, 'a');
    const stream = await one.connect({ now: new Date(Date.now() + 120_000) });
    const check = (name: string, health: 'HEALTH_CRITICAL' | 'HEALTH_WARNING' | 'HEALTH_PASSING') => ({
      name,
      kind: 'tcp',
      health,
      since: undefined,
      lastRun: undefined,
      took: undefined,
      output: 'refused',
      streak: 1,
    });
    const kinds = async (): Promise<string[]> => {
      const { alerts: open } = await center.operator.listAlerts({ includeCleared: false, pageSize: 0, pageToken: '' });
      return open.map(({ kind }) => kind).sort();
    };
    const until = async (expected: string[]): Promise<void> => {
      await waitFor(`alerts ${expected.join()}`, async () => (await kinds()).join() === expected.join());
    };
    await until(['clock_skew']);
    const wanted = { service: 'orders', wanted: true, state: 'SERVICE_STATE_RUNNING' } as const;
    await stream.report({
      ...wanted,
      checks: [check('port http', 'HEALTH_CRITICAL'), check('ping', 'HEALTH_CRITICAL')],
    });
    await until(['clock_skew', 'ping_failing', 'port_down']);
    await stream.report({ ...wanted, checks: [check('port http', 'HEALTH_PASSING'), check('ping', 'HEALTH_WARNING')] });
    await until(['clock_skew', 'ping_failing']);
    await stream.report({ ...wanted, state: 'SERVICE_STATE_BACKOFF', reason: 'exit code 1', checks: [] });
    await until(['clock_skew', 'ping_failing', 'service_restarting']);
    await stream.report({
      service: 'orders',
      wanted: true,
      state: 'SERVICE_STATE_FATAL',
      reason: 'no such file',
      checks: [],
    });
    await until(['clock_skew', 'ping_failing', 'service_fatal']);
    await stream.report({ ...wanted, checks: [] });
    await until(['clock_skew']);
    await stream.beat(new Date());
    await until([]);
    await stream.beat(new Date(Date.now() - 40_000));
    await until(['clock_skew']);
    const { alerts: all } = await center.operator.listAlerts({ includeCleared: true, pageSize: 0, pageToken: '' });
    assert.equal(all.length, 6);
    assert.equal(all.filter(({ cleared }) => cleared).length, 5);
  });

  it('sends agents elsewhere when told to', async (t) => {
    const center = await TestCenter.start(t, { redirect: 'elsewhere:7400' });
    const stream = await (await agent(t, center, 'a')).open();
    assert.equal((await stream.awaited('redirect')).address, 'elsewhere:7400');
    assert.equal(await stream.failure(), undefined);
    assert.equal(stream.all('welcome').length, 0);
  });

  it('ends its sessions when it stops, and says so', async (t) => {
    const center = await TestCenter.start(t);
    const stream = await (await agent(t, center, 'a')).connect();
    await center.stop();
    assert.equal(reasonOf(await stream.failure()), 'STOPPING');
  });
});

describe('services and labels', () => {
  const manifest = (name: string, command = 'sleep'): string =>
    `name: ${name}\nversion: 1.0.0\ncommand: [${command}, "60"]\n`;

  it('assigns by selector, now and later, and takes away what no longer matches', async (t) => {
    const center = await TestCenter.start(t);
    const web = await agent(t, center, 'web-1', { role: 'web' });
    const stream = await web.connect();
    const put = await center.operator.putService({
      manifest: manifest('orders'),
      selector: 'role=web',
      etag: 'new',
      validateOnly: false,
    });
    assert.equal(put.machines, 1);
    const first = await stream.awaited('assignment', ({ service }) => service === 'orders');
    assert.deepEqual([first.generation, first.removed, first.manifest], [1, false, manifest('orders')]);
    await center.operator.updateMachine({ machine: 'web-1', setLabels: { role: 'db' }, removeLabels: [] });
    const taken = await stream.awaited('assignment', ({ removed }) => removed);
    assert.equal(taken.generation, 2);
    await center.operator.updateMachine({ machine: 'web-1', setLabels: { role: 'web' }, removeLabels: [] });
    await stream.awaited('assignment', ({ generation, removed }) => generation === 3 && !removed);
    const late = await (await agent(t, center, 'web-2', { role: 'web' })).connect();
    await late.awaited('assignment', ({ service }) => service === 'orders');
    assert.equal((await center.operator.getService({ service: 'orders' })).machines, 2);
  });

  it('tells a returning agent only what differs', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agent(t, center, 'a');
    await center.operator.putService({ manifest: manifest('kept'), selector: '', etag: '', validateOnly: false });
    await center.operator.putService({ manifest: manifest('old'), selector: '', etag: '', validateOnly: false });
    await center.operator.putService({ manifest: manifest('gone'), selector: '', etag: '', validateOnly: false });
    const held = ['kept', 'old', 'gone'].map((service) => ({ service, generation: 1, configRevision: 0 }));
    await center.operator.putService({ manifest: manifest('old', 'cat'), selector: '', etag: '', validateOnly: false });
    await center.operator.removeService({ service: 'gone' });
    const stream = await one.connect({ held: [...held, { service: 'own', generation: 0, configRevision: 0 }] });
    await stream.awaited('assignment', ({ service, generation }) => service === 'old' && generation === 2);
    await stream.awaited('assignment', ({ service, removed }) => service === 'gone' && removed);
    assert.equal(stream.all('assignment').length, 2);
  });

  it('goes above what an agent holds from a center with a newer disk, and leaves alone what it never knew', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agent(t, center, 'a');
    await center.operator.putService({ manifest: manifest('orders'), selector: '', etag: '', validateOnly: false });
    const held = [
      { service: 'orders', generation: 41, configRevision: 0 },
      { service: 'unheard', generation: 3, configRevision: 0 },
    ];
    const stream = await one.connect({ held });
    assert.equal((await stream.awaited('assignment')).generation, 42);
    assert.equal(
      stream.all('assignment').some(({ service }) => service === 'unheard'),
      false,
    );
  });

  it('refuses a bad manifest with its line and column, a bad selector and a stale etag', async (t) => {
    const center = await TestCenter.start(t);
    const put = (fields: { manifest: string; selector?: string; etag?: string }) =>
      center.operator.putService({ selector: '', etag: '', validateOnly: false, ...fields });
    await assert.rejects(put({ manifest: 'name: Orders!\nversion: 1.0.0\ncommand: sleep\n' }), /:1:7/);
    await assert.rejects(put({ manifest: manifest('orders'), selector: 'role=web;' }), /column 9/);
    const stored = await put({ manifest: manifest('orders') });
    await assert.rejects(put({ manifest: manifest('orders'), etag: 'new' }), {
      reason: 'ETAG_MISMATCH',
      code: 'conflict',
    });
    const second = await put({ manifest: manifest('orders'), etag: stored.etag });
    await assert.rejects(put({ manifest: manifest('orders'), etag: stored.etag }), { reason: 'ETAG_MISMATCH' });
    assert.equal(second.generation, 2);
    await assert.rejects(center.operator.getService({ service: 'order' }), /Did you mean "orders"/);
    await center.operator.removeService({ service: 'orders' });
    await assert.rejects(center.operator.getService({ service: 'orders' }), { code: 'not_found' });
  });

  it('tells agents of a new configuration, also of services they declare themselves, and once', async (t) => {
    const center = await TestCenter.start(t, { heartbeatMs: 60_000 });
    const one = await agent(t, center, 'a');
    const stream = await one.connect();
    await stream.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING' });
    await waitFor('the instance', () => center.operator.getInstance({ machine: 'a', service: 'orders' }));
    const channel = openChannel({ address: `unix:${center.ready.adminSocket}` });
    t.after(() => {
      channel.close();
    });
    const text = 'greeting: hello\n';
    const scope = { service: 'orders', machine: '' };
    const document = await createClient(ConfigService, channel).publish(PublishRequest.fromPartial({ scope, text }));
    const told = await stream.awaited('assignment');
    assert.deepEqual([told.service, told.generation, told.manifest], ['orders', 0, '']);
    assert.equal(told.configRevision, document.revision);
    assert.notEqual(told.configHash, '');
    await stream.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING' });
    await stream.report({ service: 'late', state: 'SERVICE_STATE_RUNNING' });
    await waitFor('the next', () => center.operator.getInstance({ machine: 'a', service: 'late' }));
    assert.equal(stream.all('assignment').length, 1);
    await stream.leave();
    const held = [{ service: 'orders', generation: 0, configRevision: document.revision }];
    const knowing = await one.connect({ held });
    await knowing.report({ service: 'orders', configRevision: document.revision });
    await knowing.leave();
    assert.equal(knowing.all('assignment').length, 0);
    const forgetful = await one.connect({ held: [{ service: 'orders', generation: 0, configRevision: 0 }] });
    assert.equal((await forgetful.awaited('assignment')).configRevision, document.revision);
  });

  it('raises an alert for an assignment that its agent cannot apply', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agent(t, center, 'a');
    const stream = await one.connect();
    await center.operator.putService({ manifest: manifest('orders'), selector: '', etag: '', validateOnly: false });
    const { generation } = await stream.awaited('assignment');
    const applied = (phase: 'PHASE_FAILED' | 'PHASE_APPLIED', error: string) =>
      stream.send({ $case: 'applied', value: { service: 'orders', generation, phase, error } });
    await applied('PHASE_FAILED', 'no such user');
    const [alert] = await waitFor('assignment_failed', async () => {
      const raised = await alerts(center, 'assignment_failed');
      return raised.length > 0 && raised;
    });
    assert.match(alert?.message ?? '', /no such user/);
    await applied('PHASE_APPLIED', '');
    await waitFor('its end', async () => (await alerts(center, 'assignment_failed')).length === 0);
  });

  it('lists by selector with stable pages and names what nothing has', async (t) => {
    const center = await TestCenter.start(t);
    for (const name of ['a', 'b', 'c']) await agent(t, center, name, { role: name === 'c' ? 'db' : 'web' });
    const page = await center.operator.listMachines({ pageSize: 1, pageToken: '', selector: 'role=web' });
    assert.deepEqual(
      page.machines.map(({ name }) => name),
      ['a'],
    );
    const rest = await center.operator.listMachines({
      pageSize: 5,
      pageToken: page.nextPageToken,
      selector: 'role=web',
    });
    assert.deepEqual([rest.machines.map(({ name }) => name), rest.nextPageToken], [['b'], '']);
    await assert.rejects(
      center.operator.listMachines({ pageSize: 0, pageToken: '', selector: 'rol=web' }),
      /Did you mean "role"/,
    );
    await assert.rejects(center.operator.listMachines({ pageSize: 0, pageToken: 'x', selector: '' }), {
      reason: 'PAGE_TOKEN',
    });
    await assert.rejects(center.operator.getMachine({ machine: 'd' }), /no machine "d"/);
  });

  it('watches: first all, then changes, then what is gone', async (t) => {
    const center = await TestCenter.start(t);
    await agent(t, center, 'a');
    const controller = new AbortController();
    const frames: { snapshot: boolean; names: string[]; removed: string[] }[] = [];
    const watching = (async () => {
      for await (const frame of center.operator.watchMachines({}, { signal: controller.signal })) {
        frames.push({
          snapshot: frame.snapshot,
          names: frame.machines.map(({ name }) => name),
          removed: frame.removed,
        });
      }
    })();
    await waitFor('the snapshot', () => frames.length > 0);
    assert.deepEqual(frames[0], { snapshot: true, names: ['a'], removed: [] });
    const b = await agent(t, center, 'b');
    await waitFor('the new machine', () => frames.some(({ names }) => names.includes('b')));
    await center.operator.removeMachine({ machine: 'b' });
    await waitFor('its end', () => frames.some(({ removed }) => removed.includes(b.machine)));
    controller.abort();
    await assert.rejects(watching);
  });
});
