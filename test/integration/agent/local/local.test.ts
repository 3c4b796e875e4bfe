import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { AgentService, TailLocalLogRequest } from '../../../../generated/muster/v1/agent.js';
import { ConfigService } from '../../../../generated/muster/v1/config.js';
import { CounterService } from '../../../../generated/muster/v1/counter.js';
import { LOCAL_ACCESS } from '../../../../src/agent/local/access.js';
import { listenLocally } from '../../../../src/agent/local/listening.js';
import { isCode, MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { RpcServer } from '../../../../src/rpc/server.js';
import type { Definition } from '../../../../src/rpc/types.js';
import { createAuthority } from '../../../support/certificates.js';
import { http, localAgent } from '../../../support/local-agent.js';
import { waitFor } from '../../../support/waiting.js';

const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

interface JsonInstance {
  readonly service: string;
  readonly state: string;
  readonly machineName: string;
  readonly configRevision?: number | string;
}

test('every method that is served has its line in the table of access, and no other has', () => {
  const definitions: readonly Definition[] = [AgentService, ConfigService, CounterService];
  const served = definitions.flatMap((definition) => Object.values(definition).map(({ path }) => path.slice(1)));
  assert.deepEqual(Object.keys(LOCAL_ACCESS).sort(), served.sort());
});

test('HTTP: looking, acting, and what is wrong', async (t) => {
  const { listening, services } = await localAgent(t);
  const ask = (method: string, path: string) => http({ socketPath: listening.socket, method, path });
  const list = JSON.parse((await ask('GET', '/services')).body) as { instances: JsonInstance[]; broken: unknown[] };
  assert.deepEqual(
    list.instances.map(({ service }) => service),
    ['orders', 'web'],
  );
  assert.equal(list.broken.length, 1);
  const one = JSON.parse((await ask('GET', '/services/orders')).body) as JsonInstance;
  assert.equal(one.state, 'SERVICE_STATE_RUNNING');
  assert.equal(one.machineName, 'web-1');
  assert.equal(Number(one.configRevision), 3);

  const stopped = await ask('POST', '/services/orders/stop');
  assert.equal(stopped.status, 200);
  assert.equal((JSON.parse(stopped.body) as JsonInstance).state, 'SERVICE_STATE_STOPPED');
  assert.equal((await ask('POST', '/services/orders/start')).status, 200);
  assert.equal((await ask('POST', '/services/orders/restart')).status, 200);
  assert.deepEqual(services.calls, ['stop orders', 'start orders', 'restart orders']);

  services.before = () => Promise.reject(new MusterError('precondition', 'it exited with 1', { reason: 'EXITED' }));
  const failed = await ask('POST', '/services/orders/start');
  assert.equal(failed.status, 412);
  assert.deepEqual(JSON.parse(failed.body), {
    code: 'precondition',
    reason: 'EXITED',
    message: 'it exited with 1',
    fields: [],
  });
  assert.equal((await ask('POST', '/services/unheard-of/start')).status, 404);
  assert.match((await ask('GET', '/servcies')).body, /GET \/services\/NAME/);
  assert.equal((await ask('GET', '/services/%zz')).status, 400);
});

test('HTTP: GET changes nothing, whatever the path', async (t) => {
  const { listening, services } = await localAgent(t);
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']) {
    const answer = await http({ socketPath: listening.socket, method, path: '/services/orders/stop' });
    assert.equal(answer.status, 405, method);
    assert.equal(answer.headers['allow'], 'POST');
  }
  const answer = await http({ socketPath: listening.socket, method: 'POST', path: '/services/orders' });
  assert.equal(answer.status, 405);
  assert.equal(answer.headers['allow'], 'GET, HEAD');
  assert.deepEqual(services.calls, []);
  assert.equal((await http({ socketPath: listening.socket, method: 'HEAD', path: '/services' })).body, '');
});

test('HTTP: web pages are refused, over the socket and on loopback, with the token or without', async (t) => {
  const { listening, services } = await localAgent(t);
  const token = (await readFile(listening.tokenFile, 'utf8')).trim();
  const places = [
    { socketPath: listening.socket },
    { port: listening.loopbackHttp ?? 0 },
    { port: listening.loopbackGrpc ?? 0 },
  ];
  const foreign = [
    { host: 'evil.example' },
    { host: 'localhost.evil.example:7580' },
    { host: 'localhost', origin: 'http://evil.example' },
    { host: 'localhost', origin: 'null' },
    { host: 'localhost', 'sec-fetch-site': 'cross-site' },
  ];
  for (const place of places) {
    for (const headers of foreign) {
      const answer = await http({
        ...place,
        method: 'POST',
        path: '/services/orders/stop',
        headers: { ...headers, authorization: `Bearer ${token}` },
      });
      assert.equal(answer.status, 403, JSON.stringify(headers));
    }
  }
  assert.deepEqual(services.calls, []);
});

test('loopback: only with the token of the file, over HTTP and gRPC', async (t) => {
  const { listening, client, services } = await localAgent(t);
  const token = (await readFile(listening.tokenFile, 'utf8')).trim();
  assert.equal((await stat(listening.tokenFile)).mode & 0o777, 0o600);
  const post = (headers: Record<string, string>) =>
    http({ port: listening.loopbackHttp ?? 0, method: 'POST', path: '/services/orders/restart', headers });
  assert.equal((await post({})).status, 401);
  assert.equal((await post({ authorization: `Bearer ${token.replace(/.$/, '!')}` })).status, 401);
  assert.deepEqual(services.calls, []);
  assert.equal((await post({ authorization: `Bearer ${token}` })).status, 200);
  const address = `127.0.0.1:${listening.loopbackGrpc ?? 0}`;
  await assert.rejects(client(AgentService, { address }).getAgent({}), (error) => isCode(error, 'unauthenticated'));
  const known = client(AgentService, { address, headers: { authorization: `Bearer ${token}` } });
  assert.equal((await known.getAgent({})).machineName, 'web-1');
});

test('a taken loopback port is done without; the token stays over restarts', async (t) => {
  const { listening, data } = await localAgent(t);
  const token = await readFile(listening.tokenFile, 'utf8');
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  t.after(() => other.close());
  const address = other.address();
  assert.ok(typeof address === 'object' && address);
  const server = new RpcServer({ services: [], authorize: () => undefined, logger: silentLogger });
  t.after(() => server.drain(0));
  await assert.rejects(listenLocally(server, { data, logger: silentLogger }), /already answers/);
  const elsewhere = await localAgent(t);
  await elsewhere.server.drain(0);
  const again = new RpcServer({ services: [], authorize: () => undefined, logger: silentLogger });
  t.after(() => again.drain(0));
  const options = { data: elsewhere.data, loopbackGrpc: address.port, loopbackHttp: 0, logger: silentLogger };
  const { loopbackGrpc, loopbackHttp } = await listenLocally(again, options);
  assert.equal(loopbackGrpc, undefined);
  assert.ok(loopbackHttp);
  assert.equal(await readFile(listening.tokenFile, 'utf8'), token);
});

test('gRPC: the same on the same socket, with a watch', async (t) => {
  const { operator, services } = await localAgent(t);
  const agent = operator();
  const described = await agent.getAgent({});
  assert.equal(described.connected, false);
  assert.equal(described.lastError, 'the center is away');
  assert.equal(described.pid, process.pid);
  assert.equal((await agent.listLocalServices({})).instances.length, 2);
  assert.equal((await agent.restartService({ service: 'web' })).state, 'SERVICE_STATE_RUNNING');
  await assert.rejects(
    agent.startService({ service: '' }),
    (error) => isCode(error, 'invalid') && error.fields[0]?.field === 'service',
  );
  await assert.rejects(agent.getCertificate({}), (error) => isCode(error, 'denied') && error.reason === 'NOT_ALLOWED');
  await assert.rejects(agent.reportHealth({ service: 'web', health: 'HEALTH_UNSPECIFIED', output: '' }), (error) =>
    isCode(error, 'invalid'),
  );
  assert.equal(
    (await agent.reportHealth({ service: 'web', health: 'HEALTH_WARNING', output: 'slow' })).ttl?.seconds,
    30,
  );

  const seen: string[] = [];
  for await (const { snapshot, instances, removed } of agent.watchLocalServices({})) {
    seen.push(snapshot ? `all ${instances.length}` : `${instances[0]?.state ?? ''}${removed.join()}`);
    if (seen.length === 1) services.set('web', { state: 'FATAL' });
    if (seen.length === 2) services.remove('web');
    if (seen.length === 3) break;
  }
  assert.deepEqual(seen, ['all 2', 'SERVICE_STATE_FATAL', 'web']);
  await waitFor('the watch to stop listening', () => services.listeners === 0);
});

test("a service's socket sees and moves that service alone", async (t) => {
  const { sockets, client, services } = await localAgent(t);
  const uid = process.getuid?.() ?? 0;
  const path = await sockets.ensure({ service: 'orders', uid, gid: process.getgid?.() ?? 0 });
  const own = client(AgentService, { address: `unix:${path}` });
  assert.deepEqual(
    (await own.listLocalServices({})).instances.map(({ service }) => service),
    ['orders'],
  );
  assert.equal((await own.getLocalService({ service: '' })).service, 'orders');
  await own.restartService({ service: '' });
  await own.restartService({ service: 'orders' });
  for (const call of [own.getLocalService, own.startService, own.stopService, own.restartService]) {
    await assert.rejects(
      call({ service: 'web' }),
      (error) => isCode(error, 'denied') && error.reason === 'OTHER_SERVICE',
    );
  }
  const tail = async (): Promise<void> => {
    for await (const line of own.tailLocalLog(TailLocalLogRequest.fromPartial({ service: 'web', lines: 1 })))
      assert.fail(line.text);
  };
  await assert.rejects(tail(), (error) => isCode(error, 'denied'));
  await assert.rejects(
    client(ConfigService, { address: `unix:${path}` }).publish({
      scope: undefined,
      text: '',
      etag: '',
      comment: '',
      requestId: '',
    }),
    (error) => isCode(error, 'denied') && error.reason === 'NOT_ALLOWED',
  );
  assert.equal((await http({ socketPath: path, method: 'POST', path: '/services/web/stop' })).status, 403);
  assert.equal((await http({ socketPath: path, method: 'POST', path: '/services/orders/stop' })).status, 200);
  const metrics = await http({ socketPath: path, path: '/metrics' });
  assert.ok(!metrics.body.includes('service="web"'));
  assert.deepEqual(services.calls, ['restart orders', 'restart orders', 'stop orders']);
});

test("a service's socket is made anew for another user or when its file is gone, and goes with the service", async (t) => {
  const { sockets, data } = await localAgent(t);
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  const path = await sockets.ensure({ service: 'orders', uid, gid });
  const first = await stat(path);
  assert.equal(first.mode & 0o777, 0o600);
  await Promise.all([sockets.ensure({ service: 'orders', uid, gid }), sockets.ensure({ service: 'orders', uid, gid })]);
  assert.equal((await stat(path)).ino, first.ino);
  await promisify(execFile)('rm', [path]);
  await sockets.ensure({ service: 'orders', uid, gid });
  assert.equal((await http({ socketPath: path, path: '/healthz' })).body, 'ok\n');
  if (isRoot) {
    await sockets.ensure({ service: 'orders', uid: NOBODY, gid: NOBODY });
    assert.equal((await stat(path)).uid, NOBODY);
  }
  await sockets.remove('orders');
  await sockets.remove('orders');
  assert.equal(existsSync(join(data, 'run', 'services', 'orders.sock')), false);
  assert.equal(sockets.size, 0);
});

/** What another user meets: the status, or the error's name. */
async function asNobody(options: Record<string, unknown>): Promise<string> {
  const script = `
    const { request } = require('node:http');
    request({ ...${JSON.stringify(options)}, host: 'localhost', agent: false }, (r) => { console.log(r.statusCode); r.resume(); })
      .on('error', (e) => console.log(e.code)).end();`;
  const child = spawn(process.execPath, ['-e', script], { uid: NOBODY, gid: NOBODY, cwd: '/' });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await once(child, 'close');
  return said.trim();
}

test("another local user is refused everywhere but on its own service's socket", async (t) => {
  if (!isRoot) {
    t.skip('needs root');
    return;
  }
  const { sockets, listening } = await localAgent(t);
  const own = await sockets.ensure({ service: 'orders', uid: NOBODY, gid: NOBODY });
  const other = await sockets.ensure({ service: 'web', uid: 0, gid: 0 });
  const stop = { method: 'POST', path: '/services/web/stop' };
  assert.equal(await asNobody({ socketPath: listening.socket, ...stop }), 'EACCES');
  assert.equal(await asNobody({ socketPath: other, ...stop }), 'EACCES');
  assert.equal(await asNobody({ port: listening.loopbackHttp, ...stop }), '401');
  assert.equal(await asNobody({ socketPath: own, ...stop }), '403');
  assert.equal(await asNobody({ socketPath: own, path: '/services/orders' }), '200');
});

test('curl with the operator socket needs nothing more', async (t) => {
  const { listening } = await localAgent(t);
  const run = promisify(execFile);
  const url = 'http://localhost/services/orders/start';
  try {
    const { stdout } = await run('curl', ['-s', '--unix-socket', listening.socket, '-X', 'POST', url]);
    assert.match(stdout, /"service":"orders"/);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    t.skip('needs curl');
  }
});

test('a service that a deploy holds is refused over HTTP with who holds it', async (t) => {
  const { listening, services } = await localAgent(t);
  services.before = () => {
    throw new MusterError('conflict', 'orders is held by the deploy of 2.0.0: wait', { reason: 'SERVICE_HELD' });
  };
  for (const verb of ['start', 'stop', 'restart']) {
    const { status, body } = await http({
      socketPath: listening.socket,
      method: 'POST',
      path: `/services/orders/${verb}`,
    });
    assert.equal(status, 409);
    assert.deepEqual(JSON.parse(body), {
      code: 'conflict',
      reason: 'SERVICE_HELD',
      message: 'orders is held by the deploy of 2.0.0: wait',
      fields: [],
    });
  }
});

test('metrics are in the format that Prometheus reads', async (t) => {
  const { listening, services } = await localAgent(t);
  services.set('orders', { state: 'BACKOFF', restarts: 3, deploying: 'VERIFY' });
  const { body, headers } = await http({ socketPath: listening.socket, path: '/metrics' });
  assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/);
  assert.match(body, /^muster_instance_state\{service="orders",state="BACKOFF"\} 1$/m);
  assert.match(body, /^muster_instance_state\{service="orders",state="RUNNING"\} 0$/m);
  assert.match(body, /^muster_instance_restarts\{service="orders"\} 3$/m);
  assert.match(body, /^muster_instance_deploying\{service="orders"\} 1$/m);
  assert.match(body, /^muster_agent_connected 0$/m);
  for (const line of body.trimEnd().split('\n')) {
    assert.match(line, /^(# (HELP|TYPE) \S+ .+|[a-z_]+(\{([a-z_]+="[^"]*",?)+\})? [0-9.e+]+)$/);
  }
});

test('a service gets a certificate of its own name, and the same one until it is two thirds old', async (t) => {
  const authority = await createAuthority();
  const asked: string[] = [];
  const { sockets, client } = await localAgent(t, {
    sign: async (service, request) => {
      asked.push(service);
      const principal = { kind: 'service', machine: 'm-1', service } as const;
      return { certificate: (await authority.issue({ principal, request })).certificatePem, ca: authority.caPem };
    },
  });
  const path = await sockets.ensure({ service: 'orders', uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });
  const own = client(AgentService, { address: `unix:${path}` });
  const [first, second] = [await own.getCertificate({}), await own.getCertificate({})];
  assert.deepEqual(first, second);
  assert.match(first.privateKey, /BEGIN PRIVATE KEY/);
  assert.deepEqual(asked, ['orders']);
});
